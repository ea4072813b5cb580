"""Results of one task in detail: by condition, by label, by kind of distractor, and where runs disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from condsim.harness.task import Ragged, Rows, Task, condition_text

Values = Mapping[str, NDArray[np.float64]]
"""Label of a run -> [Q] per-query values."""


FEW_QUERIES = 30
"""A mean over fewer queries is marked: its 95 % interval is wider than 35 points at a recall of 50 %."""


@dataclass(frozen=True)
class GroupRow:
    """The mean of every run over the queries of one condition, or over those with one label."""

    name: str
    queries: int
    means: dict[str, float]
    """Label of a run -> mean of the metric, a fraction."""

    @property
    def mark(self) -> str:
        """A dagger for fewer than ``FEW_QUERIES`` queries, else ""."""
        return "†" if self.queries < FEW_QUERIES else ""


def by_condition(task: Task, values: Values) -> list[GroupRow]:
    """One row per condition that has queries, the most frequent first."""
    rows = []
    counts = np.bincount(task.condition + 1, minlength=len(task.conditions) + 1)[1:]
    sums = {
        label: np.bincount(task.condition + 1, weights=v, minlength=len(task.conditions) + 1)[1:]
        for label, v in values.items()
    }
    for index in np.argsort(-counts, kind="stable"):
        if counts[index]:
            means = {label: float(total[index] / counts[index]) for label, total in sums.items()}
            rows.append(GroupRow(query_condition(task, int(index)), int(counts[index]), means))
    return rows


def by_label(task: Task, values: Values) -> list[GroupRow]:
    """One row per label that any query has, in the order of the task's names; no row if the task has no labels.

    A query with several labels counts in each of their rows (CIRCO's semantic aspects).
    """
    if task.labels is None:
        return []
    rows = []
    for code, name in enumerate(task.labels.names):
        queries = np.unique(task.labels.codes.owner[task.labels.codes.values == code])
        if len(queries):
            means = {run: float(value[queries].mean()) for run, value in values.items()}
            rows.append(GroupRow(name, len(queries), means))
    return rows


def conditions_repeat(task: Task) -> bool:
    """Whether a mean per condition is informative: for CIRR, with one caption per query, it is not."""
    return len(task.conditions) > 1 and len(task) >= 3 * len(task.conditions)


def query_condition(task: Task, index: int) -> str:
    return condition_text(task.conditions[index]) if index >= 0 else ""


@dataclass(frozen=True)
class Fooled:
    """What is ranked first, over all queries of a task."""

    right: float
    """Share of queries whose best candidate is relevant."""
    by_kind: dict[str, float]
    """Kind of distractor -> share of queries whose best candidate is of it."""
    unknown: float
    """Share whose best candidate is a distractor of no known kind."""


def fooled(task: Task, best: Rows) -> Fooled:
    """``best`` [Q]: each query's best candidate, a row of the image table (-1: none)."""
    assert task.kinds is not None
    assert task.candidates is not None
    right = Ragged.of(best[:, None]).among(task.relevant)
    codes = _code_of(task.candidates, task.kinds.codes, best)
    wrong = ~right
    shares = {name: float((wrong & (codes == code)).mean()) for code, name in enumerate(task.kinds.names)}
    return Fooled(float(right.mean()), shares, float((wrong & (codes < 0)).mean()))


def kind_shares(task: Task) -> dict[str, float]:
    """Kind -> its share among all distractors: how often a random wrong answer is of this kind."""
    assert task.kinds is not None
    assert task.candidates is not None
    codes = task.kinds.codes[~task.candidates.among(task.relevant)]
    return {name: float((codes == code).mean()) if len(codes) else 0.0 for code, name in enumerate(task.kinds.names)}


def wins(right: Sequence[NDArray[np.bool_]]) -> list[list[int]]:
    """[A][B] number of queries that run A gets right and run B gets wrong, of each run's [Q] ``right``."""
    if not right:
        return []
    hits = np.stack(right).astype(np.int64)
    counts: list[list[int]] = (hits @ (1 - hits).T).tolist()
    return counts


def informative_order(task: Task, right: Sequence[NDArray[np.bool_]]) -> Rows:
    """[Q] queries, those with the most disagreement between runs first; among equals the conditions take turns."""
    share = np.mean(np.stack(right), axis=0) if right else np.zeros(len(task))
    agreement = np.abs(share - 0.5)
    order = np.argsort(agreement, kind="stable")
    turn = np.zeros(len(task), dtype=np.int64)
    seen: dict[tuple[float, int], int] = {}
    for query in order:
        key = (float(agreement[query]), int(task.condition[query]))
        turn[query] = seen[key] = seen.get(key, -1) + 1
    return np.lexsort((np.arange(len(task)), turn, agreement))


def _code_of(lists: Ragged, codes: Rows, one: Rows) -> Rows:
    """[Q] the code of ``one[i]`` at its first place in list ``i``; -1 where it is not in it."""
    place = np.flatnonzero(lists.values == one[lists.owner])[::-1]  # backwards: the first of a list is written last
    code = np.full(len(lists), -1, dtype=np.int64)
    code[lists.owner[place]] = codes[place]
    return code
