import dataclasses
import math
from typing import Any

import pytest
import torch

from builders import make_task
from condsim.harness.errors import CondsimError, NotApplicable
from condsim.harness.method import Method
from condsim.harness.one_vector import unit
from condsim.methods.clay import Clay
from condsim.methods.inner_product import ImageOnly, ImagePlusText, TextOnly
from condsim.methods.local_steering import LocalSteering, local_directions, steered
from encoders import Space


@pytest.mark.parametrize("base", [ImagePlusText(), ImageOnly(), Clay(rank=4)])
def test_at_angle_zero_it_is_the_base_exactly(space: Space, base: Method) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [1, 2], [0, 3])
    expected = base.prepare(gallery)(queries)
    assert torch.equal(LocalSteering(base, theta=0).prepare(gallery)(queries), expected)
    direction = unit(torch.randn(2, space.width))
    assert torch.equal(steered(queries.reference, direction, 0.0), queries.reference)


def test_the_query_turns_by_the_angle_and_keeps_its_length(space: Space) -> None:
    features = space.encode_images(5)
    other = torch.randn(5, space.width)
    direction = unit(other - (other * unit(features)).sum(dim=1, keepdim=True) * unit(features))
    turned = steered(features, direction, 0.4)
    torch.testing.assert_close(turned.norm(dim=1), features.norm(dim=1))
    torch.testing.assert_close(torch.cosine_similarity(turned, features), torch.full((5,), math.cos(0.4)))
    torch.testing.assert_close((unit(turned) * direction).sum(dim=1), torch.full((5,), math.sin(0.4)))
    assert torch.equal(steered(features, torch.zeros_like(features), 0.4), features)


def test_the_direction_goes_from_the_low_to_the_high_end_of_the_neighbourhood() -> None:
    """Neighbours that differ along one axis only: that axis is found, whatever lies far away."""
    query = torch.tensor([[1.0, 0, 0]])
    near = unit(torch.tensor([[1.0, t, 0.0] for t in (-0.2, -0.1, 0.1, 0.2)]))
    far = unit(torch.tensor([[-1.0, 0.0, t] for t in (-5.0, 5.0)]))
    contrast = torch.tensor([[0.0, 1.0, 1.0]])
    found = local_directions(query, contrast, torch.cat([far, near]), neighbors=4, ends=2)
    torch.testing.assert_close(found, torch.tensor([[0.0, 1.0, 0.0]]))
    globally = local_directions(query, contrast, torch.cat([far, near]), neighbors=None, ends=1)
    assert globally[0, 2] > 0.9


def test_the_whole_pool_gives_the_global_direction(space: Space) -> None:
    pool, query = unit(space.encode_images(30, seed=5)), unit(space.encode_images(3))
    contrast = torch.randn(1, space.width)
    order = (pool @ contrast[0]).argsort()
    difference = pool[order[-4:]].mean(dim=0) - pool[order[:4]].mean(dim=0)
    for neighbors in (None, 30, 1000):
        found = local_directions(query, contrast.expand(3, -1), pool, neighbors, ends=4)
        expected = unit(difference - (query @ difference)[:, None] * query)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert (local_directions(query, contrast.expand(3, -1), pool, 8, ends=4) - expected).abs().max() > 0.05


def test_only_the_query_moves_and_towards_the_condition(space: Space) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [1, 2, 3], [0, 1, 0])
    scorer: Any = LocalSteering(ImageOnly(), theta=0.5, neighbors=20, ends=5).prepare(gallery)
    moved = scorer.change(queries).reference
    torch.testing.assert_close(
        scorer(queries), torch.cosine_similarity(moved[:, None], gallery.features[None], dim=-1), atol=1e-6, rtol=0
    )
    neutral = unit(space.encode_texts(["a photo"]))
    for i, text in enumerate(["color", "shape", "color"]):
        contrast = (unit(space.encode_texts([text])) - neutral)[0]
        pool = unit(gallery.train().images)
        direction = local_directions(unit(queries.reference[i : i + 1]), contrast[None], pool, 20, 5)
        torch.testing.assert_close(moved[i : i + 1], steered(queries.reference[i : i + 1], direction, 0.5))


def test_several_conditions_are_steered_one_after_another(space: Space) -> None:
    gallery = space.gallery()
    scorer: Any = LocalSteering(ImageOnly()).prepare(gallery)
    both = scorer.change(space.queries(gallery, [1], [3])).reference
    first = scorer.change(space.queries(gallery, [1], [0])).reference
    second = dataclasses.replace(space.queries(gallery, [1], [1]), reference=first)
    torch.testing.assert_close(both, scorer.change(second).reference)


def test_a_pool_from_the_gallery_is_another_pool(space: Space) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [1], [0])
    train, transductive = (LocalSteering(pool=pool).prepare(gallery)(queries) for pool in ("train", "gallery"))
    assert (train - transductive).abs().max() > 1e-3


def test_batches_and_lists_score_as_single_queries(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("condsim.methods.local_steering._ELEMENTS_AT_ONCE", 1)  # one query at a time within a batch
    gallery = space.gallery()
    scorer = LocalSteering(theta=0.6).prepare(gallery)
    references, conditions = [1, 2, 3, 4], [2, 0, 3, 0]
    whole = scorer(space.queries(gallery, references, conditions))
    for i in range(4):
        torch.testing.assert_close(
            scorer(space.queries(gallery, references[i : i + 1], conditions[i : i + 1])), whole[i : i + 1],
            atol=1e-5, rtol=1e-5,
        )  # fmt: skip
    queries = space.queries(gallery, references, conditions)
    torch.testing.assert_close(scorer(queries, torch.tensor([5, 6])), whole[:, [5, 6]])
    torch.testing.assert_close(scorer(queries, torch.tensor([[0, 1]] * 4)), whole[:, :2])


def test_what_cannot_be_steered_is_refused() -> None:
    with pytest.raises(CondsimError, match="TextOnly"):
        LocalSteering(TextOnly())
    with pytest.raises(NotApplicable, match="values"):
        LocalSteering(Clay()).check(make_task(("with a dog",)))
    with pytest.raises(NotApplicable):
        LocalSteering().check(make_task())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pool": "test"}, "pool"),
        ({"theta": 90}, "radians"),
        ({"neighbors": 5, "ends": 3}, "twice"),
        ({"ends": 0}, "ends"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(CondsimError, match=message):
        LocalSteering(**wrong)
