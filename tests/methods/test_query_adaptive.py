import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from builders import make_task
from condsim.harness.errors import CondsimError
from condsim.harness.files.state_dict import write_state_dict
from condsim.harness.method import Queries, TwoSided
from condsim.harness.one_vector import unit
from condsim.methods.query_adaptive import QueryAdaptive, compose
from condsim.methods.shared.hypernetwork import HyperNetwork
from condsim.methods.shared.hypernetwork_sizes import Architecture
from condsim.methods.shared.low_rank import Factors, Transforms
from condsim.methods.shared.semi_positives import nearest_images, with_semi_positives
from condsim.methods.training.losses import symmetric_soft_loss
from condsim.methods.training.method import Batch, TrainingData
from encoders import Space

WIDTH = 24
SMALL: dict[str, Any] = {"rank": 3, "steps": 2, "hidden": 16, "heads": 2, "feedforward": 32, "depth": 1}


def dense_cosines(transforms: Any, items: Tensor) -> Tensor:
    """cos(q', T d) with T in full, in float64."""
    moved = torch.einsum("bij,nj->bni", transforms.dense().double(), items.double())
    numerator = torch.einsum("bni,bi->bn", moved, unit(transforms.query.double()))
    return torch.where(moved.norm(dim=-1) > 1e-3, numerator / moved.norm(dim=-1), 0.0)


def random_transforms(batch: int, width: int, rank: int, anchor: float, scale: float, seed: int) -> Any:
    torch.manual_seed(seed)
    u, v = torch.randn(2, batch, width, rank).unbind()
    u, v = (x / x.norm(dim=(1, 2), keepdim=True) for x in (u, v))
    return Transforms(torch.randn(batch, width), u, v, anchor, scale)


@given(
    batch=st.integers(1, 5), count=st.integers(1, 40), width=st.integers(2, 40), rank=st.integers(1, 12),
    anchor=st.sampled_from([0.0, 1.0, -0.5, 3.0]), scale=st.sampled_from([0.8, 1.0, -2.0, 10.0]),
    seed=st.integers(0, 999),
)  # fmt: skip
def test_factored_scores_are_the_dense_ones(
    batch: int, count: int, width: int, rank: int, anchor: float, scale: float, seed: int
) -> None:
    transforms = random_transforms(batch, width, rank, anchor, scale, seed)
    items = unit(torch.randn(count, width))
    expected = dense_cosines(transforms, items)
    sure = torch.einsum("bij,nj->bni", transforms.dense(), items).norm(dim=-1) > 0.05  # elsewhere T d itself is noise
    error = (Factors.of(transforms).cosines(items).double() - expected).abs()
    assert float(torch.where(sure, error, 0.0).max()) < 1e-5


def test_blocks_and_lists_score_as_the_whole_gallery_does(monkeypatch: pytest.MonkeyPatch) -> None:
    transforms = random_transforms(7, WIDTH, 4, 1.0, 0.8, 0)
    factors, items = Factors.of(transforms), unit(torch.randn(50, WIDTH))
    whole = factors.cosines(items)
    monkeypatch.setattr("condsim.methods.shared.low_rank._ELEMENTS_AT_ONCE", 4 * 3 * 17)
    monkeypatch.setattr("condsim.methods.shared.low_rank._PROJECTED_AT_ONCE", 4 * 3 * 17)
    torch.testing.assert_close(factors.cosines(items), whole, atol=1e-6, rtol=0)
    some = torch.tensor([4, 4, 49, 0])
    torch.testing.assert_close(factors.cosines(items, some), whole[:, some], atol=1e-6, rtol=0)
    lists = torch.randint(-1, 50, (7, 9))
    scores = factors.cosines(items, lists)
    known = lists >= 0
    torch.testing.assert_close(scores[known], whole.gather(1, lists.clamp(min=0))[known], atol=1e-6, rtol=0)
    assert torch.isfinite(scores).all()


def test_an_item_that_is_taken_to_zero_scores_zero() -> None:
    direction = unit(torch.randn(1, WIDTH))
    u = direction[:, :, None]
    away = Transforms(torch.randn(1, WIDTH), u, u, anchor=1.0, scale=-1.0)  # projects the direction out
    scores = Factors.of(away).cosines(torch.cat([direction, torch.zeros(1, WIDTH), unit(torch.randn(1, WIDTH))]))
    assert scores[0, :2].tolist() == [0.0, 0.0]
    assert abs(float(scores[0, 2])) > 0


