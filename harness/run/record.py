"""A record: the folder of plain files that one run leaves. Read and written without torch or numpy."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SCHEMA = 1
FILE = "record.json"


@dataclass(frozen=True)
class MetricValue:
    """A mean over queries as a fraction in [0, 1] with its 95 % interval, and what a constant scorer would get."""

    value: float
    low: float
    high: float
    chance: float | None = None


@dataclass(frozen=True)
class Record:
    """One task x method x backbone x settings. Beside ``record.json`` its folder holds the per-query ranks."""

    run: str
    """The settings hash: the same settings give the same run."""
    benchmark: str
    task: str
    method: str
    backbone: str
    settings: dict[str, Any]
    """Settings of the method that differ from its defaults, flat ("base.weight")."""
    config: dict[str, Any]
    """Everything that was hashed: the method's whole config, the backbone's identity, the task's fingerprint."""
    queries: int
    clusters: int
    cluster_name: str
    metrics: dict[str, MetricValue]
    seconds: dict[str, float]
    """Wall time in seconds of "encode", "prepare" and "score"."""
    versions: dict[str, str]
    headlines: dict[str, list[list[str]]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    created: str = ""
    schema: int = SCHEMA

    @property
    def full_task(self) -> str:
        return f"{self.benchmark}/{self.task}"


def record_folder(results: Path, benchmark: str, task: str, method: str, run: str) -> Path:
    return results / "runs" / benchmark / task / f"{_file_name(method)}-{run}"


def write_record(folder: Path, record: Record, write_more: Callable[[Path], None] = lambda folder: None) -> None:
    """Write the whole folder or nothing: it is filled beside its place and renamed into it.

    ``write_more`` is given the folder to put further files in (the per-query ranks).
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
    try:
        write_more(scratch)
        text = json.dumps(asdict(record), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        (scratch / FILE).write_text(text + "\n", encoding="utf-8")
        scratch.chmod(0o755)
        if folder.exists():  # only with force=true, or when another process has just finished the same run
            shutil.rmtree(folder)
        os.replace(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def read_record(folder: Path) -> Record:
    """The record in ``folder``. Raises ValueError, naming what is wrong, where it is corrupt or of another schema."""
    path = folder / FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
        found = raw.get("schema") if isinstance(raw, dict) else None
        raise ValueError(f"{path} has schema {found!r}, expected {SCHEMA}")
    try:
        raw["metrics"] = {name: MetricValue(**value) for name, value in raw["metrics"].items()}
        record = Record(**raw)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is not a record: {error}") from None
    wrong = [name for name, kind in _KINDS.items() if not isinstance(getattr(record, name), kind)]
    if wrong:
        raise ValueError(f"{path} is not a record: {wrong[0]} should be of type {_KINDS[wrong[0]].__name__}")
    if not all(
        isinstance(number, (int, float)) for m in record.metrics.values() for number in (m.value, m.low, m.high)
    ):
        raise ValueError(f"{path} is not a record: a metric is not a number")
    return record


_KINDS: dict[str, type] = {
    **dict.fromkeys(("run", "benchmark", "task", "method", "backbone"), str),
    **dict.fromkeys(("settings", "config", "metrics", "seconds", "headlines"), dict),
    "queries": int,
}


def find_records(results: Path) -> Iterator[tuple[Path, Record | ValueError]]:
    """Every record folder under ``results/runs`` in a fixed order, with its record or with what is wrong with it."""
    root = results / "runs"
    folders = sorted(path.parent for path in root.glob(f"**/{FILE}") if not path.parent.name.startswith(".writing-"))
    for folder in folders:
        try:
            yield folder, read_record(folder)
        except ValueError as error:
            yield folder, error


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name) or "_"
