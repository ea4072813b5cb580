"""Plots as files for papers: curves of swept settings, bars a task with intervals, a heat map of conditions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

from condsim.harness.results.breakdown import Sweep, by_condition, conditions_repeat, sweeps
from condsim.harness.results.collection import TaskRuns, values_of

COLORS = ("#0b6e75", "#c8553d", "#6b57a8", "#b8860b", "#2f6fb3", "#4d7c3a", "#a8447f", "#6d6d6d")
CONDITIONS_SHOWN = 30
STYLE: dict[Any, Any] = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": "#e2dfd9", "grid.linewidth": 0.7, "legend.frameon": False, "text.parse_math": False,
    "svg.fonttype": "none", "svg.hashsalt": "condsim", "savefig.bbox": "tight", "savefig.dpi": 200,
    "axes.prop_cycle": cycler(color=COLORS),
}  # fmt: skip


def write_plots(groups: Sequence[TaskRuns], folder: Path, formats: Sequence[str] = ("png", "svg")) -> list[Path]:
    """Write every plot that these runs give, each in every format; the same records give the same files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with mpl.rc_context(STYLE):
        for form in formats:  # a figure anew each: its layout would remember the format drawn before
            for name, figure in figures(groups):
                FigureCanvasAgg(figure)
                path = folder / f"{_file_name(name)}.{form}"
                figure.savefig(path, metadata={"Date": None} if form == "svg" else None)
                written.append(path)
    return written


def figures(groups: Sequence[TaskRuns]) -> Iterator[tuple[str, Figure]]:
    """(name of the file, figure) of every plot."""
    shown = [group for group in groups if group.headline is not None]
    for benchmark in dict.fromkeys(group.benchmark for group in shown):
        own = [group for group in shown if group.benchmark == benchmark]
        yield f"{benchmark}-tasks", task_bars(own)
        headline = {(group.benchmark, group.name): group.headline or "" for group in own}
        for sweep in sweeps([run.record for group in own for run in group.runs], headline):
            parts = (benchmark, sweep.method, sweep.backbone, sweep.fixed, "by", sweep.setting)
            yield "-".join(part for part in parts if part), sweep_curve(sweep)
        for group in own:
            if group.task is not None and conditions_repeat(group.task):
                yield f"{benchmark}-{group.name}-conditions", condition_heat_map(group)


def task_bars(groups: Sequence[TaskRuns]) -> Figure:
    """A panel a task: a bar a run, best first, with its 95 % interval and the chance level."""
    longest = max(len(group.runs) for group in groups)
    width = 2.4 + _width([_short(run.label) for group in groups for run in group.runs])
    figure = Figure(figsize=(width * len(groups), 0.8 + 0.26 * longest), layout="constrained")
    for axes, group in zip(np.atleast_1d(figure.subplots(1, len(groups))), groups, strict=True):
        _bars(axes, group)
    return figure


def sweep_curve(sweep: Sweep) -> Figure:
    """A curve a task with its 95 % band; a logarithmic axis where the setting spans more than a factor of eight."""
    figure = Figure(figsize=(4.2, 3.0), layout="constrained")
    axes = figure.subplots()
    for task, line in sweep.lines.items():
        x = [value for value, _ in line]
        axes.plot(x, [100 * metric.value for _, metric in line], marker="o", markersize=3.5, label=task)
        axes.fill_between(x, [100 * m.low for _, m in line], [100 * m.high for _, m in line], alpha=0.15, linewidth=0)
    xs = sorted({value for line in sweep.lines.values() for value, _ in line})
    if xs[0] > 0 and xs[-1] > 8 * xs[0]:
        axes.set_xscale("log")
    axes.set_xticks(xs, [f"{value:g}" for value in xs])
    axes.minorticks_off()
    axes.set_ylim(0)
    metrics = set(sweep.metrics.values())
    axes.set(xlabel=sweep.setting, ylabel=f"{metrics.pop() if len(metrics) == 1 else 'headline metric'}, percent")
    axes.set_title(f"{sweep.method} {sweep.fixed}".strip(), loc="left")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))  # beside the curves, never on them
    return figure


def condition_heat_map(group: TaskRuns) -> Figure:
    """Conditions down, the most frequent first, runs across; the mean of the headline metric in percent."""
    assert group.task is not None
    assert group.headline is not None
    values = values_of(group.runs, group.headline)
    rows = by_condition(group.task, values)[:CONDITIONS_SHOWN]
    table = 100 * np.array([[row.means[name] for name in values] for row in rows])
    conditions = [f"{row.condition} ({row.queries})" for row in rows]
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


def _bars(axes: Axes, group: TaskRuns) -> None:
    assert group.headline is not None
    runs = sorted(
        (run for run in group.runs if group.headline in run.record.metrics),
        key=lambda run: run.record.metrics[group.headline or ""].value,
    )
    metrics = [run.record.metrics[group.headline] for run in runs]
    values = np.array([100 * metric.value for metric in metrics])
    reach = np.array([[100 * (m.value - m.low), 100 * (m.high - m.value)] for m in metrics]).T.clip(min=0)
    axes.barh(range(len(runs)), values, height=0.62, color=COLORS[0], alpha=0.85, xerr=reach,
              error_kw={"elinewidth": 1, "ecolor": "#1c1f24"})  # fmt: skip
    axes.set_yticks(range(len(runs)), [_short(run.label) for run in runs])
    axes.grid(axis="y", visible=False)
    chance = next((metric.chance for metric in metrics if metric.chance is not None), None)
    if chance is not None:
        axes.axvline(100 * chance, color="#5d636d", linestyle=":", linewidth=1)
    axes.set_xlabel(f"{group.headline}, percent")
    axes.set_title(group.full_name, loc="left")


def _short(label: str, longest: int = 48) -> str:
    """A label that would push the drawing off the page (it names a checkpoint, say) without its middle."""
    half = longest // 2
    return label if len(label) <= longest else f"{label[: half - 1]}…{label[-half:]}"


def _width(labels: Sequence[str]) -> float:
    """Inches that the longest label takes."""
    return 0.07 * max(map(len, labels))


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
