"""How much a result moves when only the seed of a training, or only the wording of the conditions, is another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from condsim.harness.errors import CondsimError
from condsim.harness.results.order import by_date
from condsim.harness.results.percent import percent
from condsim.harness.results.question_set import QuestionSet
from condsim.harness.results.seeds import settings_apart, settings_but_files, without_seed
from condsim.harness.results.stored_run import StoredRun
from condsim.harness.results.table import Column, RunName, Table

CAPTION = (
    "Percent, the headline metric. Each row is over runs on the same queries that differ only in the seed of the "
    "training, or only in the wording of the conditions. sd: standard deviation between runs (n - 1). Not tested."
)


@dataclass(frozen=True)
class Spread:
    """Runs that differ in one thing which should not matter."""

    over: str
    """"seeds" or "wordings"."""
    metric: str
    members: tuple[StoredRun, ...]
    settings: str
    """What distinguishes these runs from others of the method, as one types it."""

    @property
    def task(self) -> str:
        return self.members[0].record.full_task

    @property
    def method(self) -> str:
        return self.members[0].record.method

    @property
    def backbone(self) -> str:
        return self.members[0].record.backbone

    @property
    def runs(self) -> tuple[str, ...]:
        return tuple(run.run for run in self.members)

    @property
    def count(self) -> str:
        """ "3 seeds"."""
        return f"{len(self.members)} {self.over}"

    def with_metric(self, metric: str) -> Spread:
        """The same runs on another metric, without those that do not have it."""
        return replace(self, metric=metric, members=tuple(run for run in self.members if metric in run.record.metrics))

    def named(self, *, with_backbone: bool) -> str:
        """The method with its settings and the number of runs: "clay rank=5, 3 seeds"."""
        name = f"{self.method} {self.settings}".strip() + f", {self.count}"
        return f"{name} ({self.backbone})" if with_backbone else name

    @property
    def values(self) -> tuple[float, ...]:
        """Of each run, a fraction."""
        return tuple(run.record.metrics[self.metric].value for run in self.members)

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def deviation(self) -> float:
        return stdev(self.values)


def find_spreads(groups: Sequence[QuestionSet], notes: list[str]) -> list[Spread]:
    """One per method and task with two or more seeds or wordings; of two runs with the same one the newer counts.

    ``notes`` gets the tasks whose file is missing, without which wordings cannot be matched.
    """
    members: dict[tuple[object, ...], dict[str, tuple[StoredRun, str]]] = {}
    for group in groups:
        if (metric := group.headline) is None:
            continue
        questions = _questions(group, groups, notes)
        for run in by_date(run for run in group.runs if metric in run.record.metrics):
            training, seed = without_seed(run)
            if seed is not None:
                members.setdefault(("seeds", group.full_name, group.id, training), {})[seed] = run, metric
            if questions is not None:
                key = ("wordings", group.full_name, questions, training, seed)
                members.setdefault(key, {})[run.wording] = run, metric
    repeated = [(str(key[0]), [*own.values()]) for key, own in members.items() if len(own) > 1]
    spreads = [Spread(over, own[0][1], tuple(run for run, _ in own), "") for over, own in repeated]
    return [
        replace(
            spread,
            settings=settings_apart(
                spread.members[0], [other.members[0] for other in spreads if _named_as(other) == _named_as(spread)]
            ),
        )
        for spread in spreads
    ]


def spread_table(spreads: Iterable[Spread]) -> list[Table]:
    """One table of all spreads; none where there are none."""
    spreads = sorted(spreads, key=lambda spread: (spread.task, -spread.mean))
    if not spreads:
        return []
    several = len({spread.backbone for spread in spreads}) > 1
    head = ("task", "method", "runs", "metric", "mean", "sd", "lowest", "highest")
    rows: tuple[tuple[str | RunName, ...], ...] = tuple(
        (
            spread.task,
            RunName(spread.method, spread.settings, spread.backbone if several else ""),
            spread.count,
            spread.metric,
            *(f"{percent(x):.1f}" for x in (spread.mean, spread.deviation, min(spread.values), max(spread.values))),
        )
        for spread in spreads
    )
    columns = tuple(Column(name, number=place > 3) for place, name in enumerate(head))
    return [Table("Spread over seeds and wordings", columns, rows, CAPTION)]


def _questions(group: QuestionSet, groups: Sequence[QuestionSet], notes: list[str]) -> str | None:
    """What question sets in other wordings have in common with this one; None where there is no other wording."""
    alike = [other for other in groups if other.full_name == group.full_name]
    if not any(run.wording for other in alike for run in other.runs):
        return None
    from condsim.harness.variants.wordings import without_words

    if group.task is None:
        notes.append(f"{group.title}: no spread over wordings: {group.task_fault or 'the file of the task is missing'}")
        return None
    try:
        return without_words(group.task).fingerprint + "".join(sorted({run.pictures for run in group.runs}))
    except CondsimError as error:
        notes.append(f"{group.title}: no spread over wordings: {error}")
        return None


def _named_as(spread: Spread) -> tuple[str, ...]:
    return spread.over, spread.task, spread.method, spread.backbone, settings_but_files(spread.members[0])
