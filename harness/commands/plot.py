"""`condsim plot`: the plots of the results as PNG and SVG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from condsim.harness.commands.leaderboard import add_filters
from condsim.harness.errors import CondsimError, did_you_mean
from condsim.harness.results.leaderboard import parse_filters
from condsim.harness.results.results import Results
from condsim.harness.terminal.console import console, warn
from condsim.harness.terminal.parser import Parser

FORMATS = ("png", "svg", "pdf")


def main(argv: Sequence[str]) -> int:
    parser = Parser("condsim plot", __doc__)
    add_filters(parser, "plot only runs")
    parser.add_argument("--output", type=Path, help="folder for the files (default: plots in the results folder)")
    parser.add_argument("--formats", default="png,svg", help=f"any of {', '.join(FORMATS)} (default: png,svg)")
    options = parser.parse_intermixed_args(argv)
    formats = options.formats.split(",")
    for form in formats:
        if form not in FORMATS:
            raise CondsimError(f"--formats {options.formats}: {did_you_mean(form, FORMATS)}")
    filters = parse_filters(options.filters)
    results = Results(options.results)
    output = options.output or options.results / "plots"
    written = results.plots(output, formats, **filters)
    warn(*dict.fromkeys(results.notes))
    console.print(f"{len(written)} files written into {output}")
    return 0
