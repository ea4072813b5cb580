"""Geometry of the unit hypersphere on which features live: log map, parallel transport. Vectors are rows."""

from __future__ import annotations

import torch

from condsim.harness.errors import CondsimError
from condsim.harness.one_vector import unit
from condsim.harness.process.tensors import Tensor

_ROWS_AT_ONCE = 1024
"""Rows in float64 at once, so that they stay in the cache from one operation to the next."""
_STEPS = 1 << 31
"""Steps between 0 and 1 in a sum of unit vectors."""


def direction_sum(x: Tensor) -> Tensor:
    """int64 [D]: the sum of the unit rows of ``x`` [n, D], each rounded to steps of 2^-31; n is below 2^32.

    Integers have the same sum in any order, so the parts of a gallery may be summed anywhere (``Method.statistics``).
    Sums of floats differ in their last bits, and CLAY's ranks with them.
    """
    total = torch.zeros(x.shape[1], dtype=torch.int64, device=x.device)
    for part in torch.split(x, _ROWS_AT_ONCE):
        total += unit(part.double()).mul_(_STEPS).round_().sum(dim=0).long()  # exact: below 2^53
    return total


def mean_direction(total: Tensor) -> Tensor:
    """[D] float64: the unit vector along the mean of unit rows, from their ``direction_sum``."""
    return unit(total.double())


def mean_of_directions(total: Tensor, count: int) -> Tensor:
    """[D] float64: the arithmetic mean of ``count`` unit rows, from their ``direction_sum``."""
    return total.double() / (_STEPS * count)


def log_map(x: Tensor, mu: Tensor) -> Tensor:
    """The tangent vectors at ``mu`` [D] towards the unit rows of ``x`` [n, D]; their lengths are angles in radians.

    log_mu(x) = (x - mu cos t) t / sin t with cos t = x . mu. The angle is taken as atan2(sin t, cos t), which keeps its
    digits near 0 and pi where arccos loses them. log_mu(mu) = 0, and so is log_mu(-mu), whose direction is undefined.
    """
    cos = x @ mu
    tangent = x - cos[:, None] * mu
    sin = tangent.norm(dim=-1)
    stretch: Tensor = torch.atan2(sin, cos) / sin.clamp(min=torch.finfo(x.dtype).tiny)
    return tangent * stretch[:, None]


def log_map_features(features: Tensor, mu: Tensor) -> Tensor:
    """``log_map`` of the directions of raw ``features`` [n, D], computed in float64 and returned in their own type.

    In float32 an item at an angle of t from mu would lose a share of 1e-7 / t of its tangent vector.
    """
    out, mu = torch.empty_like(features), mu.to(features.device, torch.float64)
    for part, into in zip(torch.split(features, _ROWS_AT_ONCE), torch.split(out, _ROWS_AT_ONCE), strict=True):
        into.copy_(log_map(unit(part.double()), mu))
    return out


def rotate(x: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """R x for the rows of ``x`` [n, D], R the rotation in the plane of the unit vectors ``start`` and ``end`` [D] that
    takes ``start`` to ``end``.

    R is the parallel transport along the great circle between them, and the product of the two Householder reflections
    start -> unit(start + end) -> end.

    R = I - (a + b)(a + b)^T / (1 + a.b) + 2 b a^T, never formed. For R^T exchange ``start`` and ``end``.
    Raises CondsimError where they are opposite: then the great circle is undefined.
    """
    gap = 1 + float(start @ end)
    if gap < 1e-9:
        raise CondsimError(
            "the mean image direction is opposite to the mean text direction: the rotation between them is undefined. "
            "Set rotation=false"
        )
    both = start + end
    return x - (x @ both / gap)[:, None] * both + 2 * (x @ start)[:, None] * end
