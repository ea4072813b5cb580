"""Bring the records of another results folder into this one: every one of them checked, nothing overwritten."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from condsim.harness.errors import CondsimError
from condsim.harness.files.paths import safe_name
from condsim.harness.files.writing import atomic, atomic_folder
from condsim.harness.results.server import answer_path
from condsim.harness.run.record import Record, RecordError, find_records, read_record, record_folder


@dataclass
class Merged:
    """What became of the records of one folder."""

    added: list[Record] = field(default_factory=list)
    present: int = 0
    """Records that were there already, with the same numbers."""
    notes: list[str] = field(default_factory=list)
    """Records that were not taken, one sentence each."""


def merge(source: Path, results: Path) -> Merged:
    """Copy every sound record below ``source`` that ``results`` does not have, with the files beside it.

    A run that both have keeps the record of ``results``. Raises CondsimError where ``source`` has no records, and
    OSError where ``results`` cannot be written.
    """
    merged, found = Merged(), False
    for folder, record in find_records(source):
        found = True
        if isinstance(record, RecordError):
            merged.notes.append(f"left out: {record}")
            continue
        place = record_folder(results, record.benchmark, record.task, record.method, record.run)
        _copy_beside(answer_path(folder, record.run).name, folder, place)
        own = _own(place)
        if own is not None:
            merged.present += own.metrics == record.metrics
            if own.metrics != record.metrics:
                merged.notes.append(
                    f"{place} is kept: {folder} is the same run with other numbers ({_differs(own, record)})"
                )
            continue
        # Without the task's file, only the pages of single queries are missing.
        _copy_beside(f"task-{safe_name(str(record.config['fingerprint']))}.npz", folder, place)
        with atomic_folder(place) as scratch:
            shutil.copytree(folder, scratch, dirs_exist_ok=True)
        merged.added.append(read_record(place))
    if not found:
        raise CondsimError(f"{source}: there are no records in {source / 'runs'}")
    return merged


def _own(place: Path) -> Record | None:
    try:
        return read_record(place) if place.exists() else None
    except RecordError:  # a damaged one is replaced by a sound one
        return None


def _differs(own: Record, other: Record) -> str:
    name = next((n for n in own.metrics if own.metrics.get(n) != other.metrics.get(n)), None)
    if name is None or name not in other.metrics:
        return "other metrics"
    return f"{name} {100 * own.metrics[name].value:.2f} and {100 * other.metrics[name].value:.2f}"


def _copy_beside(name: str, folder: Path, place: Path) -> None:
    """Copy the file ``name`` that is beside ``folder`` beside ``place``, unless there is one."""
    source, target = folder.parent / name, place.parent / name
    if source.is_file() and not target.exists():
        with atomic(target) as scratch:
            shutil.copyfile(source, scratch)
