"""`condsim compare`: which methods differ significantly on a task, tested on the same queries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from condsim.harness.results.formats import print_tables, to_latex
from condsim.harness.results.output import write_text
from condsim.harness.results.question_set import older_sets
from condsim.harness.results.results import Results
from condsim.harness.terminal.console import console, warn
from condsim.harness.terminal.parser import Parser


def main(argv: Sequence[str]) -> int:
    parser = Parser("condsim compare", __doc__)
    parser.add_argument(
        "--task", action="append", metavar="TASK",
        help="such as shapes/cirr; can be given several times (default: every task)",
    )  # fmt: skip
    parser.add_argument("--metric", help="such as recall@1 (default: the task's headline metric)")
    parser.add_argument(
        "--runs", nargs="+", metavar="METHOD", help="compare only these methods, or runs such as 'clay rank=5'"
    )
    parser.add_argument(
        "--question-set", metavar="ID", help="compare the runs on this question set (default: each task's newest)"
    )
    parser.add_argument("--pairs", action="store_true", help="show every pair too: difference, interval, p")
    parser.add_argument("--latex", type=Path, metavar="FILE", help="also write the tables as LaTeX")
    parser.add_results()
    options = parser.parse_args(argv)
    results = Results(options.results)
    results.require_runs()
    names = options.task or dict.fromkeys(group.full_name for group in results.question_sets)
    chosen = [results.question_set(name, options.question_set) for name in names]
    tables = []
    for group in chosen:
        if group.metrics:
            comparison = results.compare(group.full_name, options.metric, options.runs, options.question_set)
            tables += comparison.tables(pairs=options.pairs)
        else:
            console.print(f"{group.full_name}: its ground truth is withheld, so there is nothing to compare")
    print_tables(tables)
    compared = {group.full_name for group in chosen}
    others = [group for group in results.question_sets if group.full_name in compared]
    warn(*results.notes, *(f"not compared: {note}" for note in older_sets(others, chosen)))
    if options.latex:
        write_text(options.latex, to_latex(tables))
        console.print(f"{options.latex} written")
    return 0
