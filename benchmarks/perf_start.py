"""What users wait for where nothing is to be computed: finished runs, the report, a check. Python's start included."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import REPEATS, SCALE, Row, cost, in_turn

AGAINST = "`python -c 'import hydra, numpy'`"


def measure() -> list[Row]:
    # With this variable, condsim would be compiled at each start, and hydra and numpy, which are installed, would not.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    tasks = ["tasks=[focus_attribute]"] if SCALE < 1 else []
    with tempfile.TemporaryDirectory() as folder:
        one, all_methods = (f"results={Path(folder) / name}" for name in ("one", "all"))

        def start(*arguments: str) -> None:
            subprocess.run(
                [sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, cwd=folder, env=environment
            )

        def condsim(*arguments: str) -> None:
            start("-m", "condsim.harness.cli", *arguments)

        jobs = {
            "`condsim bench`, all runs done": ("bench", one, *tasks),
            "`condsim bench experiment=embedded`, all runs done": ("bench", "experiment=embedded", all_methods, *tasks),
            "`condsim leaderboard` of these runs": ("leaderboard", "--results", str(Path(folder) / "all")),
            "`condsim report` of these runs, again": ("report", all_methods),
            "`condsim check benchmark=shapes decode=false`": ("check", "benchmark=shapes", "decode=false"),
        }
        for arguments in jobs.values():
            condsim(*arguments)
        bare, *times = in_turn(
            lambda: start("-c", "import hydra, numpy"),
            *(lambda arguments=arguments: condsim(*arguments) for arguments in jobs.values()),
            repeats=min(3, REPEATS),
            warm=False,
        )
    aims = (3, 7, 7, 7, 7)
    return [cost(what, AGAINST, ours, bare, aim) for what, ours, aim in zip(jobs, times, aims, strict=True)]
