"""Intervals of means over queries, by a bootstrap over clusters of queries: vectorised and seeded."""

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
"""With fewer clusters, resampled intervals are too narrow: Student's interval is used."""
_MULTINOMIAL = 256
"""Up to this number of clusters, resamples are drawn exactly; above, Poisson weights are used, which are faster."""
_WEIGHTS = 1 << 20
"""Number of weights that are drawn at once. Another number draws other resamples."""
_AT_ONCE = 1 << 18
"""Number of weights per product: 1 or 2 MiB, which stay in the cache."""
_LARGEST_WEIGHT = 5
"""Bounds the mean weight of a resample: Poisson weights are at most 5, multinomial ones have the mean 1."""
_CACHED = 24 << 20
"""Number of weights that are cached for the next run on the same task: 24 MiB, 48 for up to 256 clusters."""
_POISSON = np.cumsum([94, 95, 46, 16, 4]).astype(np.uint8)
"""A random byte's Poisson(1) weight is how many of these it reaches, so that 94 of 256 bytes have the weight 0, 95 the
weight 1, ..., 1 the weight 5: mean and variance are exactly 1, the third moment is within 2 %."""
_NARROW, _DOT = 8, 8192
"""Up to ``_NARROW`` columns are multiplied row by row, at most ``_DOT`` clusters at a time: OpenBLAS computes these
inner products on one core. It divides a narrow matrix product between all cores, which takes up to thirty times as long
where another process uses one of them."""


