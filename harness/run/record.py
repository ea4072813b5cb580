"""A record: the folder of plain files that one run leaves. Read and written without torch or numpy.

``record.json`` holds a digest of every file beside it and of its own content. A record is read whole and right, or it
is a :class:`RecordError`: nothing damaged, misplaced or out of range gets into a table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from condsim.harness.errors import CondsimError
from condsim.harness.files.hashing import content_digest, json_digest, settings_hash
from condsim.harness.files.paths import safe_name
from condsim.harness.files.writing import SCRATCH, atomic_folder, sweep
from condsim.harness.names import unusable_character
from condsim.harness.ranking.metric_names import in_order

RECORD_SCHEMA = 2
RECORD = "record.json"
_MOST_BYTES = 256 << 20
"""A larger record.json is not read: no run writes one, and reading it would fill the memory."""


CONTENT = "content:"
"""In a run's config, the start of what replaces the name of a file: the digest of its content follows."""


class RecordError(CondsimError):
    """A record that is damaged, of another schema, or in a wrong folder. The message names the file and the reason."""


@dataclass(frozen=True)
class Measurement:
    """A mean over queries with its 95 % interval. All numbers are fractions in [0, 1]; percent is for printing."""

    value: float
    low: float | None = None
    """The ends of the interval. A record always has them; a mean of metrics on the same queries has none."""
    high: float | None = None
    chance: float | None = None
    """What a scorer that gives every candidate the same score gets."""
    reported: float | None = None
    """The value that others published for the same method, backbone and task. Never part of a record."""
    source: str | None = None
    """The paper and table of ``reported``."""

    @property
    def ends(self) -> tuple[float, float]:
        """The ends of the interval; the value itself where there is no interval."""
        return (self.value if self.low is None else self.low, self.value if self.high is None else self.high)


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
    """Everything that was hashed: see :func:`condsim.harness.run.identity.identify`."""
    queries: int
    clusters: int
    cluster_name: str
    metrics: dict[str, Measurement]
    """The headline metric first."""
    seconds: dict[str, float]
    """Wall time in seconds of "encode", "prepare" and "score"."""
    versions: dict[str, str]
    headlines: dict[str, list[list[str]]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What a reader should know about the data and about inputs that were not read as they are, one sentence each."""
    variant: str = ""
    """``Task.variant``: what makes this another question than the task of this name by default."""
    created: str = ""
    """UTC, ISO 8601."""
    top: int = 0
    """Best candidates per query in ``top.npy``."""
    choice: dict[str, Any] = field(default_factory=dict)
    """Of settings that were chosen on validation data: the values, their score there, and every candidate with its
    score; empty where nothing was chosen."""
    training: dict[str, Any] = field(default_factory=dict)
    """How the method's weights were trained (``Method.trained_with``), for tables and plots."""
    files: dict[str, str] = field(default_factory=dict)
    """Path within the folder -> digest of the file's bytes, for every file but ``record.json``."""
    schema: int = RECORD_SCHEMA

    @property
    def full_task(self) -> str:
        return f"{self.benchmark}/{self.task}"


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names: ``{"base": {"rank": 5}}`` is ``{"base.rank": 5}``."""
    names: dict[str, Any] = {}
    for key, value in settings.items():
        names |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return names


def typed(value: Any) -> str:
    """A value as one types it in a setting: ``null``, ``true``, ``[a,b]``, ``0.5``."""
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(typed, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def settings_text(settings: Mapping[str, Any]) -> str:
    """Settings as one types them: ``rank=5 base.weight=0.3``."""
    return " ".join(f"{name}={typed(value)}" for name, value in sorted(settings.items()))


def task_folder(results: Path, benchmark: str, task: str) -> Path:
    """Where the records of a task are."""
    return results / "runs" / safe_name(benchmark) / safe_name(task)


def record_folder(results: Path, benchmark: str, task: str, method: str, run: str) -> Path:
    return task_folder(results, benchmark, task) / f"{safe_name(method)}-{run}"


def write_record(folder: Path, record: Record, write_more: Callable[[Path], None] = lambda folder: None) -> Record:
    """Write the whole folder or nothing; a record that is there stays in place until the new one replaces it.

    ``write_more`` gets the folder to put further files in (the per-query ranks). Returns the record with the digests of
    these files. Raises RecordError, before anything is written, for a record that could not be read again.
    """
    try:
        _checked(json.loads(_text(record)), folder)
    except (TypeError, ValueError, RecursionError) as error:
        raise RecordError(f"{folder / RECORD} cannot be written as a record: {error}") from None
    sweep(folder.parent)
    with atomic_folder(folder) as scratch:
        write_more(scratch)
        paths = (path for path in sorted(scratch.rglob("*")) if path.is_file())
        files = {path.relative_to(scratch).as_posix(): content_digest(path.read_bytes()) for path in paths}
        record = Record(**{**vars(record), "files": files})
        (scratch / RECORD).write_bytes(_text(record).encode("utf-8", "backslashreplace"))
    return record


def read_record(folder: Path) -> Record:
    """The record in ``folder``, its files checked. Raises RecordError where anything is not as it was written."""
    path = folder / RECORD
    before = None
    while True:
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise RecordError(f"{path} is too large for a record")
            data = path.read_bytes()
            record = _checked(_parsed(data), folder)
            for name in record.files:
                read_file(folder, record, name)
            return record
        except (OSError, ValueError, RecursionError, MemoryError, CondsimError) as error:
            if before == (seen := _bytes(path)):
                if isinstance(error, RecordError):
                    raise
                reason = "the file does not exist" if isinstance(error, FileNotFoundError) else str(error)
                raise RecordError(f"{path} cannot be read as a record: {reason}") from None
            before = seen  # another process may have replaced the folder between two reads: look again


def read_file(folder: Path, record: Record, name: str) -> bytes:
    """The bytes of the record's file ``name``. Raises RecordError where they are not those that the run wrote."""
    path = folder / name
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror or error}"
        raise RecordError(f"{path} {reason}") from None
    if content_digest(data) != record.files.get(name):
        raise RecordError(f"{path} is damaged: its content is not what the run wrote")
    return data


