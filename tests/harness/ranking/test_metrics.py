"""Metrics against every order that ties allow, against closed forms, and against scikit-learn's conventions by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import chain, groupby, permutations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from condsim.harness.errors import CondsimError
from condsim.harness.ranking.metrics import chance_level, needs_complete, per_query
from condsim.harness.ranking.ranks import Ranks


def ranks_of(scores: list[list[float]], relevant: list[list[bool]], complete: bool = True) -> Ranks:
    """Ranks by the definition, one group after another."""
    offsets, groups, total = [0], [], []
    for row, flags in zip(scores, relevant, strict=True):
        levels = sorted({score for score, flag in zip(row, flags, strict=True) if flag}, reverse=True)
        for level in levels if complete else levels[:1]:
            hits = sum(flag for score, flag in zip(row, flags, strict=True) if score == level)
            groups.append((sum(score > level for score in row), hits, row.count(level) - hits))
        offsets.append(len(groups))
        total.append(sum(flags))
    above, tied, others = (np.array(column, dtype=np.int64) for column in zip(*groups, strict=True))
    sizes = np.array([len(row) for row in scores], dtype=np.int64)
    return Ranks(np.array(offsets), above, tied, others, np.array(total), sizes, complete)


def in_order(metric: str, flags: list[bool]) -> float:
    """The textbook metric of one order of candidates without ties."""
    family, _, cut = metric.partition("@")
    k = int(cut) if cut else len(flags)
    if family in ("map_r", "r_precision"):
        k = sum(flags)
    top, total = flags[:k], sum(flags)
    if family == "recall_share":
        return sum(top) / total
    if family in ("precision", "r_precision"):
        return sum(top) / min(total, k)
    if family == "mp":
        last = min(k, max(place for place, flag in enumerate(flags, 1) if flag))
        return sum(flags[:last]) / last
    if family.startswith("map_trapezoid"):
        places = [place for place, flag in enumerate(flags) if flag]  # from 0, as in revisitop
        both = [(j / place if place else 1.0) + (j + 1) / (place + 1) for j, place in enumerate(places)]
        return sum(both) / 2 / (total + (1e-5 if family.endswith("_eps") else 0))
    if family == "recall":
        return float(any(top))
    if family == "mrr":
        return 1 / (1 + top.index(True)) if any(top) else 0.0
    if family in ("map", "map_r"):
        precisions = [sum(top[: i + 1]) / (i + 1) for i, flag in enumerate(top) if flag]
        return sum(precisions) / min(total, k)
    gain = sum(1 / math.log2(i + 2) for i, flag in enumerate(top) if flag)
    return gain / sum(1 / math.log2(i + 2) for i in range(min(total, k)))


def over_all_orders(metric: str, scores: list[float], flags: list[bool]) -> float:
    """The mean of a metric over every order in which equal scores may come."""
    best_first = sorted(zip(scores, flags, strict=True), key=lambda pair: -pair[0])
    tied = [[flag for _, flag in group] for _, group in groupby(best_first, key=lambda pair: pair[0])]
    orders = product(*([list(order) for order in permutations(group)] for group in tied))
    return float(np.mean([in_order(metric, list(chain(*order))) for order in orders]))


METRICS = (
    *("recall@1", "recall@2", "recall@5", "mrr", "mrr@2", "map", "map@1", "map@3", "ndcg", "ndcg@1", "ndcg@3"),
    *("recall_share@1", "recall_share@2", "recall_share@5", "precision@1", "precision@3", "precision@5"),
    *("mp@1", "mp@2", "mp@3", "mp@5", "map_r", "r_precision", "map_trapezoid", "map_trapezoid_eps"),
)
lists = st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=6).filter(
    lambda pairs: any(flag for _, flag in pairs)
)


@given(st.lists(lists, min_size=1, max_size=3))
def test_every_metric_is_its_mean_over_all_orders_of_ties(queries: list[list[tuple[int, bool]]]) -> None:
    scores = [[float(score) for score, _ in query] for query in queries]
    relevant = [[flag for _, flag in query] for query in queries]
    ranks, first_only = ranks_of(scores, relevant), ranks_of(scores, relevant, complete=False)
    for metric in METRICS:
        expected = [over_all_orders(metric, *query) for query in zip(scores, relevant, strict=True)]
        np.testing.assert_allclose(per_query(metric, ranks), expected, atol=1e-12, err_msg=metric)
        if not needs_complete([metric]):
            np.testing.assert_array_equal(per_query(metric, first_only), per_query(metric, ranks))


TARGET_METRICS = ("target_recall@1", "target_recall@3", "target_mrr", "target_map", "target_ndcg@2")


@given(lists, st.data())
def test_the_metrics_of_a_target_see_the_other_positives_as_any_candidate(
    query: list[tuple[int, bool]], data: st.DataObject
) -> None:
    scores, flags = [float(score) for score, _ in query], [flag for _, flag in query]
    target = data.draw(st.sampled_from([i for i, flag in enumerate(flags) if flag]))
    levels = sorted({score for score, flag in zip(scores, flags, strict=True) if flag}, reverse=True)
    ranks = replace(ranks_of([scores], [flags]), target=np.array([levels.index(scores[target])]))
    alone = [i == target for i in range(len(flags))]
    for metric in TARGET_METRICS:
        expected = over_all_orders(metric.removeprefix("target_"), scores, alone)
        assert per_query(metric, ranks)[0] == pytest.approx(expected, abs=1e-12), metric
        constant = over_all_orders(metric.removeprefix("target_"), [0.0] * len(scores), alone)
        assert chance_level(metric, ranks) == pytest.approx(constant, abs=1e-12), metric


def test_ranks_keep_their_targets_when_taken_joined_and_saved(tmp_path: Path) -> None:
    scores, flags = [[3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0]], [[True, False, True, False], [True, True, False]]
    ranks = replace(ranks_of(scores, flags), target=np.array([1, 0]))
    np.testing.assert_allclose(per_query("target_mrr", ranks), [1 / 3, 1 / 2])
    turned = ranks.take(np.array([1, 0]))
    np.testing.assert_allclose(per_query("target_mrr", turned), [1 / 2, 1 / 3])
    np.testing.assert_allclose(per_query("target_mrr", Ranks.join([turned, ranks])), [1 / 2, 1 / 3, 1 / 3, 1 / 2])
    ranks.save(tmp_path / "ranks.npz")
    np.testing.assert_allclose(per_query("target_mrr", Ranks.load(tmp_path / "ranks.npz")), [1 / 3, 1 / 2])
    replace(ranks, target=np.array([2, 0])).save(tmp_path / "wrong.npz")
    with pytest.raises(CondsimError, match="targets"):
        Ranks.load(tmp_path / "wrong.npz")


def test_metrics_of_one_ranking_by_hand() -> None:
    """Positives at places 1, 3 and 6 of 8: every number can be checked on paper."""
    ranks = ranks_of([[-float(i) for i in range(8)]], [[True, False, True, False, False, True, False, False]])
    expected = {
        "map": (1 / 1 + 2 / 3 + 3 / 6) / 3,
        "map@3": (1 / 1 + 2 / 3) / 3,
        "map_r": (1 / 1 + 2 / 3) / 3,
        "map_trapezoid": ((1 + 1) / 2 + (1 / 2 + 2 / 3) / 2 + (2 / 5 + 3 / 6) / 2) / 3,
        "map_trapezoid_eps": ((1 + 1) / 2 + (1 / 2 + 2 / 3) / 2 + (2 / 5 + 3 / 6) / 2) / (3 + 1e-5),
        "recall@2": 1.0,
        "recall_share@2": 1 / 3,
        "recall_share@3": 2 / 3,
        "precision@2": 1 / 2,
        "precision@5": 2 / 3,
        "precision@100": 1.0,
        "mp@5": 2 / 5,
        "mp@10": 3 / 6,
        "r_precision": 2 / 3,
    }
    for metric, value in expected.items():
        assert per_query(metric, ranks)[0] == pytest.approx(value, abs=1e-12), metric


def test_a_tie_by_hand() -> None:
    """A positive and an irrelevant candidate share places 1 and 2, a second positive is third."""
    ranks = ranks_of([[1.0, 1.0, 0.0]], [[True, False, True]])
    first, second = ((1 + 1) / 2 + (1 / 2 + 2 / 3) / 2) / 2, ((0 + 1 / 2) / 2 + (1 / 2 + 2 / 3) / 2) / 2
    assert per_query("map_trapezoid", ranks)[0] == pytest.approx((first + second) / 2, abs=1e-12)
    assert per_query("recall_share@1", ranks)[0] == pytest.approx((1 / 2 + 0) / 2)
    assert per_query("r_precision", ranks)[0] == pytest.approx(1 / 2)
    assert per_query("mp@3", ranks)[0] == pytest.approx(2 / 3)


def test_a_large_tie_agrees_with_shuffling_for_the_new_metrics() -> None:
    m, n, above = 12, 90, 5
    scores = np.array([2.0] * above + [1.0] * (m + n) + [0.0] * 3)
    flags = np.array([True, False, True, False, False] + [True] * m + [False] * (n + 3))
    ranks = ranks_of([scores.tolist()], [flags.tolist()])
    rng = np.random.default_rng(1)
    orders = [flags[np.lexsort((rng.random(len(scores)), -scores))].tolist() for _ in range(1500)]
    for metric in ("map_trapezoid", "mp@100", "mp@105", "map_r", "r_precision", "recall_share@30", "precision@30"):
        drawn = [in_order(metric, order) for order in orders]
        error = 4.5 * np.std(drawn) / math.sqrt(len(drawn))
        assert per_query(metric, ranks)[0] == pytest.approx(np.mean(drawn), abs=float(error)), metric


def test_grouped_recall_needs_every_query_of_a_group() -> None:
    scores = [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.5, 0.5], [1.0, 0.0]]
    ranks = ranks_of(scores, [[True, False]] * 6)
    pairs = np.array([7, 7, 3, 3, 5, 5])
    np.testing.assert_allclose(per_query("grouped_recall@1", ranks, None, pairs), [0, 0, 1, 1, 0.5, 0.5])
    np.testing.assert_allclose(per_query("grouped_recall@2", ranks, None, pairs), np.ones(6))
    assert chance_level("grouped_recall@1", ranks, None, pairs) == pytest.approx(1 / 4), "two guesses among two"
    with pytest.raises(CondsimError, match="needs a task with clusters"):
        per_query("grouped_recall@1", ranks)
    with pytest.raises(CondsimError, match="groups of one size, and these have 1 to 3"):
        per_query("grouped_recall@1", ranks, None, np.array([0, 0, 0, 1, 2, 2]))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("recall@0", "K must be a whole number from 1"),
        ("recall@-5", "K must be a whole number from 1"),
        ("precision@1.5", "K must be a whole number from 1"),
        ("recall_share@99999999999999999999", "K must be a whole number from 1"),
        ("recall_share", "Did you mean 'recall_share@10'?"),
        ("map_trapezoid@10", "map_trapezoid has no K. Did you mean 'map_trapezoid'?"),
        ("subset_map_r@5", "Did you mean 'subset_map_r'?"),
        ("map_trapez", "'map_trapezoid'"),
        ("grouped_map", "there is no metric"),
        ("targetrecall@5", "'target_recall@5'"),
    ],
)
def test_a_wrong_k_or_name_says_what_to_write(name: str, hint: str) -> None:
    with pytest.raises(CondsimError, match="there is no metric") as caught:
        needs_complete([name])
    assert hint in str(caught.value)


def test_a_target_metric_needs_targets() -> None:
    with pytest.raises(CondsimError, match="needs a task with a single target per query"):
        per_query("target_recall@1", ranks_of([[0.0]], [[True]]))
    with pytest.raises(CondsimError, match="only the first"):
        per_query("target_recall@1", ranks_of([[0.0]], [[True]], complete=False))


def test_a_constant_scorer_gets_exactly_k_of_the_candidates() -> None:
    for size in (10, 15, 2297):
        ranks = ranks_of([[0.5] * size], [[True] + [False] * (size - 1)])
        for k in (1, 2, 3, 50):
            assert per_query(f"recall@{k}", ranks)[0] == min(1.0, k / size)
        assert ranks.rank[0] == (size + 1) / 2


def test_many_relevant_in_a_large_tie_agree_with_the_hypergeometric_distribution() -> None:
    m, n, above = 40, 3000, 7
    ranks = ranks_of([[1.0] * above + [0.0] * (m + n)], [[False] * above + [True] * m + [False] * n])
    for k in (1, 7, 8, 30, 500, 3046, 3047):
        j = max(0, k - above)
        missed = math.comb(n, j) / math.comb(m + n, j)
        assert per_query(f"recall@{k}", ranks)[0] == pytest.approx(1 - missed, abs=1e-12)
    places = range(1, n + 2)
    reciprocal = sum(math.comb(m + n - p, m - 1) / math.comb(m + n, m) / (above + p) for p in places)
    assert per_query("mrr", ranks)[0] == pytest.approx(reciprocal, abs=1e-12)


def test_average_precision_of_a_large_tie_agrees_with_shuffling() -> None:
    m, n, above = 30, 200, 5
    scores = np.array([2.0] * above + [1.0] * (m + n) + [0.0] * 3)
    flags = np.array([True, False, True, False, False] + [True] * m + [False] * (n + 1) + [True, False])
    ranks = ranks_of([scores.tolist()], [flags.tolist()])
    rng = np.random.default_rng(0)
    for metric in ("map", "map@50", "ndcg@50", "mrr"):
        drawn = []
        for _ in range(1500):
            order = np.lexsort((rng.random(len(scores)), -scores))
            drawn.append(in_order(metric, flags[order].tolist()))
        error = 4.5 * np.std(drawn) / math.sqrt(len(drawn))
        assert per_query(metric, ranks)[0] == pytest.approx(np.mean(drawn), abs=float(error))


def test_map_at_k_divides_by_what_can_be_reached() -> None:
    # 60 relevant, the first 50 places all relevant: 1 under ILIAS's and INQUIRE's min(R, K), 50 / 60 over R.
    flags = [True] * 50 + [False] * 10 + [True] * 10
    ranks = ranks_of([[-float(i) for i in range(len(flags))]], [flags])
    assert per_query("map@50", ranks)[0] == pytest.approx(1.0)
    assert per_query("ndcg@50", ranks)[0] == pytest.approx(1.0)
    assert per_query("map", ranks)[0] < 1.0


def test_published_chance_levels() -> None:
    genecis = ranks_of([[0.0, *map(float, range(9))]], [[True] + [False] * 9])
    assert chance_level("recall@1", genecis) == 0.1
    cirr_subset = ranks_of([[5.0, 1.0, 2.0, 3.0, 4.0]], [[True] + [False] * 4])
    for k, percent in ((1, 20), (2, 40), (3, 60)):
        assert 100 * chance_level(f"subset_recall@{k}", genecis, cirr_subset) == pytest.approx(percent)


def test_subset_metrics_read_the_subset() -> None:
    ranks = ranks_of([[0.0, 1.0, 2.0]], [[True, False, False]])
    subset = ranks_of([[0.0, 1.0]], [[True, False]])
    assert per_query("recall@2", ranks, subset)[0] == 0
    assert per_query("subset_recall@2", ranks, subset)[0] == 1
    with pytest.raises(CondsimError, match="subset"):
        per_query("subset_recall@1", ranks)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("recal@5", "'recall@5'"), ("recall", "recall@10"), ("recall@0", "recall@"), ("mAP", "'map'"), ("", "Choose one")],
)
def test_an_unknown_metric_names_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(CondsimError, match="there is no metric") as caught:
        per_query(name, ranks_of([[0.0]], [[True]]))
    assert hint in str(caught.value)
    with pytest.raises(CondsimError):
        needs_complete(["map", name])


def test_metrics_over_the_whole_ranking_refuse_first_hits() -> None:
    first_only = ranks_of([[0.0, 1.0]], [[True, True]], complete=False)
    assert needs_complete(["recall@1", "map@50"])
    assert not needs_complete(["recall@1", "mrr", "subset_recall@3"])
    for metric in ("map", "ndcg@10"):
        with pytest.raises(CondsimError, match="only the first"):
            per_query(metric, first_only)


def test_withheld_ground_truth_is_refused() -> None:
    nothing = np.zeros(0, dtype=np.int64)
    withheld = Ranks(np.array([0, 0]), nothing, nothing, nothing, np.array([0]), np.array([9]), complete=True)
    with pytest.raises(CondsimError, match="ground truth withheld"):
        per_query("recall@1", withheld)
    with pytest.raises(CondsimError, match="ground truth withheld"):
        _ = withheld.rank


@pytest.mark.parametrize("metric", METRICS)
def test_a_query_without_positives_counts_zero_beside_others(metric: str) -> None:
    scores, flags = [[3.0, 2.0, 1.0], [2.0, 2.0, 1.0]], [[False, True, True], [True, False, False]]
    answerable = ranks_of(scores, flags)
    both = Ranks.join([answerable.take(np.array([0])), _without_positives(5), answerable.take(np.array([1]))])
    expected = per_query(metric, answerable)
    np.testing.assert_allclose(per_query(metric, both), [expected[0], 0, expected[1]])
    assert chance_level(metric, both) == pytest.approx(chance_level(metric, answerable) * 2 / 3)
    assert both.rank.tolist() == [2.0, 6.0, 1.5], "behind every candidate"


def _without_positives(candidates: int) -> Ranks:
    nothing, zero = np.zeros(0, dtype=np.int64), np.zeros(1, dtype=np.int64)
    return Ranks(np.zeros(2, dtype=np.int64), nothing, nothing, nothing, zero, zero + candidates, complete=True)


def test_means_over_clusters_weigh_each_cluster_alike() -> None:
    generator = np.random.default_rng(3)
    scores = generator.integers(0, 5, (30, 8)).astype(float)
    flags = np.eye(8, dtype=bool)[generator.integers(0, 8, 30)]
    ranks, clusters = ranks_of(scores.tolist(), flags.tolist()), generator.integers(0, 6, 30)
    values = per_query("map", ranks)
    of_cluster = [values[clusters == cluster] for cluster in np.unique(clusters)]
    for metric, reduced in (("cluster_map", np.mean), ("cluster_min_map", np.min)):
        expected = np.mean([reduced(part) for part in of_cluster])
        assert per_query(metric, ranks, None, clusters).mean() == pytest.approx(expected)
