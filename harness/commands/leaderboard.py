"""`condsim leaderboard`: rebuild the leaderboard from the records, and show or export the part that is asked for."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from condsim.harness.console import console
from condsim.harness.errors import CondsimError, did_you_mean
from condsim.harness.results.csv_file import Row, filter_rows, keep_metrics, to_csv, to_long_csv
from condsim.harness.results.leaderboard import write_leaderboard
from condsim.harness.results.table import (
    IDENTITY,
    overview,
    print_leaderboard,
    print_table,
    task_tables,
    to_latex,
    to_markdown,
    without_captions,
)  # fmt: skip

FORMATS = ("csv", "long", "markdown", "latex")
EXAMPLES = """\
examples:
  condsim leaderboard                                       every task's table, then the overview
  condsim leaderboard method=clay rank=5,10 metric=recall@1
  condsim leaderboard --by method task=shapes/focus_attribute,shapes/change_attribute
  condsim leaderboard --format latex --output tables.tex benchmark=genecis
"""


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        "condsim leaderboard", description="Build results/leaderboard.csv from all records, and show it.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "filters", nargs="*", metavar="COLUMN=VALUE[,VALUE]",
        help="only rows with these values of benchmark, task, method, backbone, settings or rank, or metrics",
    )  # fmt: skip
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of records (default: results)")
    parser.add_argument("--by", help="a table a combination of these columns (default: benchmark,task,backbone)")
    parser.add_argument(
        "--format", choices=FORMATS, help="csv: a row a run; long: a row a metric; markdown, latex: the tables"
    )
    parser.add_argument("--output", type=Path, help="write --format to this file (default: print it)")
    parser.add_argument(
        "--published", type=Path, help="CSV of published numbers (default: reference/published.csv in the results)"
    )
    options = parser.parse_intermixed_args(argv)
    if not (options.results / "runs").is_dir():
        raise CondsimError(f"there are no records under {options.results / 'runs'}: run `condsim bench` first")
    if options.published is not None and not options.published.is_file():
        raise CondsimError(f"--published {options.published}: there is no such file")
    by = _columns(options.by) if options.by else ("benchmark", "task", "backbone")
    rows = write_leaderboard(options.results, options.published)
    shown = select(rows, options.filters)
    if options.format or options.output:
        export(shown, options.format or _format_of(options.output), options.output, by)
    elif options.by:
        for table in without_captions(task_tables(shown, by), shown):
            print_table(table)
    else:
        print_leaderboard(shown)
    if not options.format:
        console.print(f"{options.results / 'leaderboard.csv'} written, {len(rows)} rows")
    return 0


def select(rows: Sequence[Row], filters: Sequence[str]) -> list[Row]:
    """The rows and metrics that ``column=value,value`` texts ask for."""
    asked: dict[str, list[str]] = {}
    for text in filters:
        column, equals, values = text.partition("=")
        if not equals:
            raise CondsimError(f"{text!r} should be COLUMN=VALUE, as in method=clay")
        asked.setdefault(column, []).extend(values.split(","))
    metrics = asked.pop("metric", None)
    shown = filter_rows(rows, asked)
    shown = keep_metrics(shown, metrics) if metrics else shown
    if not shown:
        raise CondsimError(f"no record fits {' '.join(filters)} all at once")
    return shown


def export(rows: Sequence[Row], form: str, output: Path | None, by: Sequence[str]) -> None:
    """Write ``rows`` to ``output``, or print them."""
    write: dict[str, Callable[[], str]] = {
        "csv": lambda: to_csv(rows),
        "long": lambda: to_long_csv(rows),
        "markdown": lambda: to_markdown(without_captions([*task_tables(rows, by), *overview(rows)], rows)),
        "latex": lambda: to_latex([*task_tables(rows, by), *overview(rows)]),
    }
    text = write[form]()
    if output is None:
        print(text, end="")
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    console.print(f"{output} written, {len(rows)} rows", markup=False)


def _columns(text: str) -> tuple[str, ...]:
    columns = tuple(text.split(","))
    for column in columns:
        if column not in IDENTITY:
            raise CondsimError(f"--by {text}: no column {column!r}. {did_you_mean(column, IDENTITY)}")
    return columns


def _format_of(output: Path) -> str:
    forms = {".csv": "csv", ".md": "markdown", ".tex": "latex"}
    if output.suffix not in forms:
        raise CondsimError(f"--output {output}: say --format {', '.join(FORMATS)}, or name it .csv, .md or .tex")
    return forms[output.suffix]
