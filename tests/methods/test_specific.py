import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from builders import make_task
from condsim.harness.categories import categories_of, read_categories, spelling
from condsim.harness.errors import CondsimError, NotApplicable
from condsim.harness.method import Gallery
from condsim.harness.one_vector import unit
from condsim.methods.phrases.lexicon import Lexicon
from condsim.methods.specific import (
    SpecificChangeAttribute,
    SpecificFocusAttribute,
    SpecificObject,
    class_features,
)
from encoders import Space


@pytest.fixture
def lexicon(tmp_path: Path) -> Lexicon:
    file = tmp_path / "my.yaml"
    file.write_text("color: [red, green, blue]\nshape: [square, star]\ncategory: [dog, car, tree]\n")
    return Lexicon(file=str(file))


def seeing(space: Space, gallery: Gallery, *texts: str) -> Gallery:
    """The gallery with its first pictures looking like these texts."""
    features = gallery.features.clone()
    features[: len(texts)] = space.encode_texts(texts) + 0.01 * torch.randn(len(texts), space.width)
    return dataclasses.replace(gallery, features=features)


def test_focus_attribute_searches_by_the_value_seen_in_the_reference(space: Space, lexicon: Lexicon) -> None:
    gallery = seeing(space, space.gallery(conditions=(("color",), ("shape",))), "green", "star", "blue")
    scorer = SpecificFocusAttribute(templates="plain", phrases=lexicon).prepare(gallery)
    scores = scorer(space.queries(gallery, [0, 1, 2], [0, 1, 0]))
    expected = unit(space.encode_texts(["green", "star", "blue"])) @ unit(gallery.features).T
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)


def test_change_attribute_searches_by_the_new_value_and_the_category_seen(space: Space, lexicon: Lexicon) -> None:
    gallery = seeing(space, space.gallery(conditions=(("olive green",), ("wooden",))), "car", "tree")
    scorer = SpecificChangeAttribute(templates="plain", phrases=lexicon).prepare(gallery)
    scores = scorer(space.queries(gallery, [0, 1, 0], [0, 0, 1]))
    searched = unit(space.encode_texts(["olive green car", "olive green tree", "wooden car"]))
    expected = searched @ unit(gallery.features).T
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_classes_are_the_mean_of_the_80_published_prompts(space: Space) -> None:
    prompts: list[str] = []

    def encode(texts: Sequence[str]) -> Tensor:
        prompts.extend(texts)
        return space.encode_texts(texts)

    gallery = dataclasses.replace(space.gallery(), encode_texts=encode)
    features = class_features(["dog", "car"], gallery, "imagenet")
    assert len(prompts) == len(set(prompts)) == 160
    assert "a photo of a dog." in prompts
    assert all("dog" in prompt for prompt in prompts[:80])
    torch.testing.assert_close(features[1], unit(unit(space.encode_texts(prompts[80:])).mean(dim=0)))


def test_each_is_made_for_its_own_task(lexicon: Lexicon) -> None:
    names = ("focus_attribute", "change_attribute", "cirr")
    focus, change, other = (make_task(("color",), name=name) for name in names)
    SpecificFocusAttribute(phrases=lexicon).check(focus)
    SpecificChangeAttribute(phrases=lexicon).check(change)
    for method, task in (
        (SpecificFocusAttribute(phrases=lexicon), change),
        (SpecificChangeAttribute(phrases=lexicon), focus),
        (SpecificChangeAttribute(phrases=lexicon), other),
        (SpecificObject(), focus),
    ):
        with pytest.raises(NotApplicable, match="made for"):
            method.check(task)
    SpecificChangeAttribute(tasks=["cirr"], phrases=lexicon).check(other)
    with pytest.raises(CondsimError, match="no values"):
        SpecificChangeAttribute(categories="breed of sheep", phrases=lexicon).check(change)


@pytest.fixture
def seen(tmp_path: Path) -> str:
    rows = [("0.jpg", "dog", 0.9), ("0.jpg", "sofa", 0.8), ("1.jpg", "dog", 0.7), ("1.jpg", "sofa", 0.3)]
    rows += [("2.jpg", "dog", 0.5), ("3.jpg", "sofa", 0.9), ("3.jpg", "wall-brick", 0.9), ("1.jpg", "dog", 0.2)]
    file = tmp_path / "seen.csv"
    pd.DataFrame(rows, columns=["image", "category", "score"]).to_csv(file, index=False)
    return str(file)


def test_objects_are_filtered_by_the_condition_and_ranked_by_shared_categories(space: Space, seen: str) -> None:
    names = [f"val2017/{i}.jpg" for i in range(5)]
    gallery = space.gallery(n=5, conditions=(("dog",), ("brick wall",), ("dog", "sofa"), ("unicorn",)), names=names)
    scorer = SpecificObject(seen).prepare(gallery)
    queries = space.queries(gallery, [0, 0, 0, 0, 4], [0, 1, 2, 3, 0])
    scores = scorer(queries)
    one, half = 1.0, 2**-0.5
    expected = torch.tensor(
        [[one, one, half, -1, -1], [-1, -1, -1, 0.5, -1], [one, one, -1, -1, -1], [-1.0] * 5, [0, 0, 0, -1, -1]]
    )
    torch.testing.assert_close(scores, expected)
    torch.testing.assert_close(scorer(queries, torch.tensor([4, 2])), expected[:, [4, 2]])
    lists = torch.tensor([[0, 1], [3, 3], [2, -1], [1, 0], [1, 2]])
    torch.testing.assert_close(scorer(queries, lists)[:, 0], expected.gather(1, lists.clamp(min=0))[:, 0])


