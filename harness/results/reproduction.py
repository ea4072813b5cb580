"""A published table beside what was measured: one verdict per cell. Pure functions of numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from condsim.harness.errors import CondsimError
from condsim.harness.results.entry import Entry
from condsim.harness.results.percent import ends_text
from condsim.harness.results.published import Published
from condsim.harness.results.table import Column, Table
from condsim.harness.run.record import Measurement

Verdict = Literal["agrees", "differs", "not run"]


@dataclass(frozen=True)
class PublishedCell:
    """One number of a published table, in percent."""

    benchmark: str
    task: str
    method: str
    """As the table of published numbers has it; likewise ``backbone``."""
    backbone: str
    metric: str
    value: float
    table: str

    @property
    def row(self) -> tuple[str, str]:
        """(method, backbone): what one run of the experiment gives."""
        return self.method, self.backbone


@dataclass(frozen=True)
class Compared:
    """A published number and ours."""

    cell: PublishedCell
    measured: Measurement | None
    why: str = ""
    """Why there is no measurement."""
    tolerance: float = 0.1
    """Percentage points by which an agreeing number may differ."""

    @property
    def difference(self) -> float | None:
        """Ours minus theirs, in percentage points."""
        return None if self.measured is None else 100 * self.measured.value - self.cell.value

    @property
    def verdict(self) -> Verdict:
        if self.difference is None:
            return "not run"
        return "agrees" if abs(self.difference) <= self.tolerance + 1e-9 else "differs"


def published_cells(
    published: Published, paper: str, tables: Sequence[str], benchmarks: Sequence[str]
) -> list[PublishedCell]:
    """The cells of these tables of a paper, in the order of the file of published numbers."""
    return [
        PublishedCell(benchmark, task, method, backbone, metric, value, reported.table)
        for (benchmark, task, method, backbone), found in published.items()
        for reported in found
        if reported.paper == paper and reported.table in tables and benchmark in benchmarks
        for metric, value in reported.values.items()
    ]


def measured_cells(entries: Iterable[Entry]) -> dict[tuple[str, str, str], Measurement]:
    """(benchmark, task, metric) -> what one run measured. Headline means have the metric of their parts."""
    return {
        (entry.benchmark, entry.task, name): measurement
        for entry in entries
        for name, measurement in entry.metrics.items()
    }


def compared(
    cells: Iterable[PublishedCell],
    measured: Mapping[tuple[str, str], Mapping[tuple[str, str, str], Measurement]],
    missing: Mapping[tuple[str, str], str],
    tolerance: float,
) -> list[Compared]:
    """Every cell with what the run of its row measured; ``missing``: row -> why it has no run."""
    out = []
    for cell in cells:
        found = measured.get(cell.row, {}).get((cell.benchmark, cell.task, cell.metric))
        why = "" if found is not None else missing.get(cell.row, "the run has no such task or metric")
        out.append(Compared(cell, found, why, tolerance))
    return out


def comparison_table(title: str, cells: Sequence[Compared]) -> Table:
    """One row per published cell; the method's name once."""
    backbones = {cell.cell.backbone for cell in cells}
    head = ("method", "task", "metric", "published", "measured", "95 % interval", "difference", "verdict")
    rows, last = [], ""
    for cell in cells:
        name = cell.cell.method + (f" {cell.cell.backbone}" if len(backbones) > 1 else "")
        ours = ["", "", ""]
        if cell.measured is not None and cell.difference is not None:
            ours = [f"{100 * cell.measured.value:.1f}", ends_text(*cell.measured.ends), f"{cell.difference:+.1f}"]
        of = ("" if name == last else name, cell.cell.task, cell.cell.metric, f"{cell.cell.value:.1f}")
        rows.append((*of, *ours, cell.verdict))
        last = name
    columns = tuple(Column(name, number=name in head[3:7]) for name in head)
    return Table(title, columns, tuple(rows), summary(cells))


def summary(cells: Sequence[Compared]) -> str:
    """The verdicts, counted; and what an agreement is."""
    counts = {verdict: sum(cell.verdict == verdict for cell in cells) for verdict in ("agrees", "differs", "not run")}
    limit = max((cell.tolerance for cell in cells), default=0.0)
    agree, differ, not_run = counts.values()
    return (
        f"{agree} agree within {limit:g} points, {differ} differ, {not_run} not run. A verdict compares with that "
        "tolerance; it is no test of significance."
    )


def read_scores(path: Path) -> dict[str, float]:
    """Backbone -> percent, from a CSV with the columns backbone, top1 and source."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {row["backbone"]: float(row["top1"]) for row in csv.DictReader(file)}
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise CondsimError(f"{path}: the scores cannot be read: {error}") from None


def curve_table(title: str, axis: str, points: Sequence[tuple[str, Measurement | None, str]]) -> Table:
    """One row per point of a figure that prints no numbers: (place on the axis, what we measured, why not)."""
    measured = {x: [f"{100 * ours.value:.1f}", ends_text(*ours.ends), ""] for x, ours, _ in points if ours}
    rows = tuple((x, "not in numbers", *measured.get(x, ["", "", why])) for x, _, why in points)
    names = (axis, "published", "measured", "95 % interval", "not run")
    head = tuple(Column(name, number=place < 3) for place, name in enumerate(names))
    return Table(title, head, rows, "The figure prints no numbers, so there is no verdict. Not tested.")


def correlation_table(title: str, pairs: Mapping[str, tuple[float, float]]) -> Table:
    """One row per backbone: its ImageNet accuracy and what we measured. The caption has Pearson's correlation with the
    95 % interval of Fisher's transform, and the slope; both need four backbones."""
    rows = tuple((name, f"{x:.1f}", f"{y:.1f}") for name, (x, y) in sorted(pairs.items(), key=lambda pair: pair[1]))
    caption = f"{len(pairs)} backbones: a correlation with an interval needs four."
    if len(pairs) > 3:
        from scipy.stats import linregress, pearsonr

        x, y = zip(*pairs.values(), strict=True)
        found = pearsonr(x, y)
        low, high = found.confidence_interval(0.95)
        slope = 10 * linregress(x, y).slope
        caption = (
            f"Correlation {found.statistic:.2f} [{low:.2f}, {high:.2f}] over {len(pairs)} backbones; ten points more "
            f"on ImageNet come with {slope:+.1f} here."
        )
    head = (Column("backbone", number=False), Column("ImageNet top-1"), Column("measured"))
    return Table(title, head, rows, caption)


def to_csv(cells: Sequence[Compared]) -> str:
    """One row per cell; numbers in percent."""
    out = io.StringIO()
    of = ("table", "benchmark", "task", "method", "backbone", "metric", "value")
    numbers = ("measured", "low", "high", "difference")
    writer = csv.DictWriter(out, (*of, *numbers, "verdict", "why"), lineterminator="\n")
    writer.writeheader()
    for cell in cells:
        row = {name: getattr(cell.cell, name) for name in of} | {"verdict": cell.verdict, "why": cell.why}
        if cell.measured is not None and cell.difference is not None:
            ours = (*(100 * x for x in (cell.measured.value, *cell.measured.ends)), cell.difference)
            row |= {name: f"{value:.4f}" for name, value in zip(numbers, ours, strict=True)}
        writer.writerow(row)
    return out.getvalue()
