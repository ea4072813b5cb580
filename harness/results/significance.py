"""Which runs of a question set differ significantly: letters, computed once per set of runs and kept beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

from condsim.harness.errors import CondsimError
from condsim.harness.ranking.metric_names import headline_metric
from condsim.harness.results.entry import Entry
from condsim.harness.results.kept import kept_in
from condsim.harness.results.question_set import QuestionSet
from condsim.harness.results.seeds import first_seeds
from condsim.harness.results.stored_run import StoredRun
from condsim.harness.statistics.letters import share_letter

LETTERS_FILE = "letters.json"
BEST, TIED = "best", "not separable"
METHOD = "sign flip, Holm, 5 %, 10,000 permutations, seed 0"
"""Part of what the kept letters are valid for: change it whenever the comparison changes."""


def significance_letters(sets: Sequence[QuestionSet], notes: list[str]) -> dict[str, str]:
    """Run -> letters, over all runs of its question set: runs that share one are not significantly different.

    The seeds of one training are one run, with the mean of each query over the seeds. Runs whose ranks cannot be read
    have no letters, nor do those of a clustered task whose file is missing; ``notes`` gets one message for each.
    Imports nothing slow while the kept letters are valid.
    """
    folders: dict[Path, list[QuestionSet]] = {}
    for question_set in sets:
        if len(question_set.runs) > 1:
            folders.setdefault(question_set.folder, []).append(question_set)
    letters: dict[str, str] = {}
    for folder, members in folders.items():
        with kept_in(folder / LETTERS_FILE, notes) as remember:
            for question_set in members:
                first = first_seeds(question_set.runs)
                seeds = sorted([run.run, of.run] for run, of in first.items() if run is not of)
                depends_on = [METHOD, *question_set.state, *seeds]
                letters |= remember(depends_on, partial(_compared, question_set, first, notes))
    return letters


def compared_values(entries: Iterable[Entry], metric: str) -> dict[tuple[str, ...], float]:
    """``Entry.training`` -> what counts where entries of one question set are compared: the mean over seeds."""
    values: dict[tuple[str, ...], list[float]] = {}
    for entry in entries:
        if metric in entry.metrics:
            values.setdefault(entry.training, []).append(entry.metrics[metric].value)
    return {training: fmean(own) for training, own in values.items()}


def standings(entries: Sequence[Entry]) -> list[str]:
    """For entries of one question set: BEST on the headline metric, TIED where not separable from it, else ""."""
    metric = headline_metric(name for entry in entries for name in entry.metrics)
    values = {} if metric is None else compared_values(entries, metric)
    if len(values) < 2:
        return ["" for _ in entries]
    best = max(values, key=lambda training: values[training])
    letters = next(entry.letters for entry in entries if entry.training == best)

    def standing(entry: Entry) -> str:
        if values.get(entry.training) == values[best]:
            return BEST
        return TIED if share_letter(entry.letters, letters) else ""

    return [standing(entry) for entry in entries]


def _compared(question_set: QuestionSet, first: Mapping[StoredRun, StoredRun], notes: list[str]) -> dict[str, str]:
    import numpy as np

    from condsim.harness.statistics.compare import letters_of  # SciPy

    try:
        values = question_set.values(question_set.headline, notes)
        trainings: dict[StoredRun, list[StoredRun]] = {}
        for run in values:
            trainings.setdefault(first[run], []).append(run)
        if len(trainings) < 2:
            return {}
        means = {of.run: np.mean([values[run] for run in seeds], axis=0) for of, seeds in trainings.items()}
        letters = letters_of(means, question_set.clusters)
        return {run.run: letters[of.run] for of, seeds in trainings.items() for run in seeds}
    except CondsimError as error:
        notes.append(f"{question_set.full_name} is not compared: {error}")
        return {}
