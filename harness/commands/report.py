"""`condsim report`: one HTML file of everything under the results folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from condsim.harness.console import console
from condsim.harness.errors import CondsimError
from condsim.harness.results.report.write import ReportSettings, write_report


def report(config: Mapping[str, Any]) -> int:
    """What `conf/report.yaml` composes."""
    chosen = dict(config["report"])
    path = Path(chosen.pop("path"))
    for name in ("budget_mb", "queries", "top", "thumbnail"):
        least = 0 if name == "queries" else 1
        if not isinstance(chosen[name], (int, float)) or isinstance(chosen[name], bool) or chosen[name] < least:
            raise CondsimError(f"report.{name}={chosen[name]} should be a number, {least} or more")
    if path.is_dir():
        raise CondsimError(f"report.path={path} is a folder: name the HTML file to write, as in {path / 'report.html'}")
    facts = write_report(Path(config["results"]), path, ReportSettings(**chosen))
    size = path.stat().st_size / 1e6
    line = f"{path} written, {size:.1f} MB: {facts['records']} runs"
    line += f", {facts['shown_queries']} of {facts['total_queries']} queries"
    if facts["full"]:
        line += f" (as many as report.budget_mb={chosen['budget_mb']:g} holds)"
    if facts["missing_pictures"]:
        line += f"; {facts['missing_pictures']} of {facts['total_pictures']} pictures could not be read"
    console.print(line, markup=False)
    return 0
