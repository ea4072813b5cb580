"""A sweep over five ranks against one run, as a user starts them: Python's start, loading and statistics included."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import REPEATS, SCALE, Row, cost, in_turn, within

from condsim.harness.settings.composition import jobs

RANKS = (2, 5, 10, 20, 50)
MANY = range(1, 101)


def measure() -> list[Row]:
    chosen = ["benchmark=shapes", "backbone=shapes-clip", "method=clay", "force=true"]
    if SCALE < 1:
        chosen.append("tasks=[focus_attribute]")
    with tempfile.TemporaryDirectory() as folder:

        def bench(*more: str) -> None:
            command = [sys.executable, "-m", "condsim.harness.cli", "bench", *more, *chosen]
            command.append(f"results={Path(folder) / 'results'}")
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

        def one() -> None:
            bench("method.rank=10")

        def sweep() -> None:
            bench("-m", f"method.rank={','.join(map(str, RANKS))}")

        one()  # renders and encodes what is not stored yet
        ours, theirs = in_turn(sweep, one, repeats=min(3, REPEATS), warm=False)
    what = (
        f"CLAY on {'one task' if SCALE < 1 else 'all tasks'} of the embedded benchmark, {len(RANKS)} ranks in one sweep"
    )
    (composing,) = in_turn(
        lambda: list(jobs("bench", ["-m", "method=clay", f"method.rank={','.join(map(str, MANY))}"]))
    )
    each = [seconds / len(MANY) for seconds in composing]
    return [
        cost(what, "`condsim bench` with one rank", ours, theirs, 1.5),
        within(f"composing and checking one of {len(MANY)} settings of a sweep", each, 0.05),
    ]
