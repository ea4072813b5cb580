"""`condsim leaderboard`: rebuild the leaderboard from the records and show it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from condsim.harness.console import console
from condsim.harness.errors import CondsimError
from condsim.harness.leaderboard import print_leaderboard, write_leaderboard


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser("condsim leaderboard", description="Build results/leaderboard.csv and show it.")
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="the folder of records (default: results)"
    )
    options = parser.parse_args(argv)
    if not (options.results / "runs").is_dir():
        raise CondsimError(f"there are no records under {options.results / 'runs'}: run `condsim bench` first")
    rows = write_leaderboard(options.results)
    print_leaderboard(rows)
    console.print(f"{options.results / 'leaderboard.csv'} written, {len(rows)} rows")
    return 0
