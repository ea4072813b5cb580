"""What the feature cache holds, whether it is intact, and deleting from it: the work of `condsim cache`."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from condsim.harness.errors import CondsimError, did_you_mean
from condsim.harness.features.cache.digest_index import DigestIndex
from condsim.harness.features.cache.segment import Segment
from condsim.harness.features.cache.store import DIGESTS, folder_name
from condsim.harness.features.cache.table import IDENTITY, LOCK, FeatureTable, delete_old
from condsim.harness.files.writing import sweep

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
    """A file of the cache that cannot be used, and why."""

    file: Path
    fault: str


def survey(root: Path) -> tuple[list[Stored], list[Damage]]:
    """Every backbone with features under ``root``, the last used first; and the folders whose backbone is unknown."""
    entries: list[Stored] = []
    damage: list[Damage] = []
    for path in _folders(root):
        try:
            entries.append(_read_entry(path))
        except _UnknownBackboneError as error:
            advice = f"`condsim cache prune {path.name}` deletes its features, and they are encoded again when needed"
            damage.append(Damage(path / IDENTITY, f"{error}; {advice}"))
    return sorted(entries, key=lambda entry: -entry.used), damage


def verify(root: Path, repair: bool = False) -> list[Damage]:
    """Read every feature under ``root`` and return the damaged files; with ``repair``, keep only their intact rows."""
    entries, damage = survey(root)
    for entry in entries:
        for kind in KINDS:
            table = FeatureTable(entry.path / kind, entry.width, entry.identity)
            if not table.path.is_dir():
                continue
            faults = [
                Damage(path, fault)
                for path, segment in table.segments()
                if (fault := segment.fault() if isinstance(segment, Segment) else str(segment))
            ]
            if faults and repair:
                table.discard_damaged()
            damage += faults
    return damage


def choose(
    root: Path, names: Sequence[str] = (), unused_for: float | None = None, everything: bool = False
) -> list[Path]:
    """The folders with these names, those not used for so many days, or all. Raises CondsimError: unknown name."""
    folders = {path.name: path for path in _folders(root)}
    for name in names:
        if name not in folders:
            raise CondsimError(f"no features are stored in a folder {name!r}. {did_you_mean(name, folders)}")
    before = -np.inf if unused_for is None else time.time() - unused_for * DAY
    return [path for name, path in folders.items() if everything or name in names or _last_use(path) < before]


def prune(root: Path, folders: Sequence[Path], dry_run: bool = False) -> tuple[dict[Path, int], list[Path]]:
    """Delete ``folders``, and what killed processes left under ``root``.

    Returns the deleted folders with their sizes in bytes, and those that another process is writing to, which stay.
    Raises CondsimError if a folder cannot be deleted.
    """
    deleted: dict[Path, int] = {}
    busy: list[Path] = []
    for path in folders:
        try:
            with ExitStack() as locks:
                for kind in KINDS:
                    if (path / kind).is_dir():
                        locks.enter_context(FileLock(path / kind / LOCK, timeout=0))
                deleted[path] = _size(path)
                if not dry_run:
                    shutil.rmtree(path)
        except Timeout:
            busy.append(path)
        except OSError as error:
            raise CondsimError(f"{path} cannot be deleted: {error.strerror or error}") from error
    if not dry_run:
        _sweep(root)
    return deleted, busy


def _sweep(root: Path) -> None:
    DigestIndex(root / DIGESTS).forget_missing()
    for path in _folders(root):
        for kind in KINDS:
            sweep(path / kind)
            delete_old(path / kind)


class _UnknownBackboneError(Exception):
    """The file that says which backbone a folder belongs to is damaged or of another folder."""


def _folders(root: Path) -> list[Path]:
    """Every folder with features of one backbone."""
    try:
        return sorted(path for path in (root / "features").iterdir() if path.is_dir() and _has_features(path))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise CondsimError(f"{root / 'features'} cannot be read: {error.strerror or error}") from error


def _has_features(path: Path) -> bool:
    return (path / IDENTITY).exists() or any((path / kind).is_dir() for kind in KINDS)


def _read_entry(path: Path) -> Stored:
    file = path / IDENTITY
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        identity, width = {str(k): str(v) for k, v in content["identity"].items()}, int(content["width"])
        used = file.stat().st_mtime
    except FileNotFoundError:
        raise _UnknownBackboneError("it is missing") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise _UnknownBackboneError(f"it cannot be read ({type(error).__name__}: {error})") from error
    if folder_name(identity) != path.name:
        raise _UnknownBackboneError(f"it describes the backbone of another folder, {folder_name(identity)}")
    if width < 1:
        raise _UnknownBackboneError(f"it says that features have the width {width}")
    counts = {kind: len(FeatureTable(path / kind, width, identity)) for kind in KINDS}
    return Stored(path, identity, width, counts, _size(path), used)


def _size(path: Path) -> int:
    """Bytes of all files below ``path``."""
    total = 0
    for entry in path.rglob("*"):
        with suppress(OSError):  # deleted since it was listed
            total += entry.stat().st_size if entry.is_file() else 0
    return total


def _last_use(path: Path) -> float:
    try:
        return (path / IDENTITY).stat().st_mtime
    except OSError:
        return path.stat().st_mtime
