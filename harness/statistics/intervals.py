"""Intervals of means over queries, by a bootstrap over clusters of queries: exact in form, vectorised, seeded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, stdtrit

from condsim.harness.errors import CondsimError

Values = NDArray[np.float64]

FEWEST_RESAMPLED = 10
"""With fewer clusters their resamples are too few and too narrow: the interval is Student's then."""
_MULTINOMIAL = 256
"""Up to so many clusters, resamples are drawn exactly; beyond, Poisson weights give the same distribution faster."""
_WEIGHTS = 1 << 20
"""Weights at a time: 4 MiB, which stays in the cache."""
_KEPT = 8 << 20
"""Weights that are kept for the next run on the same task: at most 16 MiB a task."""
_POISSON = np.repeat(np.arange(6, dtype=np.uint8), [94, 95, 46, 16, 4, 1]).tobytes()
"""A byte as a Poisson(1) weight: its mean and variance are exactly 1, its third moment is within 2 %."""


@dataclass(frozen=True)
class Interval:
    """A mean over queries and the ends of its interval; NaN ends where there is only one cluster to learn from."""

    value: float
    low: float
    high: float


def mean_intervals(
    values: ArrayLike,
    clusters: NDArray[np.int64] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    limits: tuple[float, float] = (0.0, 1.0),
) -> list[Interval]:
    """The mean of each column of [Q, M] ``values`` with its ``level`` interval, all columns on the same resamples.

    Whole clusters of queries are drawn (``clusters`` [Q]; None: every query is its own), and a resample's mean is its
    sum over its number of queries, since both vary. The interval runs between percentiles that are set wider by
    Student's t for the effective number of clusters (the expanded percentile interval, Hesterberg, "What Teachers
    Should Know About the Bootstrap", 2015; Kish's (sum n)^2 / sum n^2 clusters): with hundreds of clusters that is the
    plain percentile interval, with tens it mends most of its undercoverage. Below ten clusters it is Student's
    interval on the clusters' residuals.

    All values at one end of ``limits``, which nothing resamples to anything else, get the exact binomial interval
    that as many clusters allow. No interval reaches beyond ``limits``.

    Raises CondsimError for values that are not finite and clusters that do not match.
    """
    values = np.asarray(values, dtype=np.float64)
    sizes, sums = cluster_sums(values, clusters)
    queries, number = float(sizes.sum()), len(sizes)
    mean = sums.sum(axis=0) / queries
    if number == 1:
        return [Interval(float(value), np.nan, np.nan) for value in mean]
    tail = (1 - level) / 2
    freedom = max(queries**2 / float(np.square(sizes).sum()) - 1, 1.0)
    # Resampled residuals rather than values: means stay exact, and what does not vary does not seem to.
    residuals = sums - mean * sizes[:, None]
    if number < FEWEST_RESAMPLED:
        error = np.sqrt(np.square(residuals).sum(axis=0) * number / (number - 1)) / queries
        reach = float(-stdtrit(freedom, tail)) * error
        low, high = mean - reach, mean + reach
    else:
        tail_here = float(ndtr(stdtrit(freedom, tail) * np.sqrt(number / (number - 1))))
        deviations = _resampled(residuals, sizes, resamples, seed)
        low, high = mean + np.quantile(deviations, [tail_here, 1 - tail_here], axis=0)
    low, high = np.maximum(low, limits[0]), np.minimum(high, limits[1])
    margin = (limits[1] - limits[0]) * (1 - tail ** (1 / number))
    low = np.where((values == limits[1]).all(axis=0), limits[1] - margin, low)
    high = np.where((values == limits[0]).all(axis=0), limits[0] + margin, high)
    return [Interval(*map(float, column)) for column in zip(mean, low, high, strict=True)]


def cluster_sums(values: Values, clusters: NDArray[np.int64] | None) -> tuple[Values, Values]:
    """[G] queries and [G, M] sums of each cluster."""
    if values.ndim != 2 or not values.size:
        raise CondsimError(f"expected values of some queries, [queries, columns], found shape {values.shape}")
    if not np.isfinite(values).all():
        query, column = np.argwhere(~np.isfinite(values))[0]
        raise CondsimError(f"the value of query {query} in column {column} is {values[query, column]}, not a number")
    if clusters is None:
        return np.ones(len(values)), values
    if len(clusters) != len(values):
        raise CondsimError(f"there are clusters for {len(clusters)} queries and values for {len(values)}")
    _, cluster = np.unique(clusters, return_inverse=True)
    sums = np.stack([np.bincount(cluster, weights=column) for column in values.T], axis=1)
    return np.bincount(cluster).astype(np.float64), sums.astype(np.float64)


def _resampled(residuals: Values, sizes: Values, resamples: int, seed: int) -> Values:
    """[resamples, M] deviations of the resampled means: weighted residuals over weighted sizes, as matrix products."""
    columns = np.concatenate([residuals, sizes[:, None]], axis=1).astype(np.float32)
    totals = np.concatenate([weights @ columns for weights in _weights(len(sizes), resamples, seed)])
    return np.asarray(totals[:, :-1] / totals[:, -1:], dtype=np.float64)


def _weights(clusters: int, resamples: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """[<= resamples, clusters] how often each cluster is drawn into each resample, some resamples at a time."""
    small = clusters * resamples <= _KEPT
    for times in _kept_draws(clusters, resamples, seed) if small else _draws(clusters, resamples, seed):
        yield times.astype(np.float32)


@lru_cache(maxsize=8)
def _kept_draws(clusters: int, resamples: int, seed: int) -> tuple[NDArray[np.uint16 | np.uint8], ...]:
    """``_draws`` at once: the runs of a sweep have their tasks in common."""
    return tuple(_draws(clusters, resamples, seed))


def _draws(clusters: int, resamples: int, seed: int) -> Iterator[NDArray[np.uint16 | np.uint8]]:
    rng = np.random.Generator(np.random.SFC64(seed))
    step = max(1, _WEIGHTS // clusters)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        if clusters > _MULTINOMIAL:
            noise = rng.bit_generator.random_raw(-(-rows * clusters // 8)).tobytes()
            times = np.frombuffer(noise.translate(_POISSON), dtype=np.uint8, count=rows * clusters)
        else:
            places = rng.integers(0, clusters, (rows, clusters)) + clusters * np.arange(rows)[:, None]
            times = np.bincount(places.ravel(), minlength=rows * clusters).astype(np.uint16)
        yield times.reshape(rows, clusters)
