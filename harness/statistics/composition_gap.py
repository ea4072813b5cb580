"""The gain of composing image and text over the better of the two alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from condsim.harness.errors import CondsimError
from condsim.harness.statistics.intervals import Interval, Values, mean_intervals


def composition_gaps(composed: ArrayLike, image_only: ArrayLike, text_only: ArrayLike) -> Values:
    """[Q] composed - max(image_only, text_only) for each query, from [Q] values of one metric in [0, 1]. [ours]

    The better of the two is chosen per query, with knowledge of the answer. No method with one modality can reach it,
    so a gap of 0 is already good, and a useful method may have a gap below 0.

    Raises CondsimError if the three differ in length or a value is not finite.
    """
    columns = {
        name: np.asarray(values, dtype=np.float64).reshape(-1)
        for name, values in (("composed", composed), ("image_only", image_only), ("text_only", text_only))
    }
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise CondsimError(f"the composition gap needs the same queries for all three, found {lengths}")
    for name, values in columns.items():
        if not np.isfinite(values).all():
            raise CondsimError(f"{name}: the value of query {np.argmin(np.isfinite(values))} is not a finite number")
    gaps: Values = columns["composed"] - np.maximum(columns["image_only"], columns["text_only"])
    return gaps


def composition_gap(
    composed: ArrayLike,
    image_only: ArrayLike,
    text_only: ArrayLike,
    clusters: NDArray[np.int64] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """The mean of ``composition_gaps`` with its interval, clustered as in ``mean_intervals``."""
    gaps = composition_gaps(composed, image_only, text_only)[:, None]
    return mean_intervals(gaps, clusters, level=level, resamples=resamples, seed=seed, limits=(-1.0, 1.0))[0]
