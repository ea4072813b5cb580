"""Which runs count, and in which order: one run per method, backbone, settings and question set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from condsim.harness.errors import counted
from condsim.harness.results.stored_run import StoredRun

CLOCKS_DIFFER = timedelta(days=1)
"""How far in the future a record's date may be: the clocks of several machines need not agree."""


def created(run: StoredRun, now: datetime | None = None) -> datetime:
    """When the run was recorded.

    A date that cannot be read or is more than a day in the future counts as older than all others: a wrong clock must
    not make one run the newest for ever.
    """
    try:
        date = datetime.fromisoformat(run.record.created)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    date = date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    return datetime.min.replace(tzinfo=UTC) if date > (now or datetime.now(UTC)) + CLOCKS_DIFFER else date


def is_misdated(run: StoredRun) -> bool:
    """Whether the record has a date that :func:`created` does not accept."""
    return bool(run.record.created) and created(run) == datetime.min.replace(tzinfo=UTC)


def tell_pictures_apart(runs: Sequence[StoredRun]) -> list[StoredRun]:
    """The runs, with ``pictures`` and ``age`` set where pictures changed between runs and kept their names.

    A run on published features, which depends on no pictures, belongs to the newest ones.
    """
    contents: dict[tuple[str, str], list[str]] = {}
    for run in reversed(by_date(runs)):
        of_task = contents.setdefault((run.record.full_task, run.fingerprint), [])
        if (content := run.images) and content not in of_task:
            of_task.append(content)

    def with_pictures(run: StoredRun) -> StoredRun:
        of_task = contents[run.record.full_task, run.fingerprint]
        if len(of_task) < 2:
            return run
        content = run.images or of_task[0]
        return replace(run, pictures=content, age=of_task.index(content))

    return [with_pictures(run) for run in runs]


def newest(runs: Iterable[StoredRun]) -> list[StoredRun]:
    """In the leaderboard's order, the newest of the runs alike in task, question set, method, backbone and settings.

    Such runs differ in what the leaderboard does not show: the content of a file, the code of a class, the number of
    resamples, a protocol number.
    """
    latest = {(run.record.task, run.question_set, *run.alike): run for run in by_date(runs)}
    return sorted(latest.values(), key=run_order)


def hidden_runs(runs: Sequence[StoredRun]) -> list[StoredRun]:
    """The runs that :func:`newest` leaves out, which no table shows."""
    shown = set(newest(runs))
    return [run for run in runs if run not in shown]


def question_sets(runs: Sequence[StoredRun]) -> dict[tuple[str, str], list[str]]:
    """(benchmark, task) -> its question sets, that of the newest run first; sets in other words come last."""
    sets: dict[tuple[str, str], list[str]] = {}
    newest_first = by_date(runs)[::-1]
    for run in sorted(newest_first, key=lambda run: bool(run.wording)):
        of_task = sets.setdefault((run.record.benchmark, run.record.task), [])
        if run.question_set not in of_task:
            of_task.append(run.question_set)
    return sets


def short_id(question_set: str) -> str:
    """The first eight digits of a question set: how tables name it."""
    return question_set[:8] or "unknown"


def set_name(question_set: str, variant: str) -> str:
    """A question set's digits, and what makes it another one than the task's usual: ``1f3a99c0 text=caption``."""
    return f"{short_id(question_set)} {variant}".strip()


def older_set(task: str, name: str, runs: int, queries: int | None) -> str:
    """What is left out where only the newest question set of ``task`` is shown. ``name``: see :func:`set_name`."""
    return f"{task}: {counted(runs, 'run')} on the other question set {name} ({queries} queries)"


def run_order(run: StoredRun) -> tuple[Any, ...]:
    """Sort key of the leaderboard's rows. The ranks of a sweep are in the order of numbers."""
    record = run.record
    return (record.benchmark, record.task, run.question_set, *method_order(run), record.run)


def method_order(run: StoredRun) -> tuple[Any, ...]:
    """The part of :func:`run_order` that the runs of one method have in common on all tasks."""
    record = run.record
    method_config = record.config.get("method_config", {})
    rank = method_config.get("rank") if isinstance(method_config, dict) else None
    settings = repr(sorted((name, value) for name, value in record.settings.items() if name != "rank"))
    return (record.backbone, record.method, settings, rank if isinstance(rank, (int, float)) else -1)


def by_date(runs: Iterable[StoredRun]) -> list[StoredRun]:
    """The oldest first."""
    now = datetime.now(UTC)
    return sorted(runs, key=lambda run: (created(run, now), run.run))
