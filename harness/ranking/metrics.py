"""Metrics of a ranking: expected values under a random order of equal scores. They read ranks and nothing else.

A constant scorer gets exactly the chance level, and the order of a file changes no number. Places: a group of m
relevant and n irrelevant candidates of equal score has the places above + 1 ... above + m + n.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from condsim.harness.errors import CondsimError, did_you_mean
from condsim.harness.ranking.ranks import Ranks
from condsim.harness.task import Rows

Values = NDArray[np.float64]


def per_query(
    metric: str, ranks: Ranks, subset_ranks: Ranks | None = None, groups: NDArray[np.integer[Any]] | None = None
) -> Values:
    """[Q] the value of ``metric`` for each query, in [0, 1]. n: the query's relevant candidates ("positives").

    ``recall@K``: the chance that at least one positive is in the top K (CIRR, FashionIQ, GeneCIS; "hit rate").
    ``recall_share@K``: the share of the positives in the top K (Pic2Word's domain conversion; FreeDom's R@K, which
    divides by n + 1e-5).
    ``precision@K``: positives in the top K over min(n, K), which is what can be reached (FreeDom's P@K, which divides
    by min(n, K) + 1e-5). ``mp@K``: over min(place of the last positive, K) (revisitop's mP@K).
    ``r_precision``: the share of positives in the top n (R-precision of pytorch-metric-learning).
    ``mrr``, ``mrr@K``: 1 / place of the first positive, 0 behind K.
    ``map``, ``map@K``: average precision over min(n, K) (CIRCO's, ILIAS's and INQUIRE's code; GLDv2's map@100).
    ``map_r``: ``map@K`` with K = n (MAP@R of Musgrave et al., ECCV 2020; pytorch-metric-learning).
    ``map_trapezoid``: average precision by trapezoids under the precision-recall curve (revisitop's ``compute_ap``).
    ``map_trapezoid_eps``: the same divided by n + 1e-5 instead of n (i-CIR's and FreeDom's ``compute_ap``).
    ``ndcg``, ``ndcg@K``: binary gains, 1 / log2(1 + place), over the best possible order.

    ``subset_`` before any of them: the same within the task's subsets, from ``subset_ranks``. ``target_`` before any of
    them: with the query's single target as its only positive; the others rank as any candidate (CIRCO's Recall@K is
    ``target_recall@K``). ``grouped_recall@K``: the chance that every query of the query's group has a positive in its
    top K; ``groups`` [Q] numbers the groups, all of one size (the group score of COLA and Winoground is
    ``grouped_recall@1``). Equal scores of two queries are ordered independently.

    ``cluster_`` before any of them: the mean over the task's clusters of each cluster's mean; ``cluster_min_``: of the
    least value in each cluster (i-CIR's mmAP and minmAP are those of ``map_trapezoid_eps``). Each query's value is then
    weighted so that the mean over queries is that mean over clusters, so it may exceed 1; ``groups`` are the clusters.

    A query without positives counts 0, as in FreeDom's and Pic2Word's code; most tasks refuse such queries.

    Raises CondsimError for an unknown metric, for one over the whole ranking where ranks hold only the first hits, and
    where the ground truth is withheld.
    """
    parsed = _parse(metric)
    source = subset_ranks if parsed.prefix == "subset" else ranks
    if source is None:
        raise CondsimError(f"metric {metric!r} needs a task with subsets, and this one has none")
    if parsed.complete and not source.complete:
        raise CondsimError(f"metric {metric!r} needs every relevant candidate's rank, and only the first was kept")
    known = np.flatnonzero(source.total)
    if not len(known):
        raise CondsimError("no query has a known relevant candidate, so there is no metric: ground truth withheld?")
    if parsed.prefix == "target" and source.target is None:
        raise CondsimError(f"metric {metric!r} needs a task with a single target per query, and this one has none")
    values = np.zeros(len(source))
    answerable = source if len(known) == len(source) else source.take(known)
    answerable = answerable.of_target() if parsed.prefix == "target" else answerable
    values[known] = _FAMILIES[parsed.family].compute(answerable, parsed.k)
    if parsed.prefix == "grouped":
        return _whole_groups(metric, values, groups)
    return _weighted_by_cluster(metric, values, groups) if averages_clusters(metric) else values


def averages_clusters(metric: str) -> bool:
    """Whether ``metric`` is a mean over clusters of queries rather than over queries."""
    return _parse(metric).prefix in ("cluster", "cluster_min")


def chance_level(
    metric: str, ranks: Ranks, subset_ranks: Ranks | None = None, groups: NDArray[np.integer[Any]] | None = None
) -> float:
    """What a constant scorer gets on average over the queries: exact, K / candidates for recall with one relevant."""
    subset = None if subset_ranks is None else _uninformed(subset_ranks)
    return float(per_query(metric, _uninformed(ranks), subset, groups).mean())


def needs_complete(metrics: Iterable[str]) -> bool:
    """Whether any of ``metrics`` reads every relevant candidate's rank. Raises CondsimError for an unknown one."""
    parsed = [_parse(metric) for metric in metrics]  # all of them, so that each name is checked
    return any(metric.complete for metric in parsed)


@dataclass(frozen=True)
class _Metric:
    family: str
    k: int | None
    prefix: str | None

    @property
    def complete(self) -> bool:
        return _FAMILIES[self.family].complete or self.prefix == "target"


@dataclass(frozen=True)
class _Family:
    compute: Callable[[Ranks, int | None], Values]
    complete: bool
    cut: Literal["always", "optional", "never"] = "optional"
    """Whether ``@K`` follows the name."""


_PREFIXES = ("subset", "target", "grouped", "cluster_min", "cluster")  # the longer of two that begin alike first
_MAX_K = 10**9


def _parse(metric: str) -> _Metric:
    match = re.fullmatch(rf"(?:({'|'.join(_PREFIXES)})_)?([a-z_]+)(?:@(.*))?", metric)
    if not match or match[2] not in _FAMILIES or (match[1] == "grouped" and match[2] != "recall"):
        raise CondsimError(f"there is no metric {metric!r}. {did_you_mean(metric.lower(), _choices(metric))}")
    prefix, family, cut = match.groups()
    name = metric.partition("@")[0]
    if cut is None:
        if _FAMILIES[family].cut == "always":
            raise CondsimError(f"there is no metric {metric!r} without a K. Did you mean '{name}@10'?")
        return _Metric(family, None, prefix)
    if _FAMILIES[family].cut == "never":
        raise CondsimError(f"there is no metric {metric!r}: {family} has no K. Did you mean {name!r}?")
    if not re.fullmatch(r"[1-9][0-9]{0,9}", cut) or int(cut) > _MAX_K:
        raise CondsimError(
            f"there is no metric {metric!r}: K must be a whole number from 1 to {_MAX_K:,}, as in '{name}@10'"
        )
    return _Metric(family, int(cut), prefix)


def _choices(metric: str) -> list[str]:
    """Every name that could be meant, with the K of ``metric`` where it has one."""
    digits = re.search(r"[1-9][0-9]*", metric)
    k = digits[0] if digits else "10"
    cut = [f"{name}@{k}" for name, family in _FAMILIES.items() if family.cut != "never"]
    plain = cut + [name for name, family in _FAMILIES.items() if family.cut != "always"]
    return (
        plain
        + [f"{prefix}_{name}" for prefix in _PREFIXES if prefix != "grouped" for name in plain]
        + [f"grouped_recall@{k}"]
    )


def _uninformed(ranks: Ranks) -> Ranks:
    uninformed = Ranks.uninformed(ranks.total, ranks.candidates)
    return uninformed if ranks.target is None else replace(uninformed, target=np.zeros_like(ranks.target))


def _whole_groups(metric: str, values: Values, groups: NDArray[np.integer[Any]] | None) -> Values:
    """[Q] the product of ``values``, chances of independent events, over each query's group."""
    if groups is None:
        raise CondsimError(f"metric {metric!r} needs a task with clusters, whose queries belong together")
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if sizes.min() < sizes.max():
        raise CondsimError(
            f"metric {metric!r} needs groups of one size, and these have {sizes.min()} to {sizes.max()} queries: "
            "leave out every query of an incomplete group"
        )
    product = np.ones(len(sizes))
    np.multiply.at(product, group, values)
    return product[group]


def _weighted_by_cluster(metric: str, values: Values, clusters: NDArray[np.integer[Any]] | None) -> Values:
    """[Q] weighted so that their mean is the mean over clusters of the cluster's mean or least value."""
    if clusters is None:
        raise CondsimError(f"metric {metric!r} needs a task with clusters of queries, and this one has none")
    _, cluster, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    if _parse(metric).prefix == "cluster_min":
        least = np.full(len(sizes), np.inf)
        np.minimum.at(least, cluster, values)
        values = least[cluster]
    return np.asarray(values * len(values) / (len(sizes) * sizes[cluster]))


def _recall(ranks: Ranks, k: int | None) -> Values:
    """1 - C(n, j) / C(m + n, j): the group's first j places miss all m relevant ones with that chance."""
    assert k is not None
    first = ranks.first
    m, n = first.relevant, first.irrelevant
    places = np.clip(k - first.above, 0, m + n)
    hit = np.minimum(places / (n + 1.0), 1.0)
    tied = np.flatnonzero((m > 1) & (n > 0) & (places > 0))
    hit[tied] = 1.0 - _of_each(_miss, m[tied], n[tied], places[tied])
    return hit


def _miss(m: int, n: int, j: int) -> float:
    if j > n:
        return 0.0
    # Two forms of C(n, j) / C(m + n, j) as a product; the shorter one.
    steps = np.arange(min(m, j))
    return float(np.prod((n - steps) / (n + m - steps) if j <= m else (n - j + 1 + steps) / (n + 1 + steps)))


def _reciprocal(ranks: Ranks, k: int | None) -> Values:
    """The expected 1 / place of a group's first relevant one; that is its p-th with C(m+n-p, m-1) / C(m+n, m)."""
    first = ranks.first
    places = _places(first.above, first.relevant + first.irrelevant, k)
    value = _harmonic(first.above, places) / (first.irrelevant + 1.0)
    tied = np.flatnonzero(first.relevant > 1)
    groups = first.above[tied], first.relevant[tied], first.irrelevant[tied]
    value[tied] = _of_each(lambda above, m, n: _first_of_tied(above, m, n, k), *groups)
    return value


def _of_each(function: Callable[..., float], *columns: NDArray[np.int64]) -> Values:
    """[N] ``function`` of the N rows of ``columns``, called once for each distinct row: many queries are alike."""
    distinct, which = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    values = [function(*row) for row in distinct.tolist()]
    return np.array(values, dtype=np.float64)[which.reshape(-1)]


def _first_of_tied(above: int, m: int, n: int, k: int | None) -> float:
    chance = _chance_of_first(m, n)
    place = above + np.arange(1, n + 2)
    if k is not None:
        chance = np.where(place <= k, chance, 0.0)
    return float(np.sum(chance / place))


def _chance_of_first(m: int, n: int) -> Values:
    """[n + 1] the chance that the first of m relevant candidates among n others is the p-th, p = 1 ... n + 1."""
    p = np.arange(1, n + 1)
    return np.asarray(m / (m + n) * np.cumprod(np.concatenate([[1.0], (n - p + 1) / (m + n - p)])))


def _average_precision(ranks: Ranks, k: int | None) -> Values:
    return _cut_average_precision(ranks, None if k is None else np.full(len(ranks), k))


def _average_precision_at_r(ranks: Ranks, k: int | None) -> Values:
    return _cut_average_precision(ranks, ranks.total)


def _cut_average_precision(ranks: Ranks, cut: Rows | None) -> Values:
    """Expected average precision with ties in closed form (McSherry and Najork, ECIR 2008, equation 4).

    ``cut`` [Q]: the places that count. The i-th place of a group holds a relevant candidate with chance m / (m + n),
    and then r + 1 + (i - 1) (m - 1) / (m + n - 1) relevant ones are expected up to it, r of them above the group;
    summed with harmonic numbers.
    """
    m, size = ranks.relevant.astype(float), ranks.relevant + ranks.irrelevant
    before = _relevant_above(ranks)
    places = size if cut is None else np.clip(cut[ranks.owner] - ranks.above, 0, size)
    harmonic = _harmonic(ranks.above, places)
    growth = (m - 1) / np.maximum(size - 1, 1)
    gain = m / size * ((before + 1) * harmonic + growth * (places - (ranks.above + 1) * harmonic))
    return _sum_groups(ranks, gain) / (ranks.total if cut is None else np.minimum(ranks.total, cut))


def _trapezoids(ranks: Ranks, k: int | None) -> Values:
    """Expected (p0 + p1) / 2 over the positives, p0 = j / r and p1 = (j + 1) / (r + 1), ties in closed form.

    r is the zero-based rank of the j-th positive (from 0), and p0 = 1 at r = 0. The mean of p1 is plain average
    precision. For p0, the i-th place of a group (r = above + i - 1) has j = b + (i - 1) (m - 1) / (m + n - 1) expected
    positives above it, b of them above the group.
    """
    m, size = ranks.relevant.astype(float), ranks.relevant + ranks.irrelevant
    growth = (m - 1) / np.maximum(size - 1, 1)
    leads = ranks.above == 0
    harmonic = _harmonic(np.maximum(ranks.above - 1, 0), np.where(leads, 0, size))
    sums = (_relevant_above(ranks) - ranks.above * growth) * harmonic + growth * size
    lower = _sum_groups(ranks, m / size * np.where(leads, 1 + growth * (size - 1), sums)) / ranks.total
    return (lower + _average_precision(ranks, None)) / 2


def _trapezoids_eps(ranks: Ranks, k: int | None) -> Values:
    return _trapezoids(ranks, k) * ranks.total / (ranks.total + 1e-5)


def _share(ranks: Ranks, k: int | None) -> Values:
    return _hits(ranks, k) / ranks.total


def _precision(ranks: Ranks, k: int | None) -> Values:
    return np.asarray(_hits(ranks, k) / _reachable(ranks, k))


def _r_precision(ranks: Ranks, k: int | None) -> Values:
    size = ranks.relevant + ranks.irrelevant
    places = np.clip(ranks.total[ranks.owner] - ranks.above, 0, size)
    return _sum_groups(ranks, ranks.relevant / size * places) / ranks.total


def _precision_to_last(ranks: Ranks, k: int | None) -> Values:
    """Expected hits in the top min(L, K) over min(L, K), L the place of the last positive.

    Where L < K all n positives are hits, which gives n / L; elsewhere the hits in the top K are over K. In a group of
    m positives and n others, L is the p-th place from its end as often as the first positive is the p-th from its
    beginning.
    """
    assert k is not None
    last = ranks.offsets[1:] - 1
    value = _hits(ranks, k) / k
    for i in np.flatnonzero(ranks.above[last] + ranks.relevant[last] < k):
        m, n = int(ranks.relevant[last[i]]), int(ranks.irrelevant[last[i]])
        place = int(ranks.above[last[i]]) + m + n - np.arange(n + 1)
        chance = np.where(place < k, _chance_of_first(m, n), 0.0)
        value[i] += ranks.total[i] * float(np.sum(chance * (1 / place - 1 / k)))
    return value


def _ndcg(ranks: Ranks, k: int | None) -> Values:
    """Expected binary nDCG with ties (McSherry and Najork, ECIR 2008): a group shares the discounts of its places."""
    size = ranks.relevant + ranks.irrelevant
    start = ranks.above if k is None else np.minimum(ranks.above, k)
    last = start + _places(ranks.above, size, k)
    ideal = _reachable(ranks, k)
    deepest = int(max(last.max(initial=0), ideal.max(initial=0)))
    discounts = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, deepest + 2)))])
    gain = ranks.relevant / size * (discounts[last] - discounts[start])
    return np.asarray(_sum_groups(ranks, gain) / discounts[ideal])


