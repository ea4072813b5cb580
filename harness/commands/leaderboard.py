"""`condsim leaderboard`: rebuild the leaderboard from the records, and show or export a part of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from condsim.harness.errors import CondsimError, counted, did_you_mean
from condsim.harness.results.leaderboard import BY, Leaderboard, parse_filters
from condsim.harness.results.output import write_text
from condsim.harness.results.results import Results
from condsim.harness.terminal.console import console, warn
from condsim.harness.terminal.parser import Parser

FORMATS = ("csv", "long", "markdown", "latex")
EXAMPLES = """\
examples:
  condsim leaderboard                                       one table per task, then the overview
  condsim leaderboard --overview                            the overview only
  condsim leaderboard method=clay rank=5,10 metric=recall@1
  condsim leaderboard --by method task=shapes/focus_attribute,shapes/change_attribute
  condsim leaderboard benchmark=genecis --format latex --output tables.tex --names clay=CLAY image_only="Image only"
"""


def main(argv: Sequence[str]) -> int:
    options = _parser().parse_intermixed_args(argv)
    if options.published is not None and not options.published.is_file():
        raise CondsimError(f"--published {options.published}: there is no such file")
    by, filters = tuple(options.by.split(",")) if options.by else BY, parse_filters(options.filters)
    results = Results(options.results, options.published)
    results.require_runs()
    board = results.leaderboard()
    shown, names = board.select(**filters), _names(options.names, board)
    tables = shown.by(*by) if options.by else None
    if options.format or options.output:
        export(shown, options.format or _format_of(options.output), options.output, by, names)
    elif options.overview:
        shown.print_overview()
    else:
        shown.print(tables)
    warn(*results.notes)
    results.write_leaderboard()
    if not options.format or options.output:
        console.print(f"{options.results / 'leaderboard.csv'} written, {counted(len(board), 'row')}")
    return 0


def add_filters(parser: Parser, what: str) -> None:
    """The arguments ``COLUMN=VALUE[,VALUE]`` and ``--results`` of the commands that show a part of the results."""
    columns = "benchmark, task, method, backbone, settings, rank, queries or question_set"
    parser.add_argument(
        "filters", nargs="*", metavar="COLUMN=VALUE[,VALUE]", help=f"{what} with these values of {columns}; or metric="
    )
    parser.add_results()


def export(board: Leaderboard, form: str, output: Path | None, by: Sequence[str], names: Mapping[str, str]) -> None:
    """Write the leaderboard to ``output``, or print it."""
    write: dict[str, Callable[[], str]] = {
        "csv": board.to_csv,
        "long": board.to_long_csv,
        "markdown": lambda: board.to_markdown(by, names),
        "latex": lambda: board.to_latex(by, names),
    }
    text = write[form]()
    if output is None:
        print(text, end="")
    else:
        write_text(output, text)
        console.print(f"{output} written, {counted(len(board), 'row')}")


def _parser() -> Parser:
    parser = Parser("condsim leaderboard", __doc__, epilog=EXAMPLES)
    add_filters(parser, "show only runs")
    parser.add_argument("--overview", action="store_true", help="only the tables with all tasks of a benchmark")
    parser.add_argument("--by", help="one table per combination of these columns (default: benchmark,task,backbone)")
    parser.add_argument(
        "--format", choices=FORMATS, help="csv: one row per run; long: one row per metric; markdown, latex: the tables"
    )
    parser.add_argument("--output", type=Path, help="write --format to this file (default: print it)")
    parser.add_argument(
        "--names", nargs="+", default=[], metavar="METHOD=NAME", help="names of methods in --format markdown and latex"
    )
    parser.add_argument(
        "--published", type=Path, help="CSV of published numbers (default: reference/published.csv in the results)"
    )
    return parser


def _names(texts: Sequence[str], board: Leaderboard) -> dict[str, str]:
    methods = {entry.method for entry in board.entries}
    names = {}
    for text in texts:
        method, equals, name = text.partition("=")
        if not equals:
            raise CondsimError(f"--names {text}: expected METHOD=NAME, such as clay=CLAY")
        if method not in methods:
            raise CondsimError(f"--names {text}: no record has method {method!r}. {did_you_mean(method, methods)}")
        names[method] = name
    return names


def _format_of(output: Path) -> str:
    forms = {".csv": "csv", ".md": "markdown", ".tex": "latex"}
    if output.suffix not in forms:
        raise CondsimError(f"--output {output}: add --format {', '.join(FORMATS)}, or name the file .csv, .md or .tex")
    return forms[output.suffix]
