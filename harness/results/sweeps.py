"""Sweeps: one setting of a method at several values, all else equal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import fmean

from condsim.harness.results.order import created
from condsim.harness.results.question_set import QuestionSet
from condsim.harness.results.seeds import SEED, settings_apart, settings_but_files, settings_of
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
    """Task -> (value of the setting, measurement), in ascending order. Of several seeds: the means of their values and
    of the ends of their intervals."""
    seeds: dict[str, list[tuple[float, float]]]
    """Task -> (value of the setting, value of one seed), where a point has several seeds."""
    metrics: dict[str, str]
    """Task -> the metric shown."""

    @property
    def title(self) -> str:
        return f"{self.benchmark}: {self.label}, {self.backbone}"

    @property
    def label(self) -> str:
        """The method with its settings, and whether points are means over seeds."""
        return f"{self.method} {self.fixed}".strip() + (", mean over seeds" if self.seeds else "")


def find_sweeps(groups: Iterable[QuestionSet]) -> list[Sweep]:
    """Every numeric setting of a method, or of its training, with three or more values among runs that are equal in all
    other settings but files and the seed.

    Files do not count because a trained setting has one checkpoint per value. Of two runs with one value and one seed
    the newer one counts. ``groups``: one question set per task.
    """
    headline = {(group.benchmark, group.name): group.headline for group in groups}
    members: dict[tuple[str, str, str, str, str], list[tuple[float, StoredRun]]] = {}
    for run in (run for group in groups for run in group.runs):
        config = settings_of(run)
        config.pop(SEED, None)
        for name, value in config.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                rest = repr(sorted((k, repr(v)) for k, v in config.items() if k != name))
                key = (run.record.benchmark, run.record.method, run.record.backbone, name, rest)
                members.setdefault(key, []).append((float(value), run))
    sweeps: list[tuple[Sweep, StoredRun]] = []
    for (benchmark, method, backbone, setting, _), points in members.items():
        by_task: dict[str, dict[float, dict[str, Measurement]]] = {}
        for value, run in sorted(points, key=lambda point: (created(point[1]), point[1].run)):
            metric = headline[benchmark, run.record.task]
            if metric in run.record.metrics:
                of_seed = by_task.setdefault(run.record.task, {}).setdefault(value, {})
                of_seed[str(run.record.training.get("seed"))] = run.record.metrics[metric]
        by_task = {task: line for task, line in sorted(by_task.items()) if len(line) >= FEWEST_VALUES}
        if not by_task:
            continue
        lines = {task: [(x, _mean(line[x].values())) for x in sorted(line)] for task, line in by_task.items()}
        seeds = {
            task: [(x, one.value) for x in sorted(line) for one in line[x].values() if len(line[x]) > 1]
            for task, line in by_task.items()
        }
        metrics = {task: headline[benchmark, task] or "" for task in lines}
        shown = {task: dots for task, dots in seeds.items() if dots}
        first = points[0][1]
        fixed = settings_but_files(first, setting)
        sweeps.append((Sweep(benchmark, method, backbone, setting, fixed, lines, shown, metrics), first))
    return [
        replace(
            sweep, fixed=settings_apart(first, [run for other, run in sweeps if _alike(other, sweep)], sweep.setting)
        )
        for sweep, first in sweeps
    ]


def _mean(measured: Iterable[Measurement]) -> Measurement:
    measured = list(measured)
    if len(measured) == 1:
        return measured[0]
    low, high = (fmean(one.ends[end] for one in measured) for end in (0, 1))
    return Measurement(fmean(one.value for one in measured), low, high, measured[0].chance)


def _alike(one: Sweep, other: Sweep) -> bool:
    return (one.title, one.setting) == (other.title, other.setting)
