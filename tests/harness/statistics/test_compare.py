"""Paired comparisons: false alarms as often as promised, real differences found, letters that mean what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from condsim.harness.errors import CondsimError
from condsim.harness.statistics.compare import compare, holm, letters_of, sign_flip
from condsim.harness.statistics.letters import letters


def alike_runs(rng: np.random.Generator, runs: int, clusters: int, clustered: bool) -> tuple[NDArray, NDArray]:
    """[Q, runs] hits of equally good methods: queries differ in difficulty, and methods in what they find hard.

    Where ``clustered``, what a method finds hard is shared by the queries of a cluster.
    """
    owner = np.repeat(np.arange(clusters), rng.poisson(5, clusters) + 1)
    taste = rng.normal(size=(clusters, runs))[owner] if clustered else rng.normal(size=(len(owner), runs))
    chance = 1 / (1 + np.exp(-(rng.normal(size=(len(owner), 1)) + 1.5 * taste)))
    return (rng.random(chance.shape) < chance).astype(float), owner


@pytest.mark.parametrize("clustered", [False, True])
def test_the_paired_test_raises_false_alarms_5_times_in_100(clustered: bool) -> None:
    rng = np.random.default_rng(5)
    times, aware, unaware = 500, 0, 0
    for i in range(times):
        values, owner = alike_runs(rng, 2, 80, clustered)
        aware += sign_flip(values, [(0, 1)], owner, 500, seed=i)[0] <= 0.05
        unaware += sign_flip(values, [(0, 1)], None, 500, seed=i)[0] <= 0.05
    assert 0.025 <= aware / times <= 0.075
    if clustered:
        assert unaware / times > 0.15  # so the test above would notice clusters being ignored


def test_a_family_of_equal_runs_is_separated_5_times_in_100() -> None:
    rng = np.random.default_rng(6)
    alarms = 0
    for i in range(300):
        values, owner = alike_runs(rng, 5, 60, clustered=True)
        p = sign_flip(values, [(a, b) for a in range(5) for b in range(a + 1, 5)], owner, 1000, seed=i)
        alarms += holm(p).min() <= 0.05
        assert p.min() < 0.9
    assert 0.01 <= alarms / 300 <= 0.085


def test_p_of_every_sign_pattern() -> None:
    # Six clusters allow 64 patterns of signs: the p of all of them, counted by hand in a loop.
    rng = np.random.default_rng(2)
    values, owner = rng.random((40, 2)), np.arange(40) % 6
    differences = np.bincount(owner, weights=values[:, 0] - values[:, 1])
    signs = 1 - 2 * ((np.arange(64)[:, None] >> np.arange(6)) & 1)
    exact = np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12)
    assert sign_flip(values, [(0, 1)], owner, 20_000, seed=0)[0] == pytest.approx(exact, abs=0.015)
    # Always better: only the two patterns of equal signs are as extreme.
    better = np.stack([np.ones(40), np.zeros(40)], axis=1)
    assert sign_flip(better, [(0, 1)], owner, 20_000, seed=0)[0] == pytest.approx(2 / 64, abs=0.005)


def test_identical_runs_are_not_separable() -> None:
    column = np.random.default_rng(0).random(200)
    result = compare({"one": column, "other": column.copy()})
    assert result.pairs[0].p == 1
    assert result.pairs[0].difference.value == 0
    assert (result.letters, result.best) == (("a", "a"), ("one", "other"))


def test_runs_are_ordered_tested_and_lettered() -> None:
    rng = np.random.default_rng(1)
    luck = rng.random(3000)
    clusters = np.arange(3000) // 3
    values = {name: (luck < rate).astype(float) for name, rate in (("weak", 0.2), ("good", 0.5), ("middle", 0.35))}
    values["good too"] = np.where(rng.random(3000) < 0.01, 1 - values["good"], values["good"])
    result = compare(values, clusters)
    assert set(result.best) == {"good", "good too"}
    assert result.runs[2:] == ("middle", "weak")
    assert result.letters == ("a", "a", "b", "c")
    assert letters_of(values, clusters) == dict(zip(result.runs, result.letters, strict=True))
    assert [interval.value for interval in result.intervals] == [values[name].mean() for name in result.runs]
    assert len(result.pairs) == 6
    for pair in result.pairs:
        difference = values[pair.first].mean() - values[pair.second].mean()
        assert pair.difference.value == pytest.approx(difference, abs=1e-12)
        assert pair.difference.low <= difference <= pair.difference.high
        assert pair.p <= pair.adjusted
        same = {pair.first, pair.second} == {"good", "good too"}
        assert (pair.adjusted > 0.05) == same
        assert (pair.difference.low <= 0) == same
    assert compare(values, clusters) == result


def test_pairing_finds_what_separate_intervals_hide() -> None:
    # The better run wins 60 queries of 2,000 and loses none; their own intervals overlap widely.
    rng = np.random.default_rng(3)
    base = (rng.random(2000) < 0.4).astype(float)
    better = base.copy()
    better[np.flatnonzero(base == 0)[:60]] = 1
    result = compare({"base": base, "better": better})
    assert result.intervals[0].low < result.intervals[1].high
    assert result.best == ("better",)


def test_many_runs_can_still_be_separated() -> None:
    # 300 pairs: 10,000 permutations could not bring any of them below 0.03 after Holm's correction.
    rng = np.random.default_rng(4)
    values = {f"run {i}": (rng.random(400) < 0.3).astype(float) for i in range(24)} | {"winner": np.ones(400)}
    result = compare(values)
    assert result.best == ("winner",)
    assert result.pairs[0].adjusted < 0.015


def test_one_run_is_its_own_best() -> None:
    result = compare({"only": [0.0, 1.0, 1.0]})
    assert (result.runs, result.pairs, result.letters, result.best) == (("only",), (), ("a",), ("only",))


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.5, 0.9])), [1.0, 1.0])
    assert holm(np.zeros(0)).shape == (0,)


@given(st.integers(1, 7), st.integers(0, 10**6))
def test_runs_share_a_letter_exactly_where_they_are_alike(runs: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    alike = rng.random((runs, runs)) < rng.random()
    alike = np.triu(alike, 1) | np.triu(alike, 1).T | np.eye(runs, dtype=bool)
    shown = letters(alike)
    assert "a" in shown[0]
    for i in range(runs):
        assert shown[i]
        for j in range(runs):
            assert bool(set(shown[i]) & set(shown[j])) == alike[i, j]
    # No letter says what another already says.
    columns = [{i for i in range(runs) if letter in shown[i]} for letter in set("".join(shown))]
    assert not any(one < other for one in columns for other in columns)


def test_runs_that_do_not_belong_together_are_named() -> None:
    with pytest.raises(CondsimError, match="run b has 3 queries, the others 2"):
        compare({"a": [0.0, 1.0], "b": [0.0, 1.0, 1.0]})
    with pytest.raises(CondsimError, match="run b: the value of query 1 is not a finite number"):
        compare({"a": [0.0, 1.0], "b": [0.0, np.nan]})
    with pytest.raises(CondsimError, match="nothing to compare"):
        compare({})
