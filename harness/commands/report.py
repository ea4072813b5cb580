"""`condsim report`: one HTML file of everything under the results folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from condsim.harness.errors import CondsimError
from condsim.harness.results.results import Results
from condsim.harness.settings.composition import for_each_job
from condsim.harness.terminal.console import console, warn


def main(argv: Sequence[str]) -> int:
    return for_each_job("report", argv, run)


def run(settings: Mapping[str, Any]) -> int:
    """Write the page by the settings of conf/report.yaml, and print what it holds."""
    chosen = dict(settings["report"])
    path = Path(chosen.pop("path"))
    if path.is_dir():
        raise CondsimError(f"report.path={path} is a folder: name the HTML file to write, as in {path / 'report.html'}")
    results = Results(settings["results"])
    facts = results.report(path, **chosen)
    warn(*results.notes)
    size = path.stat().st_size / 1e6
    line = f"{path} written, {size:.1f} MB: {facts['records']} runs"
    line += f", {facts['shown_queries']} of {facts['total_queries']} queries"
    if facts["full"]:
        line += f" (as many as report.budget_mb={chosen['budget_mb']:g} holds)"
    if facts["missing_pictures"]:
        line += f"; {facts['missing_pictures']} of {facts['total_pictures']} pictures could not be read"
    console.print(line)
    return 0
