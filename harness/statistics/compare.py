"""Which runs differ: paired tests on the same queries, corrected for the number of tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from condsim.harness.errors import CondsimError
from condsim.harness.statistics.intervals import Interval, Values, cluster_sums, mean_intervals
from condsim.harness.statistics.letters import letters

_SIGNS = 1 << 22
"""Number of signs per batch (16 MiB)."""


@dataclass(frozen=True)
class Pair:
    """Two runs; ``first`` has the higher mean."""

    first: str
    second: str
    difference: Interval
    """Mean of first - second; its interval is for this pair alone."""
    p: float
    """Two-sided, of the clustered sign-flip test."""
    adjusted: float
    """``p`` after Holm's correction over all pairs."""


@dataclass(frozen=True)
class Comparison:
    """Runs from the highest mean to the lowest, with their intervals and the tests of all pairs."""

    runs: tuple[str, ...]
    intervals: tuple[Interval, ...]
    pairs: tuple[Pair, ...]
    letters: tuple[str, ...]
    """Runs that share a letter do not differ significantly."""
    best: tuple[str, ...]
    """The first run, and the runs that do not differ significantly from it."""


def compare(
    values: Mapping[str, ArrayLike],
    clusters: NDArray[np.int64] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    permutations: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare runs by their [Q] values of one metric on the same Q queries, in the same order.

    The test of a pair flips the signs of the clusters' summed differences: under the null hypothesis, the two runs are
    exchangeable in each cluster. It draws at least 100 permutations per pair, so that a pair that no permutation
    exceeds stays below 0.01 after Holm's correction, whose family-wise error rate is 1 - ``level``.

    Raises CondsimError, naming the run, if the runs differ in the number of queries or a value is not finite.
    """
    tested = _test(values, clusters, level, permutations, seed)
    runs, matrix, index = tested.runs, tested.matrix, tested.pairs

    def intervals(table: Values, limits: tuple[float, float]) -> list[Interval]:
        if not table.shape[1]:
            return []
        return mean_intervals(table, clusters, level=level, resamples=resamples, seed=seed, limits=limits)

    first, second = (np.array([pair[side] for pair in index], dtype=np.int64) for side in (0, 1))
    differences = intervals(matrix[:, first] - matrix[:, second], (-1.0, 1.0))
    pairs = [
        Pair(runs[i], runs[j], difference, float(p_pair), float(p_adjusted))
        for (i, j), difference, p_pair, p_adjusted in zip(index, differences, tested.p, tested.adjusted, strict=True)
    ]
    best = tuple(name for name, same in zip(runs, tested.alike[0], strict=True) if same)
    own = tuple(intervals(matrix, (0.0, 1.0)))
    return Comparison(runs, own, tuple(pairs), letters(tested.alike), best)


def letters_of(
    values: Mapping[str, ArrayLike],
    clusters: NDArray[np.int64] | None = None,
    *,
    level: float = 0.95,
    permutations: int = 10_000,
    seed: int = 0,
) -> dict[str, str]:
    """Run -> its letters in ``compare``, without the intervals, which take longer than the tests."""
    tested = _test(values, clusters, level, permutations, seed)
    return dict(zip(tested.runs, letters(tested.alike), strict=True))


@dataclass(frozen=True)
class _Tested:
    runs: tuple[str, ...]
    """From the highest mean to the lowest."""
    matrix: Values
    """[Q, runs]"""
    pairs: tuple[tuple[int, int], ...]
    p: Values
    adjusted: Values
    alike: NDArray[np.bool_]
    """[runs, runs] whether two do not differ significantly."""


def _test(
    values: Mapping[str, ArrayLike], clusters: NDArray[np.int64] | None, level: float, permutations: int, seed: int
) -> _Tested:
    if not values:
        raise CondsimError("there is nothing to compare")
    columns = {name: np.asarray(column, dtype=np.float64).reshape(-1) for name, column in values.items()}
    queries = len(next(iter(columns.values())))
    for name, column in columns.items():
        if len(column) != queries:
            raise CondsimError(f"run {name} has {len(column)} queries, the others {queries}: compare on the same task")
        if not np.isfinite(column).all():
            query = np.argmin(np.isfinite(column))
            raise CondsimError(f"run {name}: the value of query {query} is not a finite number")
    runs = tuple(sorted(columns, key=lambda name: (-columns[name].mean(), name)))
    matrix = np.stack([columns[name] for name in runs], axis=1)
    index = tuple(combinations(range(len(runs)), 2))
    p = sign_flip(matrix, index, clusters, max(permutations, 100 * len(index)), seed)
    adjusted = holm(p)
    alike = np.ones((len(runs), len(runs)), dtype=bool)
    for (i, j), value in zip(index, adjusted, strict=True):
        alike[i, j] = alike[j, i] = value > 1 - level
    return _Tested(runs, matrix, index, p, adjusted, alike)


def sign_flip(
    values: Values,
    pairs: Sequence[tuple[int, int]],
    clusters: NDArray[np.int64] | None,
    permutations: int,
    seed: int,
) -> Values:
    """Two-sided p of each pair of columns of [Q, runs] ``values``: (1 + extreme permutations) / (1 + permutations)."""
    _, sums = cluster_sums(values, clusters)
    # The flipped total of a run is one product; that of a pair is a difference of two, which costs almost nothing.
    sums = sums - sums.mean(axis=1, keepdims=True)
    first, second = (np.array([pair[side] for pair in pairs], dtype=np.int64) for side in (0, 1))
    differences = sums[:, first] - sums[:, second]
    observed = np.abs(differences.sum(axis=0))
    # Totals that are equal up to rounding count as extreme.
    limit = _float32_above(observed - 1e-4 * np.abs(differences).max(axis=0, initial=0.0))
    pairs_of = [(run, np.flatnonzero(first == run)) for run in np.unique(first)]
    extreme = np.zeros(len(pairs), dtype=np.int64)
    rng = np.random.Generator(np.random.SFC64(seed))
    columns = sums.astype(np.float32)
    step = max(1, _SIGNS // len(sums))
    for start in range(0, permutations, step):
        rows = min(step, permutations - start)
        noise = rng.bit_generator.random_raw(-(-rows * len(sums) // 64)).view(np.uint8)
        heads = np.unpackbits(noise, count=rows * len(sums)).reshape(rows, len(sums)).astype(np.float32)
        totals = np.ascontiguousarray((2 * (heads @ columns) - columns.sum(axis=0)).T)
        for run, own in pairs_of:
            flipped = totals[second[own]]
            flipped -= totals[run]
            np.abs(flipped, out=flipped)
            extreme[own] += [np.count_nonzero(row >= least) for row, least in zip(flipped, limit[own], strict=True)]
    return (1 + extreme) / (1 + permutations)


def _float32_above(values: Values) -> NDArray[np.float32]:
    """The smallest float32 that is not below each value: a float32 reaches both or neither."""
    rounded = values.astype(np.float32)
    return np.where(rounded < values, np.nextafter(rounded, np.float32(np.inf)), rounded)


def holm(p: Values) -> Values:
    """P-values after Holm's step-down correction (1979): at most 1, in the order of ``p``."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
