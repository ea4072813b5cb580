"""`condsim train-backbone`: train the embedded backbone shapes-clip on captions of rendered scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from condsim.harness.settings.composition import for_each_job
from condsim.harness.terminal.console import console


def main(argv: Sequence[str]) -> int:
    return for_each_job("train-backbone", argv, run)


def run(settings: Mapping[str, Any]) -> int:
    from condsim.datasets.shapes.train_backbone import train  # torch: seconds to import

    console.print(f"{train(settings)} written")
    return 0