@dataclass(frozen=True)
class Interval:
    """A mean over queries and the ends of its interval; the ends are NaN if there is only one cluster."""

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

    A resample draws whole clusters of queries (``clusters`` [Q]; None: every query is its own cluster). Its mean is its
    sum over its number of queries, because both vary. The percentiles of the interval are widened by Student's t for
    the effective number of clusters (the expanded percentile interval, Hesterberg, "What Teachers Should Know About
    the Bootstrap", 2015; Kish's (sum n)^2 / sum n^2 clusters). With hundreds of clusters this is the plain percentile
    interval; with tens it corrects most of its undercoverage. With fewer than ten clusters it is Student's interval on
    the clusters' residuals.

    If all values are at one end of ``limits``, all resamples are equal. The interval is then the exact binomial
    interval for this number of clusters. No interval exceeds ``limits``.

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
    if number < FEWEST_RESAMPLED:
        residuals = sums - mean * sizes[:, None]
        error = np.sqrt(np.square(residuals).sum(axis=0) * number / (number - 1)) / queries
        reach = float(-stdtrit(freedom, tail)) * error
        low, high = mean - reach, mean + reach
    else:
        expanded = float(ndtr(stdtrit(freedom, tail) * np.sqrt(number / (number - 1))))
        deviations = _resampled(sums, sizes, mean, resamples, seed)
        low, high = mean + np.quantile(deviations, [expanded, 1 - expanded], axis=0)
    low, high = np.maximum(low, limits[0]), np.minimum(high, limits[1])
    margin = (limits[1] - limits[0]) * (1 - tail ** (1 / number))
    low = np.where((values == limits[1]).all(axis=0), limits[1] - margin, low)
    high = np.where((values == limits[0]).all(axis=0), limits[0] + margin, high)
    return [Interval(*map(float, column)) for column in zip(mean, low, high, strict=True)]


def cluster_sums(values: Values, clusters: NDArray[np.int64] | None) -> tuple[Values, Values]:
    """The number of queries [G] and the sums [G, M] of each of the G clusters."""
    if values.ndim != 2 or not values.size:
        raise CondsimError(f"expected values [queries, columns], found shape {values.shape}")
    if not np.isfinite(values).all():
        query, column = np.argwhere(~np.isfinite(values))[0]
        raise CondsimError(
            f"the value of query {query} in column {column} is {values[query, column]}, not a finite number"
        )
    if clusters is None:
        return np.ones(len(values)), values
    if len(clusters) != len(values):
        raise CondsimError(f"expected clusters and values of the same queries, found {len(clusters)} and {len(values)}")
    _, cluster = np.unique(clusters, return_inverse=True)
    sums = np.stack([np.bincount(cluster, weights=column) for column in values.T], axis=1)
    return np.bincount(cluster).astype(np.float64), sums.astype(np.float64)


def _resampled(sums: Values, sizes: Values, mean: Values, resamples: int, seed: int) -> Values:
    """[resamples, M] deviations of the resampled means from ``mean`` [M], by matrix products with the weights.

    Every partial sum is exact, so neither the number of threads nor the processor changes a bit of the result. Whole
    numbers, such as sums of hits, are exact in float32 below 2^24. Of other columns the residuals are resampled, so
    that constant values have an interval of width 0. They are rounded to multiples of a power of two, which for a
    million clusters is 2^-29 of the largest.
    """
    most = _LARGEST_WEIGHT * len(sizes)
    largest = most * np.maximum(np.abs(sums).max(axis=0), sizes.max())
    whole = (np.rint(sums) == sums).all(axis=0) & (largest < 1 << 24)
    if whole.all():
        totals, queries = _weighted(sums, sizes, resamples, seed, np.float32)
        return totals / queries - mean
    residuals = sums - mean * sizes[:, None]
    step = 2.0 ** (np.frexp(most * np.abs(residuals).max(axis=0))[1] - 52)
    columns = np.where(whole, sums, np.round(residuals / step))
    totals, queries = _weighted(columns, sizes, resamples, seed, np.float64)
    return np.where(whole, totals / queries - mean, totals * step / queries)


def _weighted(
    columns: Values, sizes: Values, resamples: int, seed: int, dtype: type[np.floating]
) -> tuple[Values, Values]:
    """Sums [resamples, M] of ``columns`` [clusters, M] over each resample, and its numbers of queries [resamples, 1],
    exact if they are whole numbers that ``dtype`` can hold."""
    both = np.asfortranarray(np.concatenate([columns, sizes[:, None]], axis=1), dtype)
    batches = _weights(len(sizes), resamples, seed, dtype)
    totals = np.concatenate([_product(weights, both) for weights in batches]).astype(np.float64)
    return totals[:, :-1], totals[:, -1:]


def _product(weights: NDArray[np.floating], columns: NDArray[np.floating]) -> NDArray[np.floating]:
    """[n, M] the product of [n, clusters] and [clusters, M]."""
    if columns.shape[1] > _NARROW:
        return weights @ columns
    totals = np.zeros((len(weights), columns.shape[1]), weights.dtype)
    for start in range(0, len(columns), _DOT):
        piece = slice(start, start + _DOT)
        totals += np.matmul(weights[:, None, None, piece], columns.T[:, piece, None])[:, :, 0, 0]
    return totals


def _weights(clusters: int, resamples: int, seed: int, dtype: type[np.floating]) -> Iterator[NDArray[np.floating]]:
    """Batches [<= resamples, clusters] of how often each resample draws each cluster; the next one overwrites it."""
    small = clusters * resamples <= _CACHED
    batch = np.empty((max(1, _AT_ONCE // clusters), clusters), dtype)  # one for all: allocating costs more than filling
    for times in _cached_draws(clusters, resamples, seed) if small else _draws(clusters, resamples, seed):
        for start in range(0, len(times), len(batch)):
            piece = times[start : start + len(batch)]
            np.copyto(batch[: len(piece)], piece)
            yield batch[: len(piece)]


@lru_cache(maxsize=8)
def _cached_draws(clusters: int, resamples: int, seed: int) -> tuple[NDArray[np.uint16 | np.uint8], ...]:
    """All batches of ``_draws``, cached because the runs of a sweep have the same tasks."""
    return tuple(_draws(clusters, resamples, seed))


def _draws(clusters: int, resamples: int, seed: int) -> Iterator[NDArray[np.uint16 | np.uint8]]:
    rng = np.random.Generator(np.random.SFC64(seed))
    step = max(1, _WEIGHTS // clusters)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        if clusters > _MULTINOMIAL:
            noise = rng.bit_generator.random_raw(-(-rows * clusters // 8)).view(np.uint8)[: rows * clusters]
            times = np.zeros(len(noise), np.uint8)
            for least in _POISSON:  # faster than a table of 256 weights: the processor compares many bytes at once
                times += (noise >= least).view(np.uint8)
        else:
            places = rng.integers(0, clusters, (rows, clusters)) + clusters * np.arange(rows)[:, None]
            times = np.bincount(places.ravel(), minlength=rows * clusters).astype(np.uint16)
        yield times.reshape(rows, clusters)
