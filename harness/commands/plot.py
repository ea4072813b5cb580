"""`condsim plot`: the plots of the results as PNG and SVG files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from condsim.harness.commands.leaderboard import select
from condsim.harness.console import console
from condsim.harness.errors import CondsimError, did_you_mean
from condsim.harness.results.collection import TaskRuns, keep_runs, runs_by_task
from condsim.harness.results.leaderboard import read_leaderboard

FORMATS = ("png", "svg", "pdf")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser("condsim plot", description=__doc__)
    parser.add_argument(
        "filters", nargs="*", metavar="COLUMN=VALUE[,VALUE]", help="plot only such runs, as in `condsim leaderboard`"
    )
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of records (default: results)")
    parser.add_argument("--output", type=Path, help="folder for the files (default: plots in the results folder)")
    parser.add_argument("--formats", default="png,svg", help=f"any of {', '.join(FORMATS)} (default: png,svg)")
    options = parser.parse_intermixed_args(argv)
    formats = options.formats.split(",")
    for form in formats:
        if form not in FORMATS:
            raise CondsimError(f"--formats {options.formats}: {did_you_mean(form, FORMATS)}")
    groups = chosen_groups(options.results, options.filters)
    try:
        from condsim.harness.results.plots import write_plots  # matplotlib: a second to import
    except ImportError as error:
        raise CondsimError(f"plots need matplotlib ({error}): pip install 'condsim[plot]'") from None

    output = options.output or options.results / "plots"
    written = write_plots(groups, output, formats)
    console.print(f"{len(written)} files written into {output}", markup=False)
    return 0


def chosen_groups(results: Path, filters: Sequence[str]) -> list[TaskRuns]:
    """The runs by task that ``filters`` leave."""
    groups = runs_by_task(results)
    if not groups:
        raise CondsimError(f"there are no records under {results / 'runs'}: run `condsim bench` first")
    if not filters:
        return groups
    kept = {row["run"] for row in select(read_leaderboard(results), filters)}
    metrics = [value for text in filters if text.startswith("metric=") for value in text.split("=", 1)[1].split(",")]
    if len(metrics) > 1:
        raise CondsimError(f"metric={','.join(metrics)}: a plot shows one metric")
    return [
        replace(group, chosen=metrics[0] if metrics and metrics[0] in group.metrics else None)
        for group in keep_runs(groups, kept)
    ]
