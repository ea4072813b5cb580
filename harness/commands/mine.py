"""`condsim mine`: mine training triplets from captions (GeneCIS, section 5.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from condsim.datasets.mining.mine import mine_triplets
from condsim.harness.commands.on_engine import run_on_engine
from condsim.harness.configs import make
from condsim.harness.engine.engine import Engine
from condsim.harness.terminal.console import console


def main(argv: Sequence[str]) -> int:
    return run_on_engine("mine", argv, run)


def run(settings: Mapping[str, Any], engine: Engine) -> int:
    """Mine by the settings of conf/mine.yaml, and print the counts."""
    summary = mine_triplets(
        make(settings["captions"], "captions"),
        make(settings["parser"], "parser"),
        Path(settings["output"]),
        concreteness=settings["concreteness"],
        count=settings["count"],
        seed=settings["seed"],
        limit=settings["limit"],
        shard=settings["shard"],
        recipe=settings["recipe"],
        engine=engine,
    )
    for key in ("captions", "relations", "rated", "kept", "subjects", "triplets"):
        console.print(f"{key:<10} {summary[key]:>12,}")
    console.print(f"{Path(settings['output']) / 'triplets.parquet'} and summary.json written")
    return 0
