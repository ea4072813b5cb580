"""`condsim merge`: bring the records of other results folders, or of bundles, into one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from condsim.harness.errors import counted
from condsim.harness.results.bundle import unpacked
from condsim.harness.results.merge import merge
from condsim.harness.results.results import Results
from condsim.harness.terminal.console import console, warn
from condsim.harness.terminal.parser import Parser


def main(argv: Sequence[str]) -> int:
    parser = Parser("condsim merge", __doc__)
    parser.add_argument("sources", nargs="+", type=Path, metavar="SOURCE", help="a results folder or a bundle")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder to merge into (default: results)")
    options = parser.parse_args(argv)
    for source in options.sources:
        with _folder(source) as folder:
            merged = merge(folder, options.results)
        warn(*merged.notes)
        console.print(f"{source}: {counted(len(merged.added), 'record')} added, {merged.present} already there")
    results = Results(options.results)
    board = results.write_leaderboard()
    warn(*results.notes)
    console.print(f"{options.results / 'leaderboard.csv'} written, {counted(len(board), 'row')}")
    return 0


@contextmanager
def _folder(source: Path) -> Iterator[Path]:
    if source.is_file():
        with unpacked(source) as folder:
            yield folder
    else:
        yield source