def test_detections_below_the_least_score_are_left_out(space: Space, seen: str) -> None:
    gallery = space.gallery(n=5, conditions=(("sofa",),), names=[f"{i}.jpg" for i in range(5)])
    queries = space.queries(gallery, [0], [0])
    assert (SpecificObject(seen).prepare(gallery)(queries) >= 0).tolist() == [[True, True, False, True, False]]
    sure = SpecificObject(seen, min_score=0.5).prepare(gallery)(queries)
    assert (sure >= 0).tolist() == [[True, False, False, True, False]]


def test_without_a_table_it_does_not_apply() -> None:
    with pytest.raises(NotApplicable, match=r"method.categories=FILE"):
        SpecificObject().check(make_task(("dog",), name="focus_object"))


def test_a_table_beside_the_images(space: Space, seen: str) -> None:
    """images://FILE: one setting for every machine, and the same scores as the file under its own path."""
    names = [f"{i}.jpg" for i in range(5)]
    gallery = space.gallery(n=5, conditions=(("sofa",),), names=names)
    gallery = dataclasses.replace(gallery, table=dataclasses.replace(gallery.table, root=Path(seen).parent))
    queries = space.queries(gallery, [0], [0])
    beside = SpecificObject("images://seen.csv").prepare(gallery)(queries)
    assert beside.tolist() == SpecificObject(seen).prepare(gallery)(queries).tolist()


def test_a_table_of_other_pictures_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "seen.csv"
    file.write_text("image,category\nelsewhere.jpg,dog\n")
    with pytest.raises(CondsimError, match=r"none of the task's 5 images.*elsewhere.jpg"):
        SpecificObject(str(file)).check(make_task(("dog",), name="focus_object"))


def test_names_match_in_full_or_without_folder_and_ending() -> None:
    seen = {"a/1.jpg": frozenset({"dog"}), "000000000002.png": frozenset({"cat"}), "1.jpg": frozenset({"car"})}
    found = categories_of(["a/1.jpg", "val2017/000000000002.jpg", "b/3.jpg"], seen, "file")
    assert found == (frozenset({"dog"}), frozenset({"cat"}), frozenset())


def test_panoptic_annotations_count_categories_of_more_than_one_percent(tmp_path: Path) -> None:
    file = tmp_path / "panoptic.json"
    segments = [{"category_id": 1, "area": 60}, {"category_id": 1, "area": 50}, {"category_id": 2, "area": 100}]
    segments.append({"category_id": 3, "area": 5000})
    names = ("person", "cat", "food-other-merged")
    categories = [{"id": i, "name": name} for i, name in enumerate(names, start=1)]
    annotation = {"image_id": 7, "file_name": "000000000007.png", "segments_info": segments}
    image = {"id": 7, "width": 100, "height": 100}
    file.write_text(json.dumps({"categories": categories, "images": [image], "annotations": [annotation]}))
    assert read_categories(str(file)) == {"000000000007.png": {"person", "food"}}


def test_the_categories_of_panoptic_annotations_are_those_of_the_conditions() -> None:
    pairs = {
        "wall-brick": "brick wall",
        "floor-wood": "wood floor",
        "window-blind": "window blind",
        "door-stuff": "door",
        "building-other-merged": "building",
        "dining table": "dining table",
    }
    for panoptic, condition in pairs.items():
        assert spelling(panoptic) == spelling(condition)
    assert spelling("wall-brick") != spelling("wall-other-merged")


def test_tables_may_be_parquet_and_wrong_ones_are_named(tmp_path: Path) -> None:
    table = pd.DataFrame({"image": ["1.jpg"], "category": ["Dog"]})
    table.to_parquet(tmp_path / "seen.parquet")
    assert read_categories(str(tmp_path / "seen.parquet")) == {"1.jpg": {"dog"}}
    (tmp_path / "nothing.csv").write_text("image,category\n1.jpg,\n2.jpg,7\n")
    assert read_categories(str(tmp_path / "nothing.csv")) == {"1.jpg": frozenset(), "2.jpg": {"7"}}
    wrong = {"a.csv": "image,label\n1,dog\n", "b.json": "{}", "c.parquet": "nonsense"}
    for name, text in wrong.items():
        Path(tmp_path / name).write_text(text)
        with pytest.raises(CondsimError, match=name):
            read_categories(str(tmp_path / name))
    with pytest.raises(CondsimError, match="no such file"):
        read_categories("none.csv")
    (tmp_path / "d.csv").write_text("image,category\n1,dog\n")
    with pytest.raises(CondsimError, match="there is no column 'score'"):
        read_categories(str(tmp_path / "d.csv"), 0.5)


def test_wrong_templates_are_named() -> None:
    with pytest.raises(CondsimError, match="'imagenet'"):
        SpecificFocusAttribute(templates="image net")
