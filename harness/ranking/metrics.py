"""Metrics of a ranking as expected values under random order of equal scores. They read ranks and nothing else.

So a constant scorer gets exactly the chance level, and no order of a file decides a number. One place in the ranking:
a group of m relevant and n irrelevant candidates of equal score fills the places above + 1 ... above + m + n.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from condsim.harness.errors import CondsimError, did_you_mean
from condsim.harness.ranking.ranks import Ranks
from condsim.harness.task import Rows

Values = NDArray[np.float64]


def per_query(metric: str, ranks: Ranks, subset_ranks: Ranks | None = None) -> Values:
    """[Q] the value of ``metric`` for each query, in [0, 1].

    ``recall@K``: the chance that at least one relevant candidate is in the top K ("hit rate" where there are several).
    ``mrr``, ``mrr@K``: 1 / place of the first relevant candidate, 0 behind K.
    ``map``, ``map@K``: average precision, over min(relevant candidates, K) as ILIAS's and INQUIRE's own code has it.
    ``ndcg``, ``ndcg@K``: binary gains, 1 / log2(1 + place), over the best possible order.
    ``subset_`` before any of them: the same within the task's subsets, from ``subset_ranks``.

    Raises CondsimError for an unknown metric, for one over the whole ranking where ranks hold only the first hits, and
    where a query's ground truth is withheld.
    """
    parsed = _parse(metric)
    source = subset_ranks if parsed.subset else ranks
    if source is None:
        raise CondsimError(f"metric {metric!r} needs a task with subsets, and this one has none")
    family = _FAMILIES[parsed.family]
    if family.complete and not source.complete:
        raise CondsimError(f"metric {metric!r} needs every relevant candidate's rank, and only the first was kept")
    source.first  # noqa: B018 - refuses withheld ground truth
    return family.compute(source, parsed.k)


def chance_level(metric: str, ranks: Ranks, subset_ranks: Ranks | None = None) -> float:
    """What a constant scorer gets on average over the queries: exact, K / candidates for recall with one relevant."""
    subset = None if subset_ranks is None else Ranks.uninformed(subset_ranks.total, subset_ranks.candidates)
    return float(per_query(metric, Ranks.uninformed(ranks.total, ranks.candidates), subset).mean())


def needs_complete(metrics: Iterable[str]) -> bool:
    """Whether any of ``metrics`` reads every relevant candidate's rank. Raises CondsimError for an unknown one."""
    families = [_FAMILIES[_parse(metric).family] for metric in metrics]
    return any(family.complete for family in families)


def metric_order(name: str) -> tuple[bool, str, int]:
    """Sort key of metric names: recall@2 before recall@10, headline means last."""
    family, _, k = name.partition("@")
    return family == "mean", family, int(k) if re.fullmatch(r"\d+", k) else 0


def headline_metric(names: Iterable[str]) -> str | None:
    """The one metric to show for a task: mAP, else the smallest K."""
    return min(names, key=metric_order, default=None)


@dataclass(frozen=True)
class _Metric:
    family: str
    k: int | None
    subset: bool


@dataclass(frozen=True)
class _Family:
    compute: Callable[[Ranks, int | None], Values]
    complete: bool
    needs_k: bool = False


def _parse(metric: str) -> _Metric:
    match = re.fullmatch(r"(subset_)?([a-z]+)(?:@([1-9][0-9]*))?", metric)
    if match and match[2] in _FAMILIES and (match[3] or not _FAMILIES[match[2]].needs_k):
        return _Metric(match[2], int(match[3]) if match[3] else None, match[1] is not None)
    digits = re.search(r"[1-9][0-9]*", metric)
    k = digits[0] if digits else "10"
    plain = [f"{name}@{k}" for name in _FAMILIES] + [name for name, family in _FAMILIES.items() if not family.needs_k]
    choices = plain + [f"subset_{name}" for name in plain]
    raise CondsimError(f"there is no metric {metric!r}. {did_you_mean(metric.lower(), choices)}")


def _recall(ranks: Ranks, k: int | None) -> Values:
    """1 - C(n, j) / C(m + n, j): the group's first j places miss all m relevant ones with that chance."""
    assert k is not None
    first = ranks.first
    m, n = first.relevant, first.irrelevant
    places = np.clip(k - first.above, 0, m + n)
    hit = np.minimum(places / (n + 1.0), 1.0)
    for i in np.flatnonzero((m > 1) & (n > 0) & (places > 0)):
        hit[i] = 1.0 - _miss(int(m[i]), int(n[i]), int(places[i]))
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
    several = np.flatnonzero(first.relevant > 1)
    keys = np.stack([first.above[several], first.relevant[several], first.irrelevant[several]], axis=1)
    distinct, which = np.unique(keys, axis=0, return_inverse=True)
    expected = [_first_of_several(above, m, n, k) for above, m, n in distinct.tolist()]
    value[several] = np.array(expected, dtype=np.float64)[which.reshape(-1)]
    return value


def _first_of_several(above: int, m: int, n: int, k: int | None) -> float:
    p = np.arange(1, n + 1)
    chance = m / (m + n) * np.cumprod(np.concatenate([[1.0], (n - p + 1) / (m + n - p)]))
    place = above + np.arange(1, n + 2)
    if k is not None:
        chance = np.where(place <= k, chance, 0.0)
    return float(np.sum(chance / place))


def _average_precision(ranks: Ranks, k: int | None) -> Values:
    """Expected average precision with ties in closed form (McSherry and Najork, ECIR 2008, equation 4), cut at K.

    The i-th place of a group holds a relevant candidate with chance m / (m + n), and then r + 1 + (i - 1) (m - 1) /
    (m + n - 1) relevant ones are expected up to it, r of them above the group; summed with harmonic numbers.
    """
    m, size = ranks.relevant.astype(float), ranks.relevant + ranks.irrelevant
    before = _relevant_above(ranks)
    places = _places(ranks.above, size, k)
    harmonic = _harmonic(ranks.above, places)
    growth = (m - 1) / np.maximum(size - 1, 1)
    gain = m / size * ((before + 1) * harmonic + growth * (places - (ranks.above + 1) * harmonic))
    return _sum_groups(ranks, gain) / _reachable(ranks, k)


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
    several = places > 1
    if several.any():
        from scipy.special import digamma  # only where scores tie: not every reader of ranks should wait for SciPy

        start = above[several] + 1.0
        value[several] = digamma(start + places[several]) - digamma(start)
    return value


_FAMILIES = {
    "recall": _Family(_recall, complete=False, needs_k=True),
    "mrr": _Family(_reciprocal, complete=False),
    "map": _Family(_average_precision, complete=True),
    "ndcg": _Family(_ndcg, complete=True),
}