def _hits(ranks: Ranks, k: int | None) -> Values:
    """[Q] the expected number of relevant candidates in the top K."""
    size = ranks.relevant + ranks.irrelevant
    return _sum_groups(ranks, ranks.relevant / size * _places(ranks.above, size, k))


def _places(above: Rows, size: Rows, k: int | None) -> Rows:
    """How many of a group's places are in the top K."""
    return size if k is None else np.asarray(np.clip(k - above, 0, size))


def _reachable(ranks: Ranks, k: int | None) -> Rows:
    return ranks.total if k is None else np.minimum(ranks.total, k)


def _relevant_above(ranks: Ranks) -> Rows:
    running = np.concatenate([[0], np.cumsum(ranks.relevant)])
    return np.asarray(running[:-1] - running[ranks.offsets[ranks.owner]])


def _sum_groups(ranks: Ranks, gain: Values) -> Values:
    return np.bincount(ranks.owner, weights=gain, minlength=len(ranks)).astype(np.float64)


def _harmonic(above: Rows, places: Rows) -> Values:
    """1 / (above + 1) + ... + 1 / (above + places)."""
    value = np.where(places > 0, 1.0 / (above + 1.0), 0.0)
    tied = places > 1
    if tied.any():
        from scipy.special import digamma  # only where scores tie: not every reader of ranks should wait for SciPy

        start = above[tied] + 1.0
        value[tied] = digamma(start + places[tied]) - digamma(start)
    return value


_FAMILIES = {
    "recall": _Family(_recall, complete=False, cut="always"),
    "recall_share": _Family(_share, complete=True, cut="always"),
    "precision": _Family(_precision, complete=True, cut="always"),
    "mp": _Family(_precision_to_last, complete=True, cut="always"),
    "r_precision": _Family(_r_precision, complete=True, cut="never"),
    "mrr": _Family(_reciprocal, complete=False),
    "map": _Family(_average_precision, complete=True),
    "map_r": _Family(_average_precision_at_r, complete=True, cut="never"),
    "map_trapezoid": _Family(_trapezoids, complete=True, cut="never"),
    "map_trapezoid_eps": _Family(_trapezoids_eps, complete=True, cut="never"),
    "ndcg": _Family(_ndcg, complete=True),
}
