"""Sweeps: one setting of a method at several values, all else equal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from condsim.harness.results.order import created
from condsim.harness.results.question_set import QuestionSet
from condsim.harness.results.spread import SEED, settings_but_files, settings_of
from condsim.harness.results.stored_run import StoredRun
from condsim.harness.run.record import Measurement

FEWEST_VALUES = 3


@dataclass(frozen=True)
class Sweep:
    """One setting of one method at several values, all else equal."""

    benchmark: str
    method: str
    backbone: str
    setting: str
    fixed: str
    """The other settings that differ from the defaults."""
    lines: dict[str, list[tuple[float, Measurement]]]
    """Task -> (value of the setting, measurement), in ascending order."""
    metrics: dict[str, str]
    """Task -> the metric shown."""

    @property
    def title(self) -> str:
        return f"{self.benchmark}: {self.method} {self.fixed}".strip() + f", {self.backbone}"


def find_sweeps(groups: Iterable[QuestionSet]) -> list[Sweep]:
    """Every numeric setting of a method, or of its training, with three or more values among runs that are equal in all
    other settings but files.

    Files do not count because a trained setting has one checkpoint per value. Of two runs with one value the newer one
    counts. ``groups``: one question set per task.
    """
    headline = {(group.benchmark, group.name): group.headline for group in groups}
    members: dict[tuple[str, str, str, str, str], list[tuple[float, StoredRun]]] = {}
    for run in (run for group in groups for run in group.runs):
        config = settings_of(run)
        for name, value in config.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool) and name != SEED:
                rest = repr(sorted((k, repr(v)) for k, v in config.items() if k != name))
                key = (run.record.benchmark, run.record.method, run.record.backbone, name, rest)
                members.setdefault(key, []).append((float(value), run))
    sweeps = []
    for (benchmark, method, backbone, setting, _), points in members.items():
        by_task: dict[str, dict[float, Measurement]] = {}
        for value, run in sorted(points, key=lambda point: (created(point[1]), point[1].run)):
            metric = headline[benchmark, run.record.task]
            if metric in run.record.metrics:
                by_task.setdefault(run.record.task, {})[value] = run.record.metrics[metric]
        lines = {task: sorted(line.items()) for task, line in sorted(by_task.items()) if len(line) >= FEWEST_VALUES}
        if lines:
            fixed = settings_but_files(points[0][1], setting)
            metrics = {task: headline[benchmark, task] or "" for task in lines}
            sweeps.append(Sweep(benchmark, method, backbone, setting, fixed, lines, metrics))
    return sweeps
