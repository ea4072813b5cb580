import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from builders import make_task
from condsim.harness.errors import CondsimError, NotApplicable
from condsim.harness.images import crop_by_rule
from condsim.harness.method import Gallery, Method, Queries
from condsim.harness.one_vector import unit
from condsim.harness.task import ImageTable
from condsim.methods.clay import Clay
from condsim.methods.inner_product import ImageOnly, ImagePlusText, TextOnly
from condsim.methods.neighborhood_rerank import NeighborhoodRerank, standardized
from condsim.methods.shared.assignment import hungarian
from condsim.methods.shared.object_parts import grid_regions, object_phrases
from encoders import Space, cores

SOLVERS = ["hungarian", "mean", "chamfer", "random"]


def one_by_one(
    method: NeighborhoodRerank, gallery: Gallery, queries: Queries, candidates: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """New scores of one query's candidates, written out: sets, matching, z-scores, blend."""
    train = gallery.train()
    bank = unit(gallery.encode_texts(train.phrases) if method.mode == "phrases" else train.images)
    base = method.base.prepare(gallery)(queries, candidates[None])[0]
    k = method.neighbors
    by_reference = (unit(queries.reference[0]) @ bank.T).argsort(descending=True)[: k // 2].tolist()
    by_text = [i for i in (unit(queries.text[0]) @ bank.T).argsort(descending=True).tolist() if i not in by_reference]
    own = bank[by_reference + by_text[: k - k // 2]]
    best = base.argsort(descending=True, stable=True)[: method.shortlist]
    matched = []
    for j in best:
        nearest = (unit(gallery.features[candidates[j]]) @ bank.T).argsort(descending=True)[:k]
        matched.append(hungarian((own @ bank[nearest].T)[None])[0])

    def z(x: Tensor) -> Tensor:
        return (x - x.mean()) / x.std(correction=0)

    blend = (1 - method.weight) * z(base[best].double()) + method.weight * z(torch.stack(matched))
    return base, best, blend


@pytest.mark.parametrize("mode", ["phrases", "images"])
@pytest.mark.parametrize("shortlist", [100, 6])
def test_batched_scores_equal_one_candidate_at_a_time(
    space: Space, mode: str, shortlist: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condsim.methods.neighborhood_rerank._ELEMENTS_AT_ONCE", 2 * shortlist * 25)  # a few at a time
    gallery = space.gallery()
    method = NeighborhoodRerank(mode=mode, shortlist=shortlist, neighbors=5)
    queries = space.queries(gallery, [1, 2, 3, 4, 5], [0, 1, 2, 3, 0])
    rows = torch.stack([torch.randperm(40)[:12] for _ in range(5)])
    scores = method.prepare(gallery)(queries, rows)
    with cores(3):
        assert torch.equal(method.prepare(gallery)(queries, rows), scores)
    for i in range(5):
        one = dataclasses.replace(
            queries, **{f.name: getattr(queries, f.name)[i : i + 1] for f in dataclasses.fields(queries)}
        )
        base, best, blend = one_by_one(method, gallery, one, rows[i])
        new = scores[i, best].double()
        torch.testing.assert_close(new - new.min(), blend - blend.min(), atol=1e-5, rtol=0)
        outside = torch.ones(12, dtype=torch.bool)
        outside[best] = False
        if outside.any():
            assert torch.equal(scores[i, outside], base[outside])
            assert scores[i, best].min() > base[outside].max()


def test_similarities_looked_up_and_computed_are_the_same(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [1, 2], [0, 1])
    looked_up = NeighborhoodRerank().prepare(gallery)(queries)
    monkeypatch.setattr("condsim.methods.neighborhood_rerank._LOOKED_UP", 0)
    torch.testing.assert_close(NeighborhoodRerank().prepare(gallery)(queries), looked_up, atol=1e-5, rtol=0)


@pytest.mark.parametrize("base", [ImagePlusText(), ImageOnly(), TextOnly(), Clay(rank=5)])
def test_without_weight_it_is_the_base_exactly(space: Space, base: Method) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [1, 2], [0, 1])
    assert torch.equal(NeighborhoodRerank(base, weight=0).prepare(gallery)(queries), base.prepare(gallery)(queries))


@pytest.mark.parametrize("solver", SOLVERS)
def test_whole_gallery_shared_rows_and_lists_agree_and_padding_is_left_out(space: Space, solver: str) -> None:
    gallery = space.gallery()
    scorer = NeighborhoodRerank(solver=solver, neighbors=6).prepare(gallery)
    queries = space.queries(gallery, [1, 2], [0, 1])
    whole = scorer(queries)
    everything = torch.arange(40)
    torch.testing.assert_close(scorer(queries, everything), whole)
    padded = torch.cat([everything.expand(2, -1), torch.full((2, 3), -1)], dim=1)
    listed = scorer(queries, padded)
    torch.testing.assert_close(listed[:, :40], whole)
    assert torch.isfinite(listed).all()


def test_a_candidate_listed_twice_ties_with_itself(space: Space) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [1], [0])
    rows = torch.tensor([[3, 9, 3, 12, 20]])
    for solver in SOLVERS:
        scores = NeighborhoodRerank(solver=solver).prepare(gallery)(queries, rows)
        assert scores[0, 0] == scores[0, 2]


def test_the_random_control_is_seeded_and_the_others_do_not_depend_on_the_seed(space: Space) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [1, 2], [0, 1])

    def scores(solver: str, seed: int) -> Tensor:
        return NeighborhoodRerank(solver=solver, seed=seed).prepare(gallery)(queries)

    assert torch.equal(scores("random", 0), scores("random", 0))
    assert not torch.equal(scores("random", 0), scores("random", 1))
    assert torch.equal(scores("hungarian", 0), scores("hungarian", 1))


@pytest.mark.slow
def test_fused_gromov_wasserstein_without_structure_ranks_as_hungarian(space: Space) -> None:
    pytest.importorskip("ot")
    gallery = space.gallery(n=12)
    queries = space.queries(gallery, [1, 2], [0, 1])
    choices: tuple[dict[str, Any], ...] = ({}, {"solver": "fgw", "structure": 0}, {"solver": "fgw", "structure": 0.7})
    hungarian_scores, fgw_scores, with_structure = (
        NeighborhoodRerank(neighbors=4, **settings).prepare(gallery)(queries) for settings in choices
    )
    torch.testing.assert_close(fgw_scores, hungarian_scores, atol=1e-5, rtol=0)
    assert (with_structure - hungarian_scores).abs().max() > 1e-3


def test_a_candidate_with_the_querys_own_neighbourhood_rises(space: Space) -> None:
    """The base cannot tell two candidates apart; one shares the query's phrases."""
    gallery = space.gallery()
    phrases = space.encode_texts(gallery.train().phrases)
    features = gallery.features.clone()
    features[7] = features[0]  # the query's twin
    gallery = dataclasses.replace(gallery, features=features)
    constant = type("Constant", (ImageOnly,), {"embed": lambda self, queries: torch.zeros_like(queries.reference)})()
    queries = space.queries(gallery, [0], [0])
    scores = NeighborhoodRerank(constant, around="reference").prepare(gallery)(queries, torch.tensor([[5, 7, 9, 11]]))
    assert scores.argmax().item() == 1
    assert len(phrases) == 50


def test_parts_match_the_listed_categories(space: Space, tmp_path: Path) -> None:
    names = [f"vg/{i}.jpg" for i in range(6)]
    file = tmp_path / "seen.csv"
    rows = {"0": ["cat", "sofa"], "1": ["sofa", "cat"], "2": ["car"], "3": ["car", "tree", "road"], "4": ["cat"]}
    file.write_text("image,category\n" + "".join(f"{i}.jpg,{c}\n" for i, several in rows.items() for c in several))
    gallery = space.gallery(n=6, names=names)
    method = NeighborhoodRerank(ImageOnly(), mode="parts", parts=str(file), around="reference", weight=1.0)
    scores = method.prepare(gallery)(space.queries(gallery, [0, 0], [0, 1]), torch.tensor([1, 2, 3, 4, 5]))
    assert scores[0, 0] == scores[0].max()
    assert scores[0, 0] > scores[0, 3] > scores[0, 4]  # both parts, one of two, none
    torch.testing.assert_close(scores[0], scores[1])
    both = NeighborhoodRerank(ImageOnly(), mode="parts", parts=str(file), weight=1.0).prepare(gallery)
    assert torch.isfinite(both(space.queries(gallery, [0, 5], [0, 3]))).all()


def test_standardized_scores_have_mean_zero_and_spread_one_over_the_members() -> None:
    values = torch.tensor([[1.0, 2.0, 6.0, 99.0], [5.0, 5.0, 5.0, 5.0]])
    members = torch.tensor([[True] * 3 + [False]] * 2)
    found = standardized(values, members)
    assert found[0, :3].mean().abs() < 1e-12
    assert found[0, :3].square().mean().item() == pytest.approx(1)
    assert (found[1] == 0).all()
    assert found[0, 3] == 0


def test_it_needs_what_its_base_and_its_neighbourhoods_need() -> None:
    no_condition, no_reference = make_task(), make_task(("color",), reference=-1)
    NeighborhoodRerank(ImageOnly(), around="reference").check(no_condition)
    NeighborhoodRerank(TextOnly(), around="text").check(no_reference)
    for base, task in ((ImageOnly(), no_condition), (TextOnly(), no_reference)):
        with pytest.raises(NotApplicable):
            NeighborhoodRerank(base).check(task)
    with pytest.raises(NotApplicable, match="values"):
        NeighborhoodRerank(Clay()).check(make_task(("with a dog",)))
    assert not NeighborhoodRerank().pointwise


def test_without_a_vocabulary_it_says_so(space: Space) -> None:
    gallery = space.gallery()
    bare = dataclasses.replace(gallery.train(), phrases=())
    with pytest.raises(NotApplicable, match="mode=images"):
        NeighborhoodRerank().prepare(dataclasses.replace(gallery, train=lambda: bare))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mode": "phrase"}, "'phrases'"),
        ({"solver": "hungary"}, "'hungarian'"),
        ({"around": "images"}, "around"),
        ({"weight": 1.5}, "weight"),
        ({"structure": -1}, "structure"),
        ({"neighbors": 0}, "neighbors"),
        ({"shortlist": 0}, "shortlist"),
        ({"parts": "file.csv"}, "parts=FILE"),
        ({"split": "word"}, "'words'"),
        ({"grid": 0}, "grid"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(CondsimError, match=message):
        NeighborhoodRerank(**wrong)


COLORS = {"red": (1.0, 0.1, 0.0), "green": (0.0, 1.0, 0.1), "blue": (0.1, 0.0, 1.0), "gray": (0.5, 0.5, 0.5)}


@pytest.fixture
def colored(space: Space, tmp_path: Path) -> Gallery:
    """Pictures of four coloured quarters. A feature is the mean colour of a picture, a region, or a text's words."""
    quarters = [("red", "green", "gray", "gray"), ("gray", "blue", "red", "gray"), ("green", "gray", "gray", "blue"),
                ("red", "gray", "green", "blue")]  # fmt: skip
    for i, own in enumerate(quarters):
        pixels = 255 * np.array([COLORS[name] for name in own]).reshape(2, 2, 3)
        Image.fromarray(pixels.repeat(4, axis=0).repeat(6, axis=1).round().astype(np.uint8)).save(tmp_path / f"{i}.png")
    table = ImageTable(tmp_path, tuple(f"{i}.png" for i in range(4)))

    def encode_images(regions: ImageTable) -> Tensor:
        crops = []
        for row in range(len(regions)):
            with Image.open(regions.path(row)) as image:
                box = regions.box(row)
                crop = image if box is None else crop_by_rule(image, box, regions)
                crops.append(np.asarray(crop).mean(axis=(0, 1)) / 255)
        return torch.tensor(np.stack(crops), dtype=torch.float32)

    def encode_texts(texts: Sequence[str]) -> Tensor:
        rows = [[COLORS[word] for word in text.split() if word in COLORS] for text in texts]
        return torch.tensor(np.array([np.mean(row, axis=0) for row in rows]), dtype=torch.float32)

    conditions = (("red and green",), ("blue",), ("a red, a green and a blue",))
    return dataclasses.replace(
        space.gallery(n=4), features=encode_images(table), table=table, conditions=conditions,
        condition_features=encode_texts([text for (text,) in conditions]), encode_texts=encode_texts,
        encode_images=encode_images,
    )  # fmt: skip


def on_text(mode: str, **settings: Any) -> NeighborhoodRerank:
    """As conf/method/rerank_regions.yaml and rerank_oracle.yaml have it, by the matching alone."""
    return NeighborhoodRerank(TextOnly(), mode=mode, around="text", weight=1.0, **settings)


def quarter_features(gallery: Gallery, image: int) -> Tensor:
    boxes = gallery.encode_images(grid_regions(gallery.table, 2))
    return unit(boxes)[4 * image : 4 * image + 4]


def test_phrases_are_matched_with_regions_one_to_one(space: Space, colored: Gallery) -> None:
    """By trying every assignment of phrases to quarters."""
    scores = on_text("regions").prepare(colored)(space.queries(colored, [0, 0, 0], [0, 1, 2]))
    for query, (text,) in enumerate(colored.conditions):
        phrases = unit(colored.encode_texts(object_phrases(text)))
        expected = []
        for image in range(4):
            similarity = phrases @ quarter_features(colored, image).T
            expected.append(max(
                float(np.mean([similarity[i, j] for i, j in enumerate(places)]))
                for places in itertools.permutations(range(4), len(phrases))
            ))  # fmt: skip
        z = standardized(torch.tensor([expected]), torch.ones(1, 4, dtype=torch.bool))[0]
        torch.testing.assert_close(scores[query].double() - scores[query].min(), z - z.min(), atol=1e-5, rtol=0)
    assert scores.argmax(dim=1).tolist()[2] == 3  # the picture with all three colours
    assert scores[0, 0] > scores[0, 1]


def test_the_controls_of_regions_have_no_matching(space: Space, colored: Gallery) -> None:
    def scores(**settings: Any) -> Tensor:
        return on_text("regions", **settings).prepare(colored)(space.queries(colored, [0], [2]))[0].double()

    phrases = unit(colored.encode_texts(["red", "green", "blue"]))
    mean = torch.stack([(phrases @ quarter_features(colored, image).T).mean() for image in range(4)])
    z = standardized(mean[None], torch.ones(1, 4, dtype=torch.bool))[0]
    torch.testing.assert_close(scores(solver="mean") - scores(solver="mean").min(), z - z.min(), atol=1e-4, rtol=0)
    whole = TextOnly().prepare(colored)(space.queries(colored, [0], [2]))[0]
    assert torch.equal(scores(grid=1, split="none").argsort(), whole.argsort())


def test_texts_of_different_numbers_of_phrases_do_not_disturb_each_other(space: Space, colored: Gallery) -> None:
    scorer = NeighborhoodRerank(TextOnly(), mode="regions", weight=1.0).prepare(colored)
    together = scorer(space.queries(colored, [0, 1, 2], [0, 1, 2]))
    for i in range(3):
        torch.testing.assert_close(scorer(space.queries(colored, [i], [i]))[0], together[i])


def test_true_parts_beside_the_images_are_an_oracle(space: Space, colored: Gallery) -> None:
    shown = {0: ["red", "green"], 1: ["blue", "red"], 2: ["green", "blue"], 3: ["red", "green", "blue"]}
    rows = "".join(f"{i}.png,{color}\n" for i, colors in shown.items() for color in colors)
    (colored.table.root / "parts.csv").write_text("image,category\n" + rows)
    scores = on_text("parts", parts="images://parts.csv").prepare(colored)(space.queries(colored, [0, 0], [0, 2]))
    assert scores[0].topk(2).indices.sort().values.tolist() == [0, 3]  # both have red and green
    torch.testing.assert_close(scores[0, 0], scores[0, 3])
    assert scores[1].argmax().item() == 3


def test_regions_need_whole_pictures_and_an_encoder(colored: Gallery) -> None:
    method = on_text("regions")
    with pytest.raises(NotApplicable, match="encodes regions"):
        method.prepare(dataclasses.replace(colored, encode_images=None))
    task = make_task(("a red, a blue",), reference=-1)
    method.check(task)
    boxes = np.full((len(task.images), 4), np.nan)
    boxes[0] = (0, 0, 5, 5)
    crops = dataclasses.replace(task, images=dataclasses.replace(task.images, boxes=boxes))
    with pytest.raises(NotApplicable, match="crops"):
        method.check(crops)
    with pytest.raises(NotApplicable, match=r"method\.parts=FILE"):
        on_text("parts").check(task)


def test_why_names_the_best_pairs_of_the_optimal_matching(space: Any) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [3, 17], [0, 1])
    scorer: Any = NeighborhoodRerank(neighbors=4, shortlist=2).prepare(gallery)
    rows = scorer(queries).topk(3, dim=1).indices
    phrases = gallery.train().phrases
    bank = unit(gallery.encode_texts(phrases))
    for i, reasons in enumerate(scorer.why(queries, rows)):
        assert reasons[2] == ""  # below the shortlist, so not re-ranked
        one = dataclasses.replace(
            queries, **{f.name: getattr(queries, f.name)[i : i + 1] for f in dataclasses.fields(queries)}
        )
        own = scorer.sets.of(one, "both", 4)[0].tolist()
        for row, reason in zip(rows[i, :2].tolist(), reasons[:2], strict=True):
            others = (unit(gallery.features[row]) @ bank.T).topk(4).indices.tolist()
            matchings = [list(zip(own, order, strict=True)) for order in itertools.permutations(others)]
            best = max(matchings, key=lambda pairs: sum(float(bank[a] @ bank[b]) for a, b in pairs))
            first = sorted(best, key=lambda pair: -float(bank[pair[0]] @ bank[pair[1]]))[:3]
            assert sorted(reason.split(", ")) == sorted(
                f"{phrases[a]} ~ {phrases[b]} {float(bank[a] @ bank[b]):.2f}" for a, b in first
            )
    chamfer: Any = NeighborhoodRerank(solver="chamfer").prepare(gallery)
    assert chamfer.why(queries, rows) == [[""] * 3] * 2
