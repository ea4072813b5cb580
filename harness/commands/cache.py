"""`condsim cache ls|verify|prune`: what the feature store holds, whether it is whole, and making room."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from rich.table import Table

from condsim.harness.console import console
from condsim.harness.errors import CondsimError, did_you_mean
from condsim.harness.features.cache.segment import TEMPORARY, Segment
from condsim.harness.features.cache.store import FeatureStore
from condsim.harness.features.cache.table import IDENTITY, LOCK, FeatureTable
from condsim.harness.paths import default_cache_dir

KINDS = ("image", "text")
DAY = 86_400


@dataclass(frozen=True)
class Stored:
    """The features of one backbone."""

    path: Path
    identity: dict[str, str]
    width: int
    counts: dict[str, int]
    """Distinct features by kind."""
    size: int
    """Bytes on the disk."""
    used: float
    """When it was last read or written, in seconds since 1970."""

    @property
    def weights(self) -> str:
        return self.identity.get("pretrained") or self.identity.get("weights", "")[:8]


@dataclass(frozen=True)
class Damage:
    """A feature file that is not as it was written."""

    file: Path
    fault: str


def main(argv: Sequence[str]) -> int:
    """`condsim cache`; the exit status is 1 where `verify` leaves damage behind."""
    parser = argparse.ArgumentParser("condsim cache", description=__doc__)
    parser.add_argument("--cache-dir", type=Path, default=None, help="default: CONDSIM_CACHE, else ~/.cache/condsim")
    commands = parser.add_subparsers(dest="command", required=True, metavar="ls|verify|prune")
    commands.add_parser("ls", help="list the backbones whose features are stored")
    check = commands.add_parser("verify", help="read every feature and compare its checksum")
    check.add_argument("--repair", action="store_true", help="drop what is damaged; it is encoded again when needed")
    room = commands.add_parser("prune", help="delete features, and what killed processes left behind")
    room.add_argument("folders", nargs="*", metavar="FOLDER", help="a folder as `ls` names it")
    room.add_argument("--unused-for", type=float, metavar="DAYS", help="every backbone not used for so long")
    room.add_argument("--all", action="store_true", help="every backbone")
    room.add_argument("--dry-run", action="store_true", help="only say what would be deleted")
    options = parser.parse_args(argv)
    root = (options.cache_dir or default_cache_dir()).expanduser()
    if options.command == "ls":
        _print_stored(root, stored(root))
        return 0
    if options.command == "verify":
        damage = verify(root, options.repair)
        for entry in damage:
            console.print(f"{entry.file}: {entry.fault}", markup=False)
        advice = "" if not damage else "; dropped" if options.repair else "; `condsim cache verify --repair` drops them"
        console.print(f"{len(damage)} damaged files in {root}{advice}", markup=False)
        return 1 if damage and not options.repair else 0
    chosen = choose(stored(root), options.folders, options.unused_for, options.all)
    said = "would delete" if options.dry_run else "deleted"
    for gone in prune(root, chosen, options.dry_run):
        console.print(f"{said} {gone.path.name}, {_megabytes(gone.size)}", markup=False)
    return 0


def stored(root: Path) -> list[Stored]:
    """Every backbone with features under ``root``, the last used first."""
    return sorted((_stored(path) for path in _folders(root)), key=lambda entry: -entry.used)


def verify(root: Path, repair: bool = False) -> list[Damage]:
    """Every damaged feature file under ``root``; with ``repair``, their whole rows are kept and the rest dropped."""
    found = []
    for entry in stored(root):
        for kind in KINDS:
            folder = FeatureTable(entry.path / kind, entry.width)
            if not folder.path.is_dir():
                continue
            damage = [
                Damage(path, fault) for path, segment in folder.segments() if (fault := _fault(segment)) is not None
            ]
            if damage and repair:
                folder.discard_damaged()
            found += damage
    return found


def choose(
    entries: Sequence[Stored], names: Sequence[str] = (), unused_for: float | None = None, everything: bool = False
) -> list[Stored]:
    """The entries with these folder names, or not used for so many days, or all. Raises CondsimError: unknown name."""
    known = {entry.path.name for entry in entries}
    for name in names:
        if name not in known:
            raise CondsimError(f"no features are stored in a folder {name!r}. {did_you_mean(name, known)}")
    before = -np.inf if unused_for is None else time.time() - unused_for * DAY
    return [entry for entry in entries if everything or entry.path.name in names or entry.used < before]


def prune(root: Path, chosen: Sequence[Stored], dry_run: bool = False) -> list[Stored]:
    """Delete the ``chosen`` features and what killed processes left under ``root``; those that were deleted.

    A backbone that another process is encoding for is left alone.
    """
    gone = []
    for entry in chosen:
        locks = [FileLock(entry.path / kind / LOCK, timeout=0) for kind in KINDS if (entry.path / kind).is_dir()]
        try:
            for lock in locks:
                lock.acquire()
            if not dry_run:
                shutil.rmtree(entry.path)
            gone.append(entry)
        except Timeout:
            console.print(f"{entry.path.name} is being written to: left alone", markup=False)
        except OSError as error:
            raise CondsimError(f"{entry.path} cannot be deleted: {error.strerror or error}") from error
        finally:
            for lock in locks:
                lock.release()
    if not dry_run:
        _sweep(root)
    return gone


def _sweep(root: Path) -> None:
    FeatureStore(root).digests.forget_missing()
    for path in _folders(root):
        for kind in KINDS:
            with suppress(Timeout, OSError), FileLock(path / kind / LOCK, timeout=0):
                for file in (path / kind).glob(f"*{TEMPORARY}"):
                    file.unlink(missing_ok=True)


def _folders(root: Path) -> list[Path]:
    return sorted(file.parent for file in (root / "features").glob(f"*/{IDENTITY}"))


def _stored(path: Path) -> Stored:
    file = path / IDENTITY
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        identity, width = {str(k): str(v) for k, v in content["identity"].items()}, int(content["width"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CondsimError(
            f"{file} is damaged ({error}): delete the folder {path}, its features are encoded again"
        ) from error
    counts = {kind: len(FeatureTable(path / kind, width)) for kind in KINDS}
    size = sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
    return Stored(path, identity, width, counts, size, file.stat().st_mtime)


def _fault(segment: Segment | Exception) -> str | None:
    if isinstance(segment, Exception):
        return str(segment)
    bad = int((~segment.read(np.arange(len(segment)))[1]).sum())
    if not bad and segment.keys_whole:
        return None
    return f"{bad} of its {len(segment)} rows do not fit their checksums" if bad else "its header is damaged"


def _print_stored(root: Path, entries: Sequence[Stored]) -> None:
    if not entries:
        console.print(f"no features are stored in {root}", markup=False)
        return
    table = Table(
        "model", "weights", "transform", "precision", "images", "texts", "width", "size", "last used", "folder"
    )
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        about = (entry.identity.get("model", ""), entry.weights, entry.identity.get("transform", ""))
        counts = (f"{entry.counts['image']:,}", f"{entry.counts['text']:,}", str(entry.width), _megabytes(entry.size))
        table.add_row(*about, entry.identity.get("precision", ""), *counts, used, entry.path.name)
    console.print(table)
    console.print(f"{_megabytes(sum(entry.size for entry in entries))} in {root}", markup=False)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
