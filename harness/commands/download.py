"""`condsim download`: fetch the files of a benchmark that need no licence agreement, and say where to get the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from condsim.datasets.download import choose, fetch
from condsim.datasets.sources import OPTIONS, SOURCES
from condsim.harness.settings.composition import for_each_job
from condsim.harness.terminal.console import console


def main(argv: Sequence[str]) -> int:
    return for_each_job("download", argv, run)


def run(settings: Mapping[str, Any]) -> int:
    """Fetch the parts ``settings["parts"]`` (None: all that it needs) of a benchmark into ``settings["folder"]``."""
    name, folder = str(settings["benchmark"]["name"]), Path(settings["folder"])
    chosen = choose(name, settings["parts"])
    for source in chosen:
        console.print(f"{name}: {source.name}. Licence: {source.licence}. Home: {source.home}")
        for remote in source.remotes:
            console.print(f"  {fetch(remote, folder)}")
    for source in SOURCES[name]:
        if not source.remotes:
            console.print(f"Download by hand: {source.name} from {source.home} ({source.licence})")
    filled = (f"benchmark.{option}={folder / place}" for option, place in OPTIONS.get(name, {}).items())
    console.print(" ".join(["Next: condsim check", f"benchmark={name}", *filled]))
    return 0
