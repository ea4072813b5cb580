"""Assignments of sets. Those by POT are slow: it imports scikit-learn and networkx."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from condsim.harness.one_vector import unit
from condsim.methods.shared.assignment import all_pairs, chamfer, fused_gromov_wasserstein, hungarian, in_order

sizes_and_seed = given(n=st.integers(1, 5), m=st.integers(1, 5), seed=st.integers(0, 10**6))


def brute_force(similarity: np.ndarray) -> float:
    """The best one-to-one matching over all permutations; unmatched left members count 0, as many as can be matched."""
    n, m = similarity.shape
    if n <= m:
        best = max(sum(similarity[i, p[i]] for i in range(n)) for p in permutations(range(m), n))
    else:
        best = max(sum(similarity[p[j], j] for j in range(m)) for p in permutations(range(n), m))
    return best / n


def sets(pairs: int, n: int, m: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Similarities across and within random sets of unit vectors."""
    generator = torch.Generator().manual_seed(seed)
    x, y = (unit(torch.randn(pairs, size, 8, generator=generator)) for size in (n, m))
    return x @ y.mT, x @ x.mT, y @ y.mT


@sizes_and_seed
def test_hungarian_equals_brute_force_over_permutations(n: int, m: int, seed: int) -> None:
    similarity, _, _ = sets(3, n, m, seed)
    expected = [brute_force(s.double().numpy()) for s in similarity]
    np.testing.assert_allclose(hungarian(similarity).numpy(), expected, atol=1e-12)


def padded(matrix: Tensor, rows: int, columns: int) -> Tensor:
    out = torch.full((2, rows, columns), 99.0)
    out[:, : matrix.shape[1], : matrix.shape[2]] = matrix
    return out


@sizes_and_seed
def test_padding_changes_nothing(n: int, m: int, seed: int) -> None:
    similarity, _, _ = sets(2, n, m, seed)
    sizes = torch.tensor([n, n]), torch.tensor([m, m])
    for solve in (hungarian, all_pairs, chamfer, in_order):
        np.testing.assert_allclose(solve(padded(similarity, 6, 7), *sizes), solve(similarity), atol=1e-12)


@pytest.mark.slow
@sizes_and_seed
def test_padding_changes_nothing_of_fused_gromov_wasserstein(n: int, m: int, seed: int) -> None:
    pytest.importorskip("ot")
    similarity, x, y = sets(2, n, m, seed)
    sizes = torch.tensor([n, n]), torch.tensor([m, m])
    np.testing.assert_allclose(
        fused_gromov_wasserstein(padded(similarity, 6, 7), padded(x, 6, 6), padded(y, 7, 7), 0.5, *sizes),
        fused_gromov_wasserstein(similarity, x, y, 0.5),
    )


ORDER = torch.tensor([3, 0, 4, 1, 2]), torch.tensor([5, 1, 0, 3, 2, 4])


def test_the_order_of_the_members_changes_nothing() -> None:
    similarity, _, _ = sets(4, 5, 6, seed=1)
    p, q = ORDER
    for solve in (hungarian, all_pairs, chamfer):
        np.testing.assert_allclose(solve(similarity[:, p][:, :, q]), solve(similarity), atol=1e-12)


@pytest.mark.slow
def test_the_order_of_the_members_changes_nothing_of_fused_gromov_wasserstein() -> None:
    pytest.importorskip("ot")
    similarity, x, y = sets(4, 5, 6, seed=1)
    p, q = ORDER
    np.testing.assert_allclose(
        fused_gromov_wasserstein(similarity[:, p][:, :, q], x[:, p][:, :, p], y[:, q][:, :, q], 0.5),
        fused_gromov_wasserstein(similarity, x, y, 0.5),
        atol=1e-9,
    )


@pytest.mark.slow
@given(n=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_fused_gromov_wasserstein_without_structure_equals_hungarian_for_equal_sizes(n: int, seed: int) -> None:
    pytest.importorskip("ot")
    similarity, x, y = sets(2, n, n, seed)
    np.testing.assert_allclose(
        fused_gromov_wasserstein(similarity, x, y, structure=0), hungarian(similarity), atol=1e-9
    )


@pytest.mark.slow
def test_structure_tells_apart_what_the_members_cannot() -> None:
    """Two sets equally near to the left one, one of them with its geometry."""
    pytest.importorskip("ot")
    x = torch.eye(3)[None].repeat(2, 1, 1)
    alike, collapsed = torch.eye(3), torch.ones(3, 3)
    flat = torch.full((2, 3, 3), 0.5)
    values = fused_gromov_wasserstein(flat, x @ x.mT, torch.stack([alike, collapsed]), structure=0.5)
    assert values[0] > values[1] + 0.1
    assert values[0] == pytest.approx(0.75)


def test_controls_by_hand() -> None:
    similarity = torch.tensor([[[0.9, 0.1], [0.8, 0.2]]])
    assert hungarian(similarity).item() == pytest.approx((0.9 + 0.2) / 2)
    assert all_pairs(similarity).item() == pytest.approx(0.5)
    assert chamfer(similarity).item() == pytest.approx(((0.9 + 0.8) / 2 + (0.9 + 0.2) / 2) / 2)
    assert in_order(similarity).item() == pytest.approx((0.9 + 0.2) / 2)
    assert in_order(similarity.flip(2)).item() == pytest.approx((0.1 + 0.8) / 2)


def test_an_unmatched_left_member_counts_zero_and_an_unmatched_right_one_does_not() -> None:
    tall, wide = torch.tensor([[[0.6], [0.5], [0.1]]]), torch.tensor([[[0.6, 0.5, 0.1]]])
    assert hungarian(tall).item() == pytest.approx(0.2)
    assert hungarian(wide).item() == pytest.approx(0.6)


def test_empty_sets_and_no_sets_are_zero() -> None:
    similarity = torch.rand(2, 3, 3)
    nothing = torch.tensor([0, 0])
    for solve in (hungarian, all_pairs, chamfer, in_order):
        assert solve(similarity, nothing, torch.tensor([3, 0])).tolist() == [0, 0]
        assert solve(similarity, torch.tensor([3, 2]), nothing).tolist() == [0, 0]
        assert solve(torch.rand(0, 3, 3)).shape == (0,)
