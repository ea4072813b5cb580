"""FashionIQ's loader on small files: galleries, forms of the text, images that nobody has any more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from condsim.datasets import fashioniq
from condsim.harness.errors import CondsimError
from condsim.harness.task import Benchmark, Task

NAMES = {category: [f"{category[0].upper()}{i:03d}" for i in range(12)] for category in fashioniq.CATEGORIES}


class Files:
    def __init__(self, root: Path) -> None:
        self.root = root
        for category, names in NAMES.items():
            self.write(f"image_splits/split.{category}.val.json", names)
            self.write(f"captions/cap.{category}.val.json", self.queries(names))
            for number, name in enumerate(names):
                path = root / "pictures" / ("images", category, "")[number % 3] / f"{name}.{('png', 'jpg')[number % 2]}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (6, 8)).save(path)

    @staticmethod
    def queries(names: list[str]) -> list[dict[str, Any]]:
        captions = [["Is Red.", " has Sleeves?"], ["", "is blue"], ["is longer", "has dots,"]]
        ends = [(0, 1), (2, 3), (0, 4)]
        return [
            {"candidate": names[a], "target": names[b], "captions": c} for (a, b), c in zip(ends, captions, strict=True)
        ]

    def write(self, place: str, value: Any) -> None:
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))

    def benchmark(self, **options: Any) -> Benchmark:
        return fashioniq.load(str(self.root), str(self.root / "pictures"), **options)

    def dress(self, **options: Any) -> Task:
        return self.benchmark(tasks=["dress"], **options).tasks[0]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_three_categories_and_their_means(files: Files) -> None:
    benchmark = files.benchmark()
    assert [task.name for task in benchmark.tasks] == ["dress", "shirt", "toptee"]
    ten = tuple((category, "recall@10") for category in fashioniq.CATEGORIES)
    fifty = tuple((category, "recall@50") for category in fashioniq.CATEGORIES)
    assert benchmark.headlines == {"average@10": ten, "average@50": fifty, "average": ten + fifty}
    assert files.benchmark(tasks=["shirt"]).headlines == {}
    with pytest.raises(CondsimError, match="Did you mean 'toptee'"):
        files.benchmark(tasks=["top_tee"])


def test_images_are_found_with_any_suffix_and_in_any_of_the_folders(files: Files) -> None:
    task = files.dress()
    assert task.images.names == tuple(f"{name}.png" for name in NAMES["dress"])
    assert all(task.images.path(row).is_file() for row in range(12))
    assert task.excluded is None, "the reference stays in the gallery"
    unseen = fashioniq.load(str(files.root), None, tasks=["dress"]).tasks[0]
    assert unseen.fingerprint == task.fingerprint, "where the images are is no part of the question"


def test_both_galleries(files: Files) -> None:
    original, val = files.dress(), files.dress(gallery="val")
    assert len(original.gallery_rows) == 12
    assert val.images.names == tuple(f"{NAMES['dress'][i]}.png" for i in (0, 1, 2, 3, 4))
    assert (original.variant, val.variant) == ("", "gallery=val")
    assert original.fingerprint != val.fingerprint
    with pytest.raises(CondsimError, match="Did you mean 'original'"):
        files.dress(gallery="orignal")


@pytest.mark.parametrize(
    ("form", "first", "blank"),
    [
        ("searle", ("Is Red and has Sleeves", "has Sleeves and Is Red"), (" and is blue", "is blue and ")),
        ("pic2word", (" has Sleeves? and Is Red.",), ("is blue and ",)),
        ("clip4cir", ("Is red and has Sleeves",), (" and is blue",)),
        ("cirevl", ("Is Red and has Sleeves",), (" and is blue",)),
        ("magiclens", ("Is Red. and  has Sleeves?",), (" and is blue",)),
        ("e5v", ("Is Red, has Sleeves", "has Sleeves, Is Red"), (", is blue", "is blue, ")),
        ("maaf", ("Is Red. inadditiontothat  has Sleeves?",), (" inadditiontothat is blue",)),
    ],
)
def test_the_published_forms_of_the_text(
    files: Files, form: str, first: tuple[str, ...], blank: tuple[str, ...]
) -> None:
    task = files.dress(text=form)
    for query, expected in ((0, first), (1, blank)):
        code = task.condition[query]
        assert task.conditions[code] == expected[:1]
        assert (task.texts[code] if task.texts else task.conditions[code]) == expected
    assert (task.texts is None) == (len(first) == 1)
    assert task.variant == ("" if form == "searle" else f"text={form}")
    assert (task.fingerprint == files.dress().fingerprint) == (form == "searle")


def test_in_val_each_caption_is_a_query(files: Files) -> None:
    task = files.dress(text="val")
    assert task.query_ids == ("0.0", "0.1", "1.0", "1.1", "2.0", "2.1")
    assert [task.conditions[code][0] for code in task.condition[:3]] == ["Is Red.", " has Sleeves?", ""]
    assert task.reference.tolist() == [0, 0, 2, 2, 0, 0]


def test_blank_captions_are_kept_and_noted(files: Files) -> None:
    benchmark = files.benchmark(tasks=["dress"])
    assert len(benchmark.tasks[0]) == 3
    (note,) = benchmark.notes
    assert "cap.dress.val.json: entry 1: caption 0 is blank; the query is kept" in note


def test_dead_links_are_refused_or_left_out_by_name(files: Files) -> None:
    (files.root / "pictures" / "dress" / f"{NAMES['dress'][4]}.png").unlink()
    (files.root / "pictures" / "images" / f"{NAMES['dress'][6]}.png").unlink()
    with pytest.raises(CondsimError, match=r"2 of its 12 images .* D004\.png.*benchmark\.available"):
        files.dress()
    task = files.dress(on_error="skip")
    assert (len(task), len(task.gallery_rows)) == (2, 10)
    assert any("D006.png: there is no such file" in message for message in task.skipped)
    assert any("query 2: its relevant image D004.png" in message for message in task.skipped)


def test_a_list_of_available_images_makes_runs_comparable(files: Files) -> None:
    have = [*NAMES["dress"][:4], "D006.jpg", "UNKNOWN"]
    (files.root / "common.txt").write_text("\n".join(have))
    files.write("common.json", have)
    tasks = [files.dress(available=str(files.root / f"common.{suffix}")) for suffix in ("txt", "json")]
    for task in tasks:
        assert task.images.names == ("D000.png", "D001.png", "D002.png", "D003.png", "D006.png")
        assert task.query_ids == ("0", "1")
    assert tasks[0].fingerprint == tasks[1].fingerprint != files.dress().fingerprint
    assert tasks[0].variant == "available=common.txt"
    assert "7 of 12 images and 1 of 3 queries are left out" in tasks[0].skipped[0]
    (files.root / "none.txt").write_text("D006\n")
    with pytest.raises(CondsimError, match="no query has both of its images"):
        files.dress(available=str(files.root / "none.txt"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"captions": ["one"]}, "captions: List should have at least 2 items"),
        ({"captions": ["one", 2]}, r"captions\[1\]: Input should be a valid string"),
        ({"target": "X999"}, "target: X999 is not in .*split.dress.val.json"),
        ({"candidate": "../x"}, "candidate: String should match pattern"),
    ],
)
def test_a_faulty_query_is_named_or_left_out(files: Files, changes: dict[str, Any], message: str) -> None:
    queries = files.queries(NAMES["dress"])
    queries[1] |= changes
    files.write("captions/cap.dress.val.json", queries)
    with pytest.raises(CondsimError, match=f"entry 1: {message}"):
        files.dress()
    assert files.dress(on_error="skip").query_ids == ("0", "2")


@pytest.mark.parametrize(
    "value", [[], {}, ["D000", 7], ["D000", "D000"], ["../D000"]], ids=["empty", "object", "number", "twice", "path"]
)
def test_a_faulty_split_file_is_refused(files: Files, value: Any) -> None:
    files.write("image_splits/split.dress.val.json", value)
    with pytest.raises(CondsimError, match=r"split\.dress\.val\.json"):
        files.dress()


def test_the_training_split_is_what_is_there_of_it(files: Files) -> None:
    assert files.benchmark().train is None
    files.write("image_splits/split.shirt.train.json", [NAMES["shirt"][0], "GONE"])
    files.write("captions/cap.shirt.train.json", files.queries(NAMES["shirt"])[1:2])
    train = files.benchmark().train
    assert train is not None
    assert (train.images.names, train.phrases) == ((f"{NAMES['shirt'][0]}.png",), ("is blue",))
