"""Every figure, drawn with matplotlib: the same drawing for papers (`condsim plot`) and for the report's page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from matplotlib.ticker import FuncFormatter, LogLocator

from condsim.harness.results.breakdown import by_condition, conditions_repeat
from condsim.harness.results.costs import CostPlot, cost_plots
from condsim.harness.results.question_set import QuestionSet
from condsim.harness.results.stored_run import StoredRun
from condsim.harness.results.sweeps import Sweep, find_sweeps
from condsim.harness.run.record import Measurement

COLORS = (
    "#0b6e75", "#b94a33", "#6b57a8", "#8f6a00", "#2f6fb3", "#4d7c3a", "#a8447f", "#6d6d6d", "#8a5530", "#3b4aa0",
)  # fmt: skip
"""The colours of series; the report's style sheet has the same, and others for dark pages."""
INK, SOFT, GRID = "#1c1f24", "#5d636d", "#e2dfd9"
CONDITIONS_SHOWN = 30
STYLE: dict[Any, Any] = {  # for drawing and for saving
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": GRID, "grid.linewidth": 0.7, "legend.frameon": False, "text.parse_math": False,
    "svg.fonttype": "none", "svg.hashsalt": "condsim", "savefig.bbox": "tight", "savefig.dpi": 200,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": SOFT, "xtick.color": SOFT, "ytick.color": SOFT,
    "axes.prop_cycle": cycler(color=COLORS),
}  # fmt: skip


def figures(groups: Sequence[QuestionSet], notes: list[str]) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of every plot. ``groups``: one question set per task. ``notes`` names runs that cannot be read."""
    shown = [group for group in groups if group.headline is not None]
    for benchmark in dict.fromkeys(group.benchmark for group in shown):
        own = [group for group in shown if group.benchmark == benchmark]
        yield f"{benchmark}-tasks", task_bars(own)
        for sweep in find_sweeps(own):
            parts = (benchmark, sweep.method, sweep.backbone, sweep.fixed, "by", sweep.setting)
            yield "-".join(part for part in parts if part), sweep_curve(sweep)
        for number, plot in enumerate(cost_plots(own), 1):
            yield f"{benchmark}-cost" + (f"-{number}" if number > 1 else ""), cost_scatter(plot)
        for group in own:
            if group.task is not None and conditions_repeat(group.task):
                heat_map = condition_heat_map(group, notes)
                if heat_map is not None:
                    yield f"{benchmark}-{group.name}-conditions", heat_map


def task_bars(groups: Sequence[QuestionSet]) -> Figure:
    """One panel per task, one bar per run, best first, with its 95 % interval and the chance level."""
    longest = max(len(group.runs) for group in groups)
    width = 2.4 + _width([_short(run.label) for group in groups for run in group.runs])
    figure = Figure(figsize=(width * len(groups), 0.8 + 0.26 * longest), layout="constrained")
    for axes, group in zip(np.atleast_1d(figure.subplots(1, len(groups))), groups, strict=True):
        _bars(axes, group)
    return figure


def sweep_curve(sweep: Sweep) -> Figure:
    """One curve per task with its 95 % band, and a dot per seed where a point is a mean over seeds; a logarithmic axis
    where the values span more than a factor of eight."""
    figure, axes = _chart(list(sweep.lines))
    for task, line in sweep.lines.items():
        x = [value for value, _ in line]
        (curve,) = axes.plot(x, [100 * metric.value for _, metric in line], marker="o", markersize=3.5, label=task)
        for value, of_seed in sweep.seeds.get(task, ()):
            axes.scatter(value, 100 * of_seed, s=7, facecolors="none", edgecolors=curve.get_color(), linewidths=0.7)
        low, high = (np.array([100 * metric.ends[end] for _, metric in line]) for end in (0, 1))
        axes.fill_between(x, low, high, alpha=0.15, linewidth=0)
    xs = sorted({value for line in sweep.lines.values() for value, _ in line})
    if xs[0] > 0 and xs[-1] > 8 * xs[0]:
        axes.set_xscale("log")
    axes.set_xticks(xs, [f"{value:g}" for value in xs])
    axes.minorticks_off()
    axes.set_ylim(0)
    metrics = set(sweep.metrics.values())
    axes.set(xlabel=sweep.setting, ylabel=f"{metrics.pop() if len(metrics) == 1 else 'headline metric'}, percent")
    axes.set_title(sweep.label, loc="left")
    _legend(figure, axes)
    return figure


def cost_scatter(plot: CostPlot) -> Figure:
    """One point per run with its 95 % interval, seconds on a logarithmic axis; runs of one method are joined."""
    shown = dict.fromkeys(point.method for point in plot.points)
    figure, axes = _chart(list(shown))
    for method in shown:
        own = sorted((point for point in plot.points if point.method == method), key=lambda point: point.seconds)
        reach = _reach([point.mean for point in own])
        label = own[0].label if len(own) == 1 else method
        axes.errorbar(
            [point.seconds for point in own], [100 * point.mean.value for point in own], yerr=reach, label=label,
            fmt="o", markersize=4, elinewidth=1, linestyle=":" if len(own) > 1 else "none", linewidth=1,
            color=COLORS[plot.methods.index(method) % len(COLORS)],
        )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.minorticks_off()
    axes.set_ylim(0)
    axes.set(xlabel="seconds to prepare and score", ylabel=plot.y_name)
    axes.set_title(plot.title, loc="left")
    _legend(figure, axes)
    return figure


def condition_heat_map(group: QuestionSet, notes: list[str]) -> Figure | None:
    """Conditions down, the most frequent first, runs across; the mean of the headline metric in percent."""
    values = {run.label: value for run, value in group.values(group.headline, notes).items()}
    if group.task is None or not values:
        return None
    rows = by_condition(group.task, values)[:CONDITIONS_SHOWN]
    table = 100 * np.array([[row.means[name] for name in values] for row in rows])
    conditions = [f"{row.name} ({row.queries})" for row in rows]
    names = [_short(name) for name in values]
    width = 1.0 + max(_width(conditions), 0.8 * _width(names)) + 0.5 * len(values)  # the names lean out to the left
    size = (width, 0.8 + 0.7 * _width(names) + 0.24 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.grid(False)
    image = axes.imshow(table, cmap="GnBu", aspect="auto", vmin=0)
    for (i, j), value in np.ndenumerate(table):
        axes.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=7,
                  color="white" if value > 0.6 * table.max() else "black")  # fmt: skip
    axes.set_xticks(range(len(values)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), conditions)
    axes.set_title(f"{group.full_name}, {group.headline}", loc="left")
    figure.colorbar(image, label="percent")
    return figure


def _chart(series: Sequence[str]) -> tuple[Figure, Axes]:
    """A figure with room for one chart and the legend of ``series`` under it."""
    figure = Figure(figsize=(4.4, 3.0 + 0.18 * -(-len(series) // _legend_columns(series))), layout="constrained")
    return figure, figure.subplots()


def _legend(figure: Figure, axes: Axes) -> None:
    """The legend under the chart: never on its curves, however many there are."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside lower left", ncols=_legend_columns(labels), columnspacing=1.2)