class Largest(TorchDispatchMode):
    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.elements = max(self.elements, out.untyped_storage().nbytes() // out.element_size())
        return out


@pytest.mark.slow
def test_no_tensor_of_queries_by_items_by_width_is_ever_made() -> None:
    batch, count, width, rank = 8, 600, 64, 2
    factors = Factors.of(random_transforms(batch, width, rank, 1.0, 0.8, 0))
    items = unit(torch.randn(count, width))
    with Largest() as largest:
        factors.cosines(items)
    assert largest.elements <= max(count * width, batch * count * rank)


def test_u_and_v_are_distinguished() -> None:
    torch.manual_seed(0)
    transforms = HyperNetwork(WIDTH, Architecture(**SMALL))(unit(torch.randn(5, WIDTH)))
    network_of_equal_positions = HyperNetwork(WIDTH, Architecture(**SMALL))
    with torch.no_grad():
        network_of_equal_positions.position[4:] = network_of_equal_positions.position[1:4]
        network_of_equal_positions.decode_v.load_state_dict(network_of_equal_positions.decode_u.state_dict())
    same = network_of_equal_positions(unit(torch.randn(5, WIDTH)))
    torch.testing.assert_close(same.u, same.v)  # the released code's fault, which numbering all slots avoids
    assert (transforms.u - transforms.v).abs().max() > 0.01
    assert torch.linalg.matrix_rank(transforms.u).min() == 3


def test_every_query_has_its_own_transform_and_the_form_that_was_set() -> None:
    torch.manual_seed(0)
    query = unit(torch.randn(4, WIDTH))
    released = HyperNetwork(WIDTH, Architecture(**SMALL))(query)
    assert (released.u[0] - released.u[1]).abs().max() > 1e-4
    torch.testing.assert_close(released.u.norm(dim=(1, 2)), torch.ones(4))
    torch.testing.assert_close(released.query.norm(dim=1), torch.ones(4))
    paper = Architecture(**SMALL, anchor=0.0, scale=1.0, normalised=False, query_head="none")
    plain = HyperNetwork(WIDTH, paper)(query)
    torch.testing.assert_close(plain.query, query)
    torch.testing.assert_close(plain.dense(), plain.u @ plain.v.mT)


def test_a_missing_reference_or_text_leaves_the_other_as_the_query(space: Space) -> None:
    images, texts = space.encode_images(3), space.encode_texts(["a", "b", "c"])
    nothing = torch.zeros(3, WIDTH)
    torch.testing.assert_close(compose(images, nothing), unit(images))
    torch.testing.assert_close(compose(nothing, texts), unit(texts))
    torch.testing.assert_close(compose(images, texts), unit(unit(images) + unit(texts)))


@pytest.fixture
def checkpoint(tmp_path: Path) -> tuple[Path, HyperNetwork]:
    torch.manual_seed(1)
    network = HyperNetwork(WIDTH, Architecture(**SMALL))
    settings = {"architecture": dataclasses.asdict(network.architecture), "width": WIDTH}
    write_state_dict(tmp_path / "h.safetensors", network.state_dict(), settings)
    return tmp_path / "h.safetensors", network.eval()


def test_scores_through_the_method_are_those_of_the_network_for_every_form_of_rows(
    checkpoint: tuple[Path, HyperNetwork], space: Space
) -> None:
    path, network = checkpoint
    gallery = space.gallery(30)
    queries = space.queries(gallery, [1, 2, 3, 4], [0, 1, 2, 3])
    score = QueryAdaptive(str(path)).prepare(gallery)
    with torch.no_grad():
        expected = dense_cosines(network(compose(queries.reference, queries.text)), unit(gallery.features))
    whole = score(queries)
    torch.testing.assert_close(whole.double(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(score(queries, torch.tensor([7, 2])), whole[:, [7, 2]], atol=1e-6, rtol=0)
    lists = torch.randint(30, (4, 6))
    torch.testing.assert_close(score(queries, lists), whole.gather(1, lists), atol=1e-6, rtol=0)
    other = Queries(queries.reference.flip(0), queries.text.flip(0), queries.condition, queries.reference_row)
    torch.testing.assert_close(score(other), whole.flip(0), atol=1e-6, rtol=0)


def test_a_gallery_in_chunks_makes_the_transforms_once(
    checkpoint: tuple[Path, HyperNetwork], space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = checkpoint
    gallery = space.gallery(30)
    queries = space.queries(gallery, [1, 2], [0, 1])
    score = QueryAdaptive(str(path)).prepare(gallery)
    calls = []
    monkeypatch.setattr(HyperNetwork, "forward", lambda self, q, f=HyperNetwork.forward: calls.append(1) or f(self, q))
    assert isinstance(score, TwoSided)
    side = score.query_side(queries)
    whole = torch.cat([score.score(side, torch.arange(start, start + 10)) for start in (0, 10, 20)], dim=1)
    assert len(calls) == 1
    torch.testing.assert_close(whole, score(queries), atol=1e-6, rtol=0)


def test_it_takes_queries_of_an_image_or_a_text_alone() -> None:
    QueryAdaptive().check(make_task(("color",), reference=-1))
    QueryAdaptive().check(make_task())


def test_a_rank_that_the_checkpoint_does_not_have_is_refused_with_the_way_to_train_it(
    checkpoint: tuple[Path, HyperNetwork],
) -> None:
    path, _ = checkpoint
    assert QueryAdaptive(str(path), rank=3).trained_network(WIDTH).architecture.rank == 3  # type: ignore[union-attr]
    with pytest.raises(CondsimError, match=r"method\.rank=8.*has rank=3.*condsim train method\.rank=8"):
        QueryAdaptive(str(path), rank=8).trained_network(WIDTH)


def test_weights_without_settings_and_of_other_networks_are_refused(
    checkpoint: tuple[Path, HyperNetwork], tmp_path: Path
) -> None:
    _, network = checkpoint
    write_state_dict(tmp_path / "bare.safetensors", network.state_dict(), {})
    with pytest.raises(CondsimError, match="holds no settings"):
        QueryAdaptive(str(tmp_path / "bare.safetensors")).trained_network(WIDTH)
    inside = {"architecture": dataclasses.asdict(Architecture(**{**SMALL, "rank": 5})), "width": WIDTH}
    write_state_dict(tmp_path / "wrong.safetensors", network.state_dict(), inside)
    with pytest.raises(CondsimError, match="contradict its own settings"):
        QueryAdaptive(str(tmp_path / "wrong.safetensors")).trained_network(WIDTH)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"rank": 0}, "rank must be at least 1"),
        ({"hidden": 10, "heads": 3}, "not divisible"),
        ({"query_head": "decode"}, "Did you mean 'decoded'"),
        ({"scale": 0.0}, "must not be 0"),
        ({"noise": -1.0}, "must not be negative"),
    ],
)
def test_settings_that_mean_nothing_are_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(CondsimError, match=message):
        QueryAdaptive(**setting)


