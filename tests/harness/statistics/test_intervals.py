"""Intervals: do they hold the truth as often as they say? On simulated queries, seeded, with clusters and without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, stdtrit

from condsim.harness.errors import CondsimError
from condsim.harness.statistics.intervals import Interval, mean_intervals

Sample = tuple[NDArray[np.float64], NDArray[np.int64] | None]


def mean_interval(values: ArrayLike, clusters: NDArray[np.int64] | None = None, **more: Any) -> Interval:
    """One column, by itself."""
    return mean_intervals(np.asarray(values, dtype=np.float64).reshape(-1, 1), clusters, **more)[0]


def coverage(draw: Callable[[np.random.Generator], Sample], truth: float, times: int = 300) -> tuple[float, float]:
    """How often the interval holds ``truth``: with the sample's clusters, and as if its queries were independent."""
    rng = np.random.default_rng(7)
    aware, ignoring = [], []
    for i in range(times):
        values, clusters = draw(rng)
        interval = mean_interval(values, clusters, resamples=600, seed=i)
        aware.append(interval.low <= truth <= interval.high)
        if i < 100:
            interval = mean_interval(values, None, resamples=200, seed=i)
            ignoring.append(interval.low <= truth <= interval.high)
    return float(np.mean(aware)), float(np.mean(ignoring))


def hits(rng: np.random.Generator, sizes: NDArray[np.int64], p: float, similar: float) -> Sample:
    """Hits with chance ``p``; queries of one cluster share a chance drawn from a beta with this correlation."""
    strength = 1 / similar - 1
    chance = rng.beta(p * strength, (1 - p) * strength, len(sizes))
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    return (rng.random(len(clusters)) < chance[clusters]).astype(float), clusters


@pytest.mark.parametrize(("queries", "p"), [(500, 0.1), (500, 0.3), (1000, 0.9)])
def test_intervals_of_independent_queries_hold_the_truth_95_times_in_100(queries: int, p: float) -> None:
    # Not simulated: the coverage over every number of hits that matters, each with its binomial chance.
    at_most = bdtr(np.arange(queries + 1), queries, p)
    fewer = np.append(0.0, at_most[:-1])
    held = 0.0
    for hits in np.flatnonzero((at_most >= 1e-4) & (fewer < 1 - 1e-4)):
        interval = mean_interval(np.arange(queries) < hits, resamples=1000, seed=int(hits))
        held += (at_most[hits] - fewer[hits]) * (interval.low <= p <= interval.high)
    assert 0.935 <= held <= 0.965


def test_intervals_of_real_valued_metrics_hold_the_truth() -> None:
    # Skewed like average precision: many near 0, some at 1.
    held, _ = coverage(lambda rng: (rng.beta(0.2, 0.8, 400), None), 0.2)
    assert 0.925 <= held <= 0.975


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_intervals_of_clustered_queries_hold_the_truth_and_ignoring_clusters_does_not(p: float) -> None:
    held, ignoring = coverage(lambda rng: hits(rng, rng.poisson(5, 300) + 1, p, similar=0.4), p)
    assert 0.925 <= held <= 0.975
    assert ignoring < 0.85


@pytest.mark.slow
def test_a_few_uneven_clusters_still_give_nearly_honest_intervals() -> None:
    # 49 nouns with very different numbers of queries, as MIT-States has; then ten, as the embedded world has.
    def sizes(rng: np.random.Generator, number: int) -> NDArray[np.int64]:
        return np.maximum(5, rng.lognormal(5, 0.6, number)).astype(np.int64)

    held, ignoring = coverage(lambda rng: hits(rng, sizes(rng, 49), 0.3, similar=0.1), 0.3)
    assert 0.92 <= held <= 0.975
    assert ignoring < 0.6
    held, _ = coverage(lambda rng: hits(rng, sizes(rng, 10), 0.5, similar=0.1), 0.5)
    assert 0.91 <= held <= 0.975
    held, _ = coverage(lambda rng: hits(rng, sizes(rng, 5), 0.5, similar=0.1), 0.5)
    assert 0.92 <= held <= 0.98


