"""Where to get the files of each benchmark, their licences, and what they hold: ``sources.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]


@dataclass(frozen=True)
class Remote:
    """One file that needs no licence agreement."""

    url: str
    place: str
    """Path under the download folder: of the file, or of the archive's folder with this name."""
    size: int | None = None
    """Bytes."""
    checksum: str | None = None
    """"sha256:..." or "md5:..."."""

    @property
    def unpack(self) -> bool:
        return self.url.endswith(".zip")


@dataclass(frozen=True)
class Source:
    """One part of a benchmark."""

    name: str
    home: str
    licence: str
    remotes: tuple[Remote, ...] = ()
    """Empty: download by hand from ``home``."""
    wanted: bool = True
    """False: downloaded only if ``parts`` names it."""


_FILE: Mapping[str, Any] = yaml.safe_load(Path(__file__).with_name("sources.yaml").read_text(encoding="utf-8"))


def _source(key: str, wanted: bool) -> Source:
    entry = _FILE["sources"][key]
    remotes = tuple(Remote(**remote) for remote in entry.get("files", ()))
    return Source(entry["name"], entry["home"], entry["licence"], remotes, wanted)


SOURCES: Mapping[str, tuple[Source, ...]] = {
    benchmark: tuple(
        _source(key, wanted=kind == "parts") for kind in ("parts", "optional") for key in entry.get(kind, ())
    )
    for benchmark, entry in _FILE["benchmarks"].items()
}
"""Benchmark name -> its parts. A user's own benchmark has none."""

OPTIONS: Mapping[str, Mapping[str, str]] = {
    benchmark: entry["options"] for benchmark, entry in _FILE["benchmarks"].items() if "options" in entry
}
"""Benchmark name -> the options to set after a download, and the folder for each."""

PUBLISHED: Mapping[str, Mapping[str, int]] = _FILE["published"]
"""Benchmark -> what is counted -> the published count."""
