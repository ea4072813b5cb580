"""The runs of one task that saw exactly the same queries: the only ones that can be compared."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condsim.harness.errors import CondsimError
from condsim.harness.ranking.metric_names import headline_metric, in_order
from condsim.harness.results.order import newest, older_set, question_sets, set_name
from condsim.harness.results.stored_run import StoredRun

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from condsim.harness.task import Rows, Task


@dataclass(frozen=True)
class QuestionSet:
    """The newest runs on one question set of a task, in the leaderboard's order."""

    benchmark: str
    name: str
    id: str
    """See :attr:`condsim.harness.results.stored_run.StoredRun.question_set`."""
    runs: tuple[StoredRun, ...]
    is_newest: bool = True
    """False: newer runs of this task saw other queries."""
    has_others: bool = False
    """Whether there are runs of this task on other question sets."""
    chosen: str | None = None
    """The metric to show instead of the headline metric."""

    @property
    def full_name(self) -> str:
        return f"{self.benchmark}/{self.name}"

    @property
    def title(self) -> str:
        """The name of the task; with the question set where the task has several or this is not its usual one."""
        if self.has_others:
            return f"{self.full_name}, question set {self.set_name}"
        variant = self.runs[0].variant
        return f"{self.full_name}, {variant}" if variant else self.full_name

    @property
    def set_name(self) -> str:
        return set_name(self.id, self.runs[0].variant)

    @property
    def queries(self) -> int:
        return self.runs[0].record.queries

    @property
    def folder(self) -> Path:
        """Where the runs' folders and the task's file are. Never made of names that a record holds."""
        return self.runs[0].folder.parent

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Every metric of these runs: the headline metric, then recall@2 before recall@10."""
        return tuple(in_order((name for run in self.runs for name in run.record.metrics), self.headline))

    @property
    def headline(self) -> str | None:
        """The metric that represents the task where only one is shown."""
        names = (name for run in self.runs for name in run.record.metrics)
        return headline_metric(names) if self.chosen is None else self.chosen

    @property
    def state(self) -> list[Any]:
        """Everything that a statistic of the headline metric depends on, as JSON."""
        runs = sorted([run.run, *map(list, sorted(run.record.files.items()))] for run in self.runs)
        return [self.headline, runs, self.task_path is not None]

    @property
    def shown_state(self) -> list[Any]:
        """``state``, and the names under which the runs are shown."""
        return [[run.label for run in self.runs], *self.state]

    @property
    def task_path(self) -> Path | None:
        """The file of the task; None where there is none."""
        path = self.runs[0].task_path
        return path if path.exists() else None

    @property
    def task(self) -> Task | None:
        """The task itself; None where its file is missing or damaged (:attr:`task_fault`)."""
        return self._task_or_fault[0]

    @property
    def task_fault(self) -> str:
        """What is wrong with the task's file; "" where nothing is."""
        return self._task_or_fault[1]

    @cached_property
    def _task_or_fault(self) -> tuple[Task | None, str]:
        from condsim.harness.run.task_file import load_task

        path = self.task_path
        if path is None:
            return None, ""
        try:
            return load_task(path, self.runs[0].fingerprint), ""
        except CondsimError as error:
            return None, str(error)

    @property
    def clusters(self) -> Rows | None:
        """[Q] bootstrap clusters; None: independent queries. Raises CondsimError where the task has clusters but its
        file is missing: without them the test would call random differences significant."""
        if self.task is not None:
            return self.task.clusters
        record = self.runs[0].record
        if record.clusters == record.queries:
            return None
        where = self.task_fault or f"{self.runs[0].task_path} is missing"
        raise CondsimError(
            f"{where}: the {record.queries} queries come in {record.clusters} clusters (by {record.cluster_name}), "
            "which only that file lists. Run `condsim bench` again with force=true to write it."
        )

    def values(self, metric: str | None, notes: list[str]) -> dict[StoredRun, NDArray[np.float64]]:
        """Run -> [Q] the metric of every query, of the runs that have it. ``notes`` names those that cannot be read."""
        values = {}
        for run in self.runs:
            if metric in run.record.metrics and "ranks.npz" in run.record.files:
                try:
                    values[run] = run.values(str(metric))
                except CondsimError as error:
                    notes.append(f"left out: {error}")
        return values


def group_runs(runs: Sequence[StoredRun]) -> list[QuestionSet]:
    """The question sets of all tasks: in the order of the leaderboard's tasks, each task's newest set first."""
    sets = question_sets(runs)
    members: dict[tuple[str, str, str], list[StoredRun]] = {}
    for run in newest(runs):
        members.setdefault((run.record.benchmark, run.record.task, run.question_set), []).append(run)
    groups = []
    for benchmark, task in sorted(sets):
        for place, identity in enumerate(sets[benchmark, task]):
            own = members[benchmark, task, identity]
            several = len({run.record.backbone for run in own}) > 1
            labelled = tuple(replace(run, with_backbone=several) for run in own)
            others = len(sets[benchmark, task]) > 1
            groups.append(QuestionSet(benchmark, task, identity, labelled, place == 0, others))
    return groups


def keep_runs(groups: Iterable[QuestionSet], runs: Container[str]) -> list[QuestionSet]:
    """The groups with only those runs; without the groups that then have none."""
    kept = [replace(group, runs=tuple(run for run in group.runs if run.run in runs)) for group in groups]
    return [group for group in kept if group.runs]


def older_sets(groups: Iterable[QuestionSet], shown: Iterable[QuestionSet]) -> list[str]:
    """One message per question set that is not ``shown``: which runs are left out because they saw other queries."""
    names = {(group.full_name, group.id) for group in shown}
    return [
        older_set(group.full_name, group.set_name, len(group.runs), group.queries)
        for group in groups
        if (group.full_name, group.id) not in names
    ]
