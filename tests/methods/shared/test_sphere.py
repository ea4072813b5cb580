import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from condsim.harness.errors import CondsimError
from condsim.harness.one_vector import unit
from condsim.methods.shared.sphere import (
    direction_sum,
    log_map,
    log_map_features,
    mean_direction,
    mean_of_directions,
    rotate,
)


def directions(n: int, width: int = 16, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return unit(torch.randn(n, width, generator=generator, dtype=torch.float64))


def reflect(x: torch.Tensor, normal: torch.Tensor) -> torch.Tensor:
    """Householder reflection of rows."""
    return x - 2 * (x @ normal)[:, None] * normal / (normal @ normal)


def test_a_zero_vector_has_the_unit_vector_zero() -> None:
    assert unit(torch.zeros(2, 3)).tolist() == [[0.0] * 3] * 2
    assert unit(torch.tensor([[3e-15, 4e-15]])).norm() == pytest.approx(1)
    assert unit(torch.tensor([[3e-30, 4e-30]])).norm() < 1e-9


@given(angle=st.floats(1e-7, math.pi - 1e-7))
def test_log_map_of_a_point_at_a_known_angle_is_that_angle_along_the_meridian(angle: float) -> None:
    mu = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    point = torch.tensor([[math.sin(angle), 0.0, math.cos(angle)]], dtype=torch.float64)
    torch.testing.assert_close(
        log_map(point, mu), torch.tensor([[angle, 0, 0]], dtype=torch.float64), atol=1e-9, rtol=1e-9
    )


def test_log_map_agrees_with_its_formula_and_is_tangent() -> None:
    mu, x = directions(1)[0], directions(50, seed=1)
    cos = x @ mu
    theta = torch.arccos(cos)
    expected = (x - cos[:, None] * mu) * (theta / torch.sin(theta))[:, None]
    torch.testing.assert_close(log_map(x, mu), expected, atol=1e-12, rtol=0)
    assert (log_map(x, mu) @ mu).abs().max() < 1e-12


def test_log_map_at_its_own_point_and_at_the_opposite_one_is_zero() -> None:
    mu = torch.eye(5, dtype=torch.float64)[0]
    assert log_map(torch.stack([mu, -mu]), mu).abs().max() == 0


def test_log_map_of_features_keeps_its_digits_next_to_mu() -> None:
    mu = torch.eye(8, dtype=torch.float64)[0]
    near = 7 * (mu + 1e-4 * torch.eye(8, dtype=torch.float64)[3])
    mapped = log_map_features(near[None].float(), mu)
    assert mapped.dtype == torch.float32
    assert mapped[0, 3] == pytest.approx(math.atan(1e-4), rel=1e-6)


def test_log_map_of_features_does_not_depend_on_length_or_on_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("condsim.methods.shared.sphere._ROWS_AT_ONCE", 5)
    x, mu = directions(23, seed=2).float(), directions(1)[0]
    lengths = torch.linspace(0.1, 50, 23)[:, None]
    torch.testing.assert_close(log_map_features(x * lengths, mu), log_map(x.double(), mu).float())


def test_rotation_takes_start_to_end_and_is_orthogonal() -> None:
    a, b = directions(2)
    rotation = rotate(torch.eye(16, dtype=torch.float64), a, b).T
    torch.testing.assert_close(rotation @ a, b)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(16, dtype=torch.float64))
    assert torch.linalg.det(rotation) == pytest.approx(1)


def test_rotation_is_two_householder_reflections_and_not_one() -> None:
    a, b = directions(2)
    m = unit(a + b)
    x = directions(20, seed=3)
    twice = reflect(reflect(x, a - m), m - b)
    torch.testing.assert_close(rotate(x, a, b), twice, atol=1e-13, rtol=0)
    assert (rotate(x, a, b) - reflect(x, a - b)).abs().max() > 0.1


def test_rotation_back_is_the_transpose() -> None:
    a, b = directions(2)
    x = directions(9, seed=4)
    torch.testing.assert_close(rotate(rotate(x, a, b), b, a), x)


def test_rotation_is_parallel_transport_log_at_the_end_is_the_rotated_log_at_the_start() -> None:
    a, b = directions(2)
    x = directions(30, seed=5)
    torch.testing.assert_close(log_map(rotate(x, a, b), b), rotate(log_map(x, a), a, b), atol=1e-12, rtol=0)


def test_rotation_between_equal_points_is_the_identity_and_between_opposite_ones_an_error() -> None:
    a = directions(1)[0]
    x = directions(4, seed=6)
    torch.testing.assert_close(rotate(x, a, a), x)
    with pytest.raises(CondsimError, match="rotation=false"):
        rotate(x, a, -a)


def test_mean_direction_weighs_directions_and_not_lengths() -> None:
    x = torch.tensor([[100.0, 0.0], [0.0, 0.01]])
    expected = torch.tensor([1.0, 1.0], dtype=torch.float64) / math.sqrt(2)
    torch.testing.assert_close(mean_direction(direction_sum(x)), expected)


def test_the_mean_of_directions_is_that_of_the_unit_rows() -> None:
    x = torch.randn(2300, 4, generator=torch.Generator().manual_seed(0))
    rows = x.double().numpy()
    mean = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).mean(axis=0)
    total = direction_sum(x)
    np.testing.assert_allclose(mean_of_directions(total, len(x)).numpy(), mean, atol=1e-11)
    np.testing.assert_allclose(mean_direction(total).numpy(), mean / np.linalg.norm(mean), atol=1e-9)


@given(st.lists(st.integers(0, 3000), max_size=6), st.booleans())
def test_the_sum_of_directions_is_the_same_for_any_division_and_order(cuts: list[int], half: bool) -> None:
    x = torch.randn(3000, 12, generator=torch.Generator().manual_seed(1)) + 1
    x = x.half() if half else x
    edges = [0, *sorted(cuts), 3000]  # equal cuts give empty parts
    parts = [direction_sum(x[start:stop]) for start, stop in pairwise(edges)]
    whole = direction_sum(x)
    assert whole.dtype == torch.int64
    assert torch.equal(torch.stack(parts).sum(dim=0), whole)
    assert torch.equal(direction_sum(x[torch.randperm(3000)]), whole)
