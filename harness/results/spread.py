"""How much a result moves when only the seed of a training, or only the wording of the conditions, is another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from condsim.harness.errors import CondsimError
from condsim.harness.results.order import created
from condsim.harness.results.percent import percent
from condsim.harness.results.question_set import QuestionSet
from condsim.harness.results.stored_run import StoredRun, settings_text
from condsim.harness.results.table import Column, RunName, Table
from condsim.harness.run.record import CONTENT, flat

SEED = "training.seed"
CAPTION = (
    "Percent, the headline metric. Each row is over runs on the same queries that differ only in the seed of the "
    "training, or only in the wording of the conditions. sd: standard deviation between runs (n - 1). Not tested."
)


@dataclass(frozen=True)
class Spread:
    """Runs that differ in one thing which should not matter."""

    task: str
    method: str
    settings: str
    backbone: str
    over: str
    """"seeds" or "wordings"."""
    metric: str
    values: tuple[float, ...]
    """Of each run, a fraction."""
    runs: tuple[str, ...]

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def deviation(self) -> float:
        return stdev(self.values)


def find_spreads(groups: Sequence[QuestionSet], notes: list[str]) -> list[Spread]:
    """One per method and task with two or more seeds or wordings; of two runs with the same one the newer counts.

    ``notes`` gets the tasks whose file is missing, without which wordings cannot be matched.
    """
    members: dict[tuple[Any, ...], dict[str, tuple[StoredRun, str]]] = {}
    for group in groups:
        if (metric := group.headline) is None:
            continue
        questions = _questions(group, groups, notes)
        for run in sorted(group.runs, key=lambda run: (created(run), run.run)):
            if metric not in run.record.metrics:
                continue
            config = settings_of(run)
            seed = config.pop(SEED, None)
            rest = repr(sorted((name, repr(value)) for name, value in config.items()))
            alike = (group.full_name, run.record.method, run.record.backbone, rest)
            if seed is not None:
                members.setdefault(("seeds", group.id, *alike), {})[str(seed)] = run, metric
            if questions is not None:
                key = ("wordings", questions, *alike, seed)
                members.setdefault(key, {})[_wording(run)] = run, metric
    return [_spread(key[0], [*own.values()]) for key, own in members.items() if len(own) > 1]


def settings_of(run: StoredRun) -> dict[str, Any]:
    """What a run's method was set to and how it was trained, flat. Files do not count: a training with another setting
    has another checkpoint."""
    config = flat(run.record.config.get("method_config", {})) | flat(run.record.training, "training.")
    return {name: value for name, value in config.items() if not is_file(value)}


def is_file(value: object) -> bool:
    return isinstance(value, str) and value.startswith(CONTENT)


def settings_but_files(run: StoredRun, *without: str) -> str:
    """The settings that differ from the defaults, as one types them, but files and those named."""
    config = flat(run.record.config.get("method_config", {}))
    kept = {k: v for k, v in run.record.settings.items() if k not in without and not is_file(config.get(k))}
    return settings_text(kept)


def spread_table(spreads: Iterable[Spread]) -> list[Table]:
    """One table of all spreads; none where there are none."""
    spreads = sorted(spreads, key=lambda spread: (spread.task, -spread.mean))
    if not spreads:
        return []
    several = len({spread.backbone for spread in spreads}) > 1
    head = ("task", "method", "runs", "metric", "mean", "sd", "lowest", "highest")
    rows: tuple[tuple[str | RunName, ...], ...] = tuple(
        (
            spread.task,
            RunName(spread.method, spread.settings, spread.backbone if several else ""),
            f"{len(spread.values)} {spread.over}",
            spread.metric,
            *(f"{percent(x):.1f}" for x in (spread.mean, spread.deviation, min(spread.values), max(spread.values))),
        )
        for spread in spreads
    )
    columns = tuple(Column(name, number=place > 3) for place, name in enumerate(head))
    return [Table("Spread over seeds and wordings", columns, rows, CAPTION)]


def _questions(group: QuestionSet, groups: Sequence[QuestionSet], notes: list[str]) -> str | None:
    """What question sets in other wordings have in common with this one; None where there is no other wording."""
    alike = [other for other in groups if other.full_name == group.full_name]
    if not any(_wording(run) for other in alike for run in other.runs):
        return None
    from condsim.harness.wordings import without_words

    if group.task is None:
        notes.append(f"{group.title}: no spread over wordings: {group.task_fault or 'the file of the task is missing'}")
        return None
    try:
        return without_words(group.task).fingerprint + "".join(sorted({run.pictures for run in group.runs}))
    except CondsimError as error:
        notes.append(f"{group.title}: no spread over wordings: {error}")
        return None


def _wording(run: StoredRun) -> str:
    """The wording of the conditions that the run saw (``harness.wordings``); "" for the benchmark's own."""
    return run.record.variant.partition("wording=")[2]


def _spread(over: str, members: Sequence[tuple[StoredRun, str]]) -> Spread:
    (first, metric), record = members[0], members[0][0].record
    values = tuple(run.record.metrics[metric].value for run, _ in members)
    return Spread(
        record.full_task, record.method, settings_but_files(first), record.backbone, over, metric, values,
        tuple(run.run for run, _ in members),
    )  # fmt: skip
