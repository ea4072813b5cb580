"""`condsim check`: show which files of a benchmark are there, which are missing, and where to get them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from condsim.harness.errors import first_lines
from condsim.harness.process.deferred import defer
from condsim.harness.settings.composition import for_each_job
from condsim.harness.targets import search_current_folder
from condsim.harness.terminal.console import console

if TYPE_CHECKING:  # it imports what `main` defers
    from condsim.datasets.check import Report


def main(argv: Sequence[str]) -> int:
    for package in ("torch", "pandas"):
        defer(package)
    return for_each_job("check", argv, run)


def render(report: Report, list_path: Path | None = None) -> RenderableType:
    """The report as it is printed; ``list_path``: the file with the full list of faults."""
    table = Table(title=f"{report.benchmark}: data files", title_justify="left")
    for column in ("", "part", "place", "found", "expected"):
        table.add_column(column, justify="right" if column in ("found", "expected") else "left", overflow="fold")
    for part in report.parts:
        count = "none" if part.found is None else f"{part.found:,}"
        expected = "" if part.expected is None else f"{part.expected:,}"
        table.add_row(Text("ok" if part.complete else "missing"), Text(part.what), Text(part.place), count, expected)
    how = "each read to its end" if report.decoded else "not read, only looked for"
    counts = f"{len(report.missing):,} missing, {len(report.unreadable):,} unreadable"
    lines = [
        f"{report.images:,} images needed ({how}): {counts}" if report.images else "No image is known to be needed yet."
    ]
    for label, faults in (("missing", report.missing), ("unreadable", report.unreadable), ("refused", report.problems)):
        lines += first_lines(f"{label}: {fault}" for fault in faults)
    lines += [f"  note: {note}" for note in report.notes]
    if list_path is not None:
        lines.append(f"The full list of faults: {list_path}")
    lines += ["", "Where to get the files:"] if report.sources else []
    for source in report.sources:
        lines.append(f"  {source.name}: {source.home} ({source.licence})")
        if source.remotes:
            lines.append(f"    condsim download benchmark={report.benchmark} 'parts=[{source.name}]'")
    verdict = "complete" if report.complete else "incomplete"
    body: list[RenderableType] = [table] if report.parts else []
    body += [Text("\n".join(lines)), Text("")]
    body += [Markdown(report.card)] if report.card else []
    return Group(*body, Text(f"\n{report.benchmark} is {verdict}"))


def run(settings: Mapping[str, Any]) -> int:
    """Print the report and write the full list of faults; 1 unless all is there."""
    from condsim.datasets.check import check

    search_current_folder(str(settings["benchmark"].get("_target_", "")))
    report = check(settings["benchmark"], read_images=bool(settings["decode"]), workers=int(settings["workers"]))
    list_path = None
    if report.faults:
        list_path = Path(settings["output"] or f"check-{report.benchmark}.txt")
        list_path.parent.mkdir(parents=True, exist_ok=True)
        list_path.write_text(report.faults, encoding="utf-8")
    console.print(render(report, list_path), soft_wrap=False)
    return 0 if report.complete else 1