def test_the_interval_is_that_of_a_plain_loop_over_resamples() -> None:
    rng = np.random.default_rng(0)
    for number in (40, 700):  # exact multinomial draws, and Poisson weights
        values, clusters = hits(rng, rng.poisson(4, number) + 1, 0.3, similar=0.3)
        assert clusters is not None
        hit, size = np.bincount(clusters, values), np.bincount(clusters)
        means = []
        for _ in range(3000):
            drawn = rng.integers(0, number, number)
            means.append(hit[drawn].sum() / size[drawn].sum())
        interval = mean_interval(values, clusters)
        assert interval.value == values.mean()
        # A percentile of 3,000 draws is known to about 5 % of the width; 40 clusters are set 4 % wider for Student's t.
        low, high = np.quantile(means, [0.025, 0.975])
        width = high - low
        assert interval.low == pytest.approx(low, abs=0.1 * width)
        assert interval.high == pytest.approx(high, abs=0.1 * width)


def test_ten_clusters_get_the_width_that_students_t_gives_them() -> None:
    values = np.random.default_rng(0).normal(size=(10, 40))
    intervals = mean_intervals(values, limits=(-9.0, 9.0))
    student = 2 * stdtrit(9, 0.975) * values.std(axis=0, ddof=1) / np.sqrt(10)
    widths = np.array([interval.high - interval.low for interval in intervals])
    assert np.mean(widths / student) == pytest.approx(1, abs=0.025)


def test_columns_share_resamples_and_agree_with_one_at_a_time() -> None:
    """Up to the last bit of the mean: the resampled sums are exact, whatever shape or thread count the product has."""
    rng = np.random.default_rng(1)
    hits = (rng.random((9000, 11)) < 0.3).astype(float)  # more clusters and columns than one product of a few has
    together = mean_intervals(hits, resamples=60)
    assert together == [mean_interval(column, resamples=60) for column in hits.T]
    fractions = np.concatenate([hits[:, :2], hits[:, 2:4] / 3], axis=1)  # products in float64
    assert mean_intervals(fractions, resamples=60)[:2] == together[:2]

    values = rng.random((400, 3))
    clusters = rng.integers(0, 150, 400)
    together = mean_intervals(values, clusters, resamples=2000, seed=4)
    alone = [mean_interval(column, clusters, resamples=2000, seed=4) for column in values.T]
    for one, other in zip(together, alone, strict=True):
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high), abs=1e-15)
    assert together == mean_intervals(values, clusters, resamples=2000, seed=4)
    assert together != mean_intervals(values, clusters, resamples=2000, seed=5)


def test_clusters_of_one_are_independent_queries_whatever_their_names() -> None:
    values = np.random.default_rng(2).random(500)
    names = np.random.default_rng(3).permutation(10_000)[:500]
    named, plain = mean_interval(values, names), mean_interval(values)
    assert named.value == pytest.approx(plain.value, abs=1e-15)
    assert named.low == pytest.approx(plain.low, abs=0.002)
    assert named.high == pytest.approx(plain.high, abs=0.002)


@given(st.integers(1, 60), st.integers(1, 40), st.integers(0, 1000))
def test_an_interval_surrounds_its_mean_within_the_limits(queries: int, clusters: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, groups = (rng.random(queries) < rng.random()).astype(float), rng.integers(0, clusters, queries)
    interval = mean_interval(values, groups, resamples=500)
    if len(np.unique(groups)) == 1:
        assert np.isnan(interval.low)
        assert np.isnan(interval.high)
    else:
        assert 0 <= interval.low <= interval.value <= interval.high <= 1


def test_what_does_not_vary_has_no_width() -> None:
    for groups in (None, np.arange(300) % 150, np.arange(300) % 4):
        interval = mean_interval(np.full(300, 0.1), groups)
        assert (interval.low, interval.high) == pytest.approx((0.1, 0.1), abs=1e-12)


def test_all_hits_or_none_is_not_certainty() -> None:
    # The exact binomial bound: a true rate of 0.99265 still gives 500 hits of 500 with a chance of 2.5 %.
    every = mean_interval(np.ones(500))
    assert (every.value, every.high) == (1, 1)
    assert every.low**500 == pytest.approx(0.025)
    never = mean_interval(np.zeros(500), np.arange(500) // 10)
    assert (never.value, never.low) == (0, 0)
    assert (1 - never.high) ** 50 == pytest.approx(0.025)


def test_values_that_cannot_be_averaged_are_refused() -> None:
    with pytest.raises(CondsimError, match="query 1 in column 0 is nan"):
        mean_interval([0.5, np.nan])
    with pytest.raises(CondsimError, match="of the same queries, found 3 and 2"):
        mean_interval([0.5, 0.1], np.arange(3))
    with pytest.raises(CondsimError, match=r"expected values \[queries, columns\]"):
        mean_interval([])
