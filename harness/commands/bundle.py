"""`condsim bundle`: records, settings, versions and environment as one archive that anybody can verify."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from condsim.harness.commands.leaderboard import add_filters
from condsim.harness.errors import CondsimError
from condsim.harness.results.bundle import read_bundle, unpacked, write_bundle
from condsim.harness.results.leaderboard import parse_filters
from condsim.harness.results.results import Results
from condsim.harness.terminal.console import console, warn
from condsim.harness.terminal.parser import Parser

EXAMPLES = """\
examples:
  condsim bundle                                        all records, to bundle.zip
  condsim bundle method=clay,image_only --output clay.zip
  condsim bundle --verify clay.zip
"""


def main(argv: Sequence[str]) -> int:
    parser = Parser("condsim bundle", __doc__, epilog=EXAMPLES)
    add_filters(parser, "bundle only runs")
    parser.add_argument("--output", type=Path, default=Path("bundle.zip"), help="the archive (default: bundle.zip)")
    parser.add_argument("--verify", type=Path, metavar="FILE", help="check an archive, and write nothing")
    options = parser.parse_intermixed_args(argv)
    if options.verify is not None:
        return _verify(options.verify)
    filters = parse_filters(options.filters)
    results = Results(options.results)
    results.require_runs()
    chosen = results.leaderboard().select(**filters)
    hashes = {entry.run for entry in chosen.entries}
    runs = [run for run in results.runs if run.run in hashes]
    if not runs:
        raise CondsimError("no record has these values, so there is nothing to bundle")
    files = write_bundle(options.output, runs, chosen.to_csv())
    warn(*results.notes)
    console.print(f"{options.output} written: {len(runs)} records, {files} files")
    return 0


def _verify(path: Path) -> int:
    files = read_bundle(path)
    with unpacked(path) as folder:
        results = Results(folder)
        results.require_runs()
        if results.notes:
            raise CondsimError(f"{path}: {results.notes[0]}")
        console.print(f"{path} is intact: {len(results.runs)} records, {len(files)} files")
    return 0