def find_records(results: Path) -> Iterator[tuple[Path, Record | RecordError]]:
    """Every record folder under ``results/runs`` in a fixed order, with its record or with what is wrong with it."""
    root = results / "runs"
    folders = sorted(path.parent for path in root.glob(f"**/{RECORD}"))
    for folder in folders:
        if any(part.startswith(SCRATCH) for part in folder.relative_to(root).parts):
            continue
        try:
            yield folder, read_record(folder)
        except RecordError as error:
            yield folder, error


def _text(record: Record) -> str:
    content = asdict(record) | {"headline": next(iter(record.metrics), "")}  # the metrics' own order is not kept
    content["metrics"] = {name: {part: m[part] for part in _MEASURED} for name, m in content["metrics"].items()}
    content["digest"] = json_digest(content)
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _parsed(data: bytes) -> dict[str, Any]:
    """The content of a record.json of this schema, unchanged since it was written."""
    content = json.loads(data.decode("utf-8"))
    if not isinstance(content, dict) or content.get("schema") != RECORD_SCHEMA:
        schema = content.get("schema") if isinstance(content, dict) else None
        raise ValueError(f"its schema is {ascii(schema)[:40]}, expected {RECORD_SCHEMA}")
    return content


def _checked(content: dict[str, Any], folder: Path) -> Record:
    """The record, if every field is of its type and in its range. Raises RecordError."""

    def require(holds: bool, what: str) -> None:
        if not holds:
            raise RecordError(f"{folder / RECORD} is not a record: {what}")

    digest = content.pop("digest", None)
    missing, unknown = _CHECKS.keys() - content.keys() - _ADDED.keys(), content.keys() - _CHECKS.keys()
    require(not missing, f"{min(missing, default='')} is missing")
    require(not unknown, f"{min(unknown, default='')!a} is no field of a record")
    for name, (holds, expected) in _CHECKS.items():
        require(holds((_ADDED | content)[name]), f"{name} should be {expected}")
    metrics: dict[str, Measurement] = {}
    for name, numbers in content["metrics"].items():
        require(_is_metric(name), f"there is no metric {ascii(name)[:60]}")
        problem = _problem_of_metric(numbers)
        require(problem is None, f"metric {name}: {problem}")
        metrics[name] = Measurement(**numbers)
    require(digest == json_digest(content), "its content does not match its digest")
    content = _ADDED | content
    metrics = {name: metrics[name] for name in in_order(metrics, content.pop("headline"))}
    record = Record(**{**content, "metrics": metrics})
    config = record.config
    require(record.clusters <= record.queries, "clusters should be at most queries")
    require(isinstance(config.get("method_config"), dict), "config.method_config should be a mapping")
    require(_is_name(config.get("fingerprint")), "config.fingerprint should be a text")
    require(config.get("task") == record.full_task, "config.task should be its task")
    require(config.get("method") == record.method, "config.method should be its method")
    require(settings_hash(config) == record.run, "run is not the hash of its config")
    place = record_folder(Path(), record.benchmark, record.task, record.method, record.run)
    require(folder.absolute().parts[-3:] == place.parts[-3:], f"it belongs into {'/'.join(place.parts[-3:])}")
    return record


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if path.stat().st_size <= _MOST_BYTES else None
    except (OSError, MemoryError):
        return None


