"""Runs that differ only in the seed of their training: they are one method, and no rivals of each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from condsim.harness.results.order import by_date
from condsim.harness.results.stored_run import StoredRun
from condsim.harness.run.record import CONTENT, flat, settings_text

SEED = "training.seed"


def without_seed(run: StoredRun) -> tuple[tuple[str, ...], str | None]:
    """All that the runs of one training on several seeds have in common, and the seed; None: it was not trained."""
    config = settings_of(run)
    seed = config.pop(SEED, None)
    rest = repr(sorted((name, repr(value)) for name, value in config.items()))
    return (run.record.method, run.record.backbone, rest), None if seed is None else str(seed)


def first_seeds(runs: Iterable[StoredRun]) -> dict[StoredRun, StoredRun]:
    """Each run -> the first seed of its training on the same question set; a run without a seed -> itself.

    Of two runs with one seed only the newer one belongs to the training.
    """
    runs = by_date(runs)
    trainings: dict[tuple[str, ...], dict[str, StoredRun]] = {}
    for run in runs:
        training, seed = without_seed(run)
        if seed is not None:
            trainings.setdefault((run.record.full_task, run.question_set, *training), {})[seed] = run
    first = {run: next(iter(seeds.values())) for seeds in trainings.values() for run in seeds.values()}
    return {run: first.get(run, run) for run in runs}


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


def settings_apart(run: StoredRun, others: Iterable[StoredRun], *without: str) -> str:
    """``settings_but_files`` of a run, and the settings of its training, but the seed, in which ``others`` differ."""
    trained = [flat(other.record.training) for other in others]
    own = {
        name: value
        for name, value in flat(run.record.training).items()
        if name != "seed" and f"training.{name}" not in without and any(other.get(name) != value for other in trained)
    }
    return " ".join(filter(None, (settings_but_files(run, *without), settings_text(own))))
