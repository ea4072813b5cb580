"""Which runs of a task are separable: letters, computed once for a set of runs and kept beside their records."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from condsim.harness.console import console
from condsim.harness.errors import CondsimError
from condsim.harness.ranking.metrics import headline_metric
from condsim.harness.results.csv_file import Row, metric_names
from condsim.harness.run.record import Record, task_folder

FILE = "letters.json"
BEST, TIED = "best", "not separable"
METHOD = "sign flip, Holm, 5 %, 10,000 permutations, seed 0"
"""Part of what the kept letters are valid for: to be changed whenever the comparison is."""


def significance_letters(results: Path, found: Iterable[tuple[Path, Record]]) -> dict[str, str]:
    """Run -> letters, over all runs of its task (headline metric): runs that share one are not separable.

    ``found``: the newest records with their folders. Runs on other queries than the newest, without ranks, or of a
    clustered task whose file is missing have no letters. Nothing slow is imported while the kept letters are valid.
    """
    tasks: dict[tuple[str, str], list[tuple[Path, Record]]] = {}
    for folder, record in found:
        tasks.setdefault((record.benchmark, record.task), []).append((folder, record))
    letters: dict[str, str] = {}
    for (benchmark, task), members in tasks.items():
        if len(members) < 2:
            continue
        place = task_folder(results, benchmark, task) / FILE
        key = _key(members)
        kept = _kept(place, key)
        if kept is None:
            kept = _compared(results, members)
            _keep(place, {"key": key, "letters": kept})
        letters |= kept
    return letters


def share_letter(one: str, other: str) -> bool:
    """Whether two runs' letters say that they are not separable."""
    return not set(_LETTER.findall(one)).isdisjoint(_LETTER.findall(other))


_LETTER = re.compile(r"\([0-9]+\)|[A-Za-z]")


def standings(rows: Sequence[Row]) -> list[str]:
    """For rows of one task: BEST for the best on the headline metric, TIED for those not separable from it, else ""."""
    metric = headline_metric(metric_names(rows))
    compared = [row for row in rows if metric in row]
    if len(compared) < 2 or metric is None:
        return ["" for _ in rows]
    best = max(compared, key=lambda row: row[metric])
    return [
        BEST if row.get(metric) == best[metric] else TIED if share_letter(row["letters"], best["letters"]) else ""
        for row in rows
    ]


def _compared(results: Path, members: Iterable[tuple[Path, Record]]) -> dict[str, str]:
    from condsim.harness.results.collection import group_runs
    from condsim.harness.statistics.compare import (
        compare,  # numpy and scipy: not for a leaderboard that has not changed
    )

    (group,) = group_runs(results, members)
    values = {}
    for run in group.runs:
        if group.headline in run.record.metrics and (run.folder / "ranks.npz").exists():
            try:
                values[run.record.run] = run.values(group.headline)
            except CondsimError as error:
                console.print(f"left out of the comparison: {error}", style="yellow", markup=False)
    if len(values) < 2:
        return {}
    try:
        comparison = compare(values, group.clusters)
    except CondsimError as error:
        console.print(f"{group.full_name} is not compared: {error}", style="yellow", markup=False)
        return {}
    return dict(zip(comparison.runs, comparison.letters, strict=True))


def _key(members: Sequence[tuple[Path, Record]]) -> list[Any]:
    runs = sorted([record.run, record.created, (folder / "ranks.npz").exists()] for folder, record in members)
    beside = members[0][0].parent
    return [METHOD, runs, sorted(path.name for path in beside.glob("task-*.npz"))]


def _kept(place: Path, key: list[Any]) -> dict[str, str] | None:
    try:
        kept = json.loads(place.read_text(encoding="utf-8"))
        letters = kept["letters"] if kept["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    sound = isinstance(letters, dict) and all(isinstance(value, str) for value in letters.values())
    return letters if sound else None


def _keep(place: Path, content: Mapping[str, Any]) -> None:
    """A results folder that cannot be written to is read all the same: the letters are then computed every time."""
    scratch = place.with_name(f".{FILE}-{os.getpid()}")
    try:
        scratch.write_text(json.dumps(content), encoding="utf-8")
        os.replace(scratch, place)
    except OSError:
        scratch.unlink(missing_ok=True)