def _problem_of_metric(numbers: Any) -> str | None:
    if not isinstance(numbers, dict) or numbers.keys() != set(_MEASURED):
        return "expected value, low, high and chance"
    for name, number in numbers.items():
        if not (_is_number(number) and 0 <= number <= 1) and not (name == "chance" and number is None):
            return f"{name} should be a number in [0, 1]"
    if not numbers["low"] <= numbers["value"] <= numbers["high"]:
        return "the interval does not hold the value"
    return None


def _is_metric(name: str) -> bool:
    """Whether a metric may be called so: "recall@10", "subset_map"; no other column of a table is."""
    return re.fullmatch(r"[a-z]+(_[a-z]+)*(@[1-9][0-9]{0,8})?", name) is not None and name not in _COLUMNS


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != "" and unusable_character(value) is None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -1e300 < value < 1e300  # no NaN either


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_time(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


def _mapping(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(_is_name, value)) and all(map(holds, value.values()))


def _list(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(holds, value))


def _is_part_of_headline(value: Any) -> bool:
    return _list(_is_text)(value) and len(value) in (2, 3) and all(map(_is_name, value[:2]))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, str)) or _is_number(value)


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{32}", value) is not None


def _is_inside(name: str) -> bool:
    return name != RECORD and not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts


_COLUMNS = frozenset(
    ("benchmark", "task", "method", "backbone", "settings", "rank", "queries", "question_set", "metric", "value",
     "chance", "standing", "letters", "seconds", "run", "mean")
)  # fmt: skip
_MEASURED = ("value", "low", "high", "chance")
"""The fields of a measurement that a record holds."""
_ADDED: dict[str, Any] = {"notes": [], "choice": {}, "training": {}, "headline": ""}
"""Fields that records of earlier versions lack, and what that means."""
_NAME = (_is_name, "a printable name")
_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "run": (lambda value: isinstance(value, str) and re.fullmatch(r"[0-9a-f]{12}", value) is not None, "a hash"),
    **dict.fromkeys(("benchmark", "task", "method", "backbone", "cluster_name"), _NAME),
    "settings": (_mapping(lambda value: True), "a mapping"),
    "config": (_mapping(lambda value: True), "a mapping"),
    "queries": (_is_count, "a count"),
    "clusters": (_is_count, "a count"),
    "metrics": (_mapping(lambda value: True), "a mapping"),
    "headline": (_is_text, "a text"),
    "seconds": (_mapping(lambda value: _is_number(value) and value >= 0), "a mapping to numbers"),
    "variant": (_is_text, "a text"),
    "versions": (_mapping(_is_text), "a mapping to texts"),
    "headlines": (_mapping(_list(_is_part_of_headline)), "a mapping to lists of (task, metric, fingerprint)"),
    "skipped": (_list(_is_text), "a list of texts"),
    "notes": (_list(_is_text), "a list of texts"),
    "created": (_is_time, "a time with its zone"),
    "top": (_is_count, "a count"),
    "choice": (_mapping(lambda value: True), "a mapping"),
    "training": (_mapping(_is_plain), "a mapping to numbers and texts"),
    "files": (lambda value: _mapping(_is_digest)(value) and all(map(_is_inside, value)), "a mapping to digests"),
    "schema": (lambda value: value == RECORD_SCHEMA, f"{RECORD_SCHEMA}"),
}
