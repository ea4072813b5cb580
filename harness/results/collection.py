"""Runs on the same queries: what comparisons, plots and the report read of a results folder. Free of torch."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from condsim.harness.errors import CondsimError
from condsim.harness.ranking.metrics import headline_metric, per_query
from condsim.harness.ranking.ranks import Ranks
from condsim.harness.results.csv_file import metric_names
from condsim.harness.run.record import Record, find_records
from condsim.harness.run.task_file import load_task, task_path
from condsim.harness.task import Rows, Task


@dataclass(frozen=True)
class Run:
    """A record and where its per-query files are."""

    folder: Path
    record: Record
    label: str
    """The method and those of its settings that are not the default; the backbone where there are several."""

    def values(self, metric: str) -> NDArray[np.float64]:
        """[Q] the metric of every query, a fraction. Raises CondsimError where the record's ranks cannot be read."""
        return per_query(metric, self.ranks, self.subset_ranks, self._clusters if "grouped_" in metric else None)

    @cached_property
    def _clusters(self) -> Rows | None:
        fingerprint = _fingerprint(self.record)
        return load_task(self.folder.parent / task_path(Path(), "", "", fingerprint).name, fingerprint).clusters

    @cached_property
    def ranks(self) -> Ranks:
        return self._sized(Ranks.load(self.folder / "ranks.npz"))

    @cached_property
    def subset_ranks(self) -> Ranks | None:
        path = self.folder / "subset_ranks.npz"
        return self._sized(Ranks.load(path)) if path.exists() else None

    @cached_property
    def top(self) -> Rows | None:
        """[Q, top] image-table rows of the best candidates, -1 where there are no more; None: not recorded."""
        path = self.folder / "top.npy"
        if not path.exists():
            return None
        try:
            top = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise CondsimError(f"{path}: the best candidates cannot be read: {error}") from None
        if top.ndim != 2 or len(top) != self.record.queries or top.dtype.kind != "i":
            raise CondsimError(f"{path}: expected {self.record.queries} rows of integers, found {top.dtype}{top.shape}")
        return np.asarray(top, dtype=np.int64)

    def _sized(self, ranks: Ranks) -> Ranks:
        if len(ranks) != self.record.queries:
            raise CondsimError(f"{self.folder}: ranks of {len(ranks)} queries, expected {self.record.queries}")
        return ranks


@dataclass(frozen=True)
class TaskRuns:
    """The newest runs of one task that saw exactly the same queries, in the leaderboard's order."""

    results: Path
    benchmark: str
    name: str
    fingerprint: str
    runs: tuple[Run, ...]
    stale: int
    """Runs left out because they saw other queries than the newest one."""
    chosen: str | None = None
    """The metric to show instead of the headline metric."""

    @property
    def full_name(self) -> str:
        return f"{self.benchmark}/{self.name}"

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Every metric of these runs, recall@2 before recall@10."""
        return tuple(metric_names(run.record.metrics for run in self.runs))

    @property
    def headline(self) -> str | None:
        """The metric that stands for the task where only one can."""
        return headline_metric(self.metrics) if self.chosen is None else self.chosen

    @cached_property
    def task(self) -> Task | None:
        """The task itself, from the file beside its records; None where there is none (records made before it)."""
        path = task_path(self.results, self.benchmark, self.name, self.fingerprint)
        return load_task(path, self.fingerprint) if path.exists() else None

    @property
    def clusters(self) -> Rows | None:
        """[Q] bootstrap clusters; None: independent queries. Raises CondsimError where the task has clusters but its
        file is missing: without them the test would call chance differences real."""
        if self.task is not None:
            return self.task.clusters
        record = self.runs[0].record
        if record.clusters == record.queries:
            return None
        path = task_path(self.results, self.benchmark, self.name, self.fingerprint)
        raise CondsimError(
            f"{path} is missing: the {record.queries} queries come in {record.clusters} clusters"
            f" (by {record.cluster_name}), which it names. Run `condsim bench` once more with force=true to write it."
        )


def runs_by_task(results: Path) -> list[TaskRuns]:
    """The runs under ``results`` by task, corrupt records left out.

    Where runs of one task saw different queries (another version of the benchmark, a sample), those like the newest
    record count and the others are only counted.
    """
    return group_runs(
        results, ((folder, found) for folder, found in find_records(results) if isinstance(found, Record))
    )


def group_runs(results: Path, found: Iterable[tuple[Path, Record]]) -> list[TaskRuns]:
    """As :func:`runs_by_task`, of records already read with their folders."""
    folders: dict[str, Path] = {}
    records = []
    for folder, record in found:
        folders[record.run] = folder
        records.append(record)
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in newest(records):
        groups.setdefault((record.benchmark, record.task), []).append(record)
    made = []
    for (benchmark, task), group in groups.items():
        fingerprint = _fingerprint(max(group, key=lambda record: (record.created, record.run)))
        same = [record for record in group if _fingerprint(record) == fingerprint]
        several = len({record.backbone for record in same}) > 1
        runs = tuple(Run(folders[record.run], record, run_label(record, with_backbone=several)) for record in same)
        made.append(TaskRuns(results, benchmark, task, fingerprint, runs, len(group) - len(same)))
    return made


def keep_runs(groups: Iterable[TaskRuns], runs: Container[str]) -> list[TaskRuns]:
    """The groups with only those runs; without the groups that then have none."""
    kept = [replace(group, runs=tuple(run for run in group.runs if run.record.run in runs)) for group in groups]
    return [group for group in kept if group.runs]


def run_label(record: Record, *, with_backbone: bool) -> str:
    """What a run is called among runs of its task: ``clay rank=5 (ViT-B-32/openai)``."""
    name = f"{record.method} {settings_text(record.settings)}".strip()
    return f"{name} ({record.backbone})" if with_backbone else name


def values_of(runs: Sequence[Run], metric: str) -> dict[str, NDArray[np.float64]]:
    """Label -> [Q] per-query values of the runs that have this metric."""
    return {run.label: run.values(metric) for run in runs if metric in run.record.metrics}


def _fingerprint(record: Record) -> str:
    return str(record.config.get("fingerprint", ""))


def newest(records: Iterable[Record]) -> list[Record]:
    """In a fixed order, the newest of the records alike in task, method, backbone and settings."""
    latest = {
        (record.task, *method_identity(record)): record for record in sorted(records, key=lambda r: (r.created, r.run))
    }
    return sorted(latest.values(), key=record_order)


def settings_text(settings: Mapping[str, Any]) -> str:
    """Settings as one would type them: ``rank=5 base.weight=0.3``."""
    return " ".join(f"{name}={_plain(value)}" for name, value in sorted(settings.items()))


def method_identity(record: Record) -> tuple[str, ...]:
    return (record.benchmark, record.backbone, record.method, repr(sorted(record.settings.items())))


def record_order(record: Record) -> tuple[Any, ...]:
    rank = record.config.get("method_config", {}).get("rank")
    settings = repr(sorted((name, value) for name, value in record.settings.items() if name != "rank"))
    number = rank if isinstance(rank, (int, float)) else -1
    return (record.benchmark, record.task, record.backbone, record.method, settings, number, record.run)


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)