def test_semi_positives_are_the_nearest_images_with_softmax_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("condsim.methods.shared.semi_positives.POOL", 5)
    monkeypatch.setattr("condsim.methods.shared.nearest._ELEMENTS_AT_ONCE", 7 * 20)
    images = torch.randn(20, WIDTH) * torch.rand(20, 1) * 9
    found = nearest_images(images, 2)
    cosines = np.asarray(unit(images) @ unit(images).T)
    np.fill_diagonal(cosines, -np.inf)
    for row in range(20):
        nearest = np.argsort(-cosines[row])[:5]
        weights = np.exp(cosines[row][nearest])
        assert found.rows[row].tolist() == nearest[:2].tolist()
        np.testing.assert_allclose(found.weights[row], (weights / weights.sum())[:2], rtol=1e-5)


def test_an_image_that_several_queries_seek_is_one_column(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randn(6, WIDTH)
    neighbours = nearest_images(images, 1)
    rows = torch.tensor([2, 4, 2])
    columns, weights = with_semi_positives(images[rows], rows, images, neighbours)
    wanted = sorted({2, 4, *neighbours.rows[[2, 4], 0].tolist()})
    torch.testing.assert_close(columns, images[wanted])
    assert weights.shape == (3, len(wanted))
    assert weights[0, wanted.index(2)] >= 1
    torch.testing.assert_close(weights[0], weights[2])
    alone, only = with_semi_positives(images[rows], rows, images, None)
    torch.testing.assert_close(alone, images[[2, 4]])
    assert only.tolist() == [[1, 0], [0, 1], [1, 0]]


def test_the_symmetric_loss_in_closed_form() -> None:
    scores = torch.tensor([[0.5, -0.2, 0.1], [0.0, 0.3, 0.9]])
    weights = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]])
    logits = scores.numpy() / 0.1
    rows = np.log(np.exp(logits).sum(1))
    columns = np.log(np.exp(logits).sum(0))
    by_row = np.mean([rows[0] - (logits[0, 0] + 0.5 * logits[0, 2]) / 1.5, rows[1] - logits[1, 1]])
    by_column = np.mean([columns[0] - logits[0, 0], columns[1] - logits[1, 1], columns[2] - logits[0, 2]])
    loss = symmetric_soft_loss(scores, weights, 0.1)
    assert float(loss) == pytest.approx((by_row + by_column) / 2, rel=1e-5)


def test_noise_moves_queries_in_training_only_and_by_its_size() -> None:
    query = unit(torch.randn(2000, 256))
    assert QueryAdaptive(noise=0.0)._noisy(query) is query
    torch.manual_seed(0)
    moved = QueryAdaptive(noise=0.5)._noisy(query)
    angle = torch.arccos((moved * query).sum(1).clamp(-1, 1))
    assert 0.2 < float(angle.mean()) < 0.3  # arctan of a uniform length up to 0.5
    torch.testing.assert_close(moved.norm(dim=1), torch.ones(2000))


@pytest.mark.slow
def test_its_objective_learns_to_find_the_targets(space: Space) -> None:
    method = QueryAdaptive(**SMALL, noise=0.1, semi_positives=1)
    torch.manual_seed(0)
    network = method.new_network(WIDTH)
    images, texts = space.encode_images(24), space.encode_texts([f"text {i}" for i in range(24)])
    rows = torch.randperm(24)
    batch = Batch(images, texts, images[rows], rows)
    objective = method.objective(TrainingData(images))
    optimizer = torch.optim.Adam(network.parameters(), lr=6e-3)
    first = float(objective(network, batch).detach())
    for _ in range(40):
        optimizer.zero_grad()
        objective(network, batch).backward()
        optimizer.step()
    assert float(objective(network, batch).detach()) < 0.7 * first