def _legend_columns(labels: Sequence[str]) -> int:
    return max(1, min(3, int(4.2 / (0.45 + _width([*labels, ""])))))


def _bars(axes: Axes, group: QuestionSet) -> None:
    headline = str(group.headline)

    def value(run: StoredRun) -> float:
        return run.record.metrics[headline].value

    runs = sorted((run for run in group.runs if headline in run.record.metrics), key=value)
    metrics = [run.record.metrics[headline] for run in runs]
    axes.barh(range(len(runs)), [100 * metric.value for metric in metrics], height=0.62, color=COLORS[0], alpha=0.85,
              xerr=_reach(metrics), error_kw={"elinewidth": 1, "ecolor": INK})  # fmt: skip
    axes.set_yticks(range(len(runs)), [_short(run.label) for run in runs])
    axes.grid(axis="y", visible=False)
    chance = next((metric.chance for metric in metrics if metric.chance is not None), None)
    if chance is not None:
        axes.axvline(100 * chance, color=SOFT, linestyle=":", linewidth=1)
    axes.set_xlabel(f"{headline}, percent")
    axes.set_title(group.full_name, loc="left")


def _reach(metrics: Sequence[Measurement]) -> Any:
    """[2, N] how far the intervals reach below and above the values, in percentage points."""
    return np.array(
        [[100 * (m.value - m.ends[0]) for m in metrics], [100 * (m.ends[1] - m.value) for m in metrics]]
    ).clip(min=0)


def _short(label: str, longest: int = 48) -> str:
    """A label without its middle where it is so long (it names a checkpoint) that it leaves no room for the drawing."""
    half = longest // 2
    return label if len(label) <= longest else f"{label[: half - 1]}…{label[-half:]}"


def _width(labels: Sequence[str]) -> float:
    """Inches that the longest label takes."""
    return 0.07 * max(map(len, labels))
