"""Cost against quality: seconds of preparing and scoring against the mean headline metric of a benchmark's tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from condsim.harness.results.headline_means import mean_of_tasks
from condsim.harness.results.question_set import QuestionSet
from condsim.harness.run.record import Measurement

MOST_PLOTS = 4
SHORTEST_SECONDS = 1e-4
"""Times are shown on a logarithmic axis."""


@dataclass(frozen=True)
class CostPoint:
    method: str
    label: str
    seconds: float
    mean: Measurement


@dataclass(frozen=True)
class CostPlot:
    """The runs that saw the same tasks of a benchmark."""

    title: str
    y_name: str
    points: tuple[CostPoint, ...]
    methods: tuple[str, ...]
    """Every method of the benchmark, so that a method has the same colour in all of its plots."""
    note: str = ""


def cost_plots(groups: Sequence[QuestionSet]) -> list[CostPlot]:
    """The plots of every benchmark. ``groups``: one question set per task.

    Means over different tasks cannot be compared, so a plot shows the runs that saw all of its tasks. The first plot
    has the tasks that give the most points, each further one those of runs that are in no plot yet.
    """
    plots = []
    for benchmark in dict.fromkeys(group.benchmark for group in groups):
        own = [group for group in groups if group.benchmark == benchmark and group.headline is not None]
        plots += _of_benchmark(benchmark, own)
    return plots


Costs = Mapping[tuple[str, str], Mapping[str, tuple[float, Measurement]]]
"""(method, label) -> task -> (seconds, headline metric)."""


def _of_benchmark(benchmark: str, groups: Sequence[QuestionSet]) -> list[CostPlot]:
    costs = _costs(groups)
    every_task = [group.name for group in groups]
    waiting = dict.fromkeys(costs)
    plots: list[CostPlot] = []
    while waiting and len(plots) < MOST_PLOTS:
        choices = dict.fromkeys(tuple(name for name in every_task if name in costs[key]) for key in waiting)
        shown = {tasks: [key for key in costs if set(tasks) <= costs[key].keys()] for tasks in choices}
        tasks = max(choices, key=lambda tasks: len(tasks) * len(shown[tasks]))
        title, note = benchmark, ""
        if len(tasks) < len(every_task):
            title += f", {tasks[0]}" if len(tasks) == 1 else f", {len(tasks)} of {len(every_task)} tasks"
            note = "Runs on " + ", ".join(tasks) + "." if len(tasks) > 1 else ""
        metric = next(group.headline for group in groups if group.name == tasks[0])
        y_name = f"mean of {len(tasks)} tasks, percent" if len(tasks) > 1 else f"{metric}, percent"
        points = []
        for key in shown[tasks]:
            seconds, metrics = zip(*(costs[key][task] for task in tasks), strict=True)
            mean = mean_of_tasks(metrics, independent=False)
            points.append(CostPoint(*key, max(SHORTEST_SECONDS, sum(seconds)), mean))
        plots.append(CostPlot(title, y_name, tuple(points), tuple(dict.fromkeys(method for method, _ in costs)), note))
        waiting = {key: None for key in waiting if key not in shown[tasks]}
    return plots


def _costs(groups: Sequence[QuestionSet]) -> Costs:
    several = len({run.record.backbone for group in groups for run in group.runs}) > 1
    costs: dict[tuple[str, str], dict[str, tuple[float, Measurement]]] = {}
    for group in groups:
        for run in group.runs:
            if group.headline in run.record.metrics:
                seconds = run.record.seconds.get("score", 0.0) + run.record.seconds.get("prepare", 0.0)
                label = run.named(with_backbone=several)
                measured = (seconds, run.record.metrics[str(group.headline)])
                costs.setdefault((run.record.method, label), {})[group.name] = measured
    return costs
