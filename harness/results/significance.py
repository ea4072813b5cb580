"""Which runs of a question set differ significantly: letters, computed once per set of runs and kept beside them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from condsim.harness.errors import CondsimError
from condsim.harness.ranking.metric_names import headline_metric
from condsim.harness.results.entry import Entry
from condsim.harness.results.kept import kept_in
from condsim.harness.results.question_set import QuestionSet
from condsim.harness.statistics.letters import share_letter

LETTERS_FILE = "letters.json"
BEST, TIED = "best", "not separable"
METHOD = "sign flip, Holm, 5 %, 10,000 permutations, seed 0"
"""Part of what the kept letters are valid for: change it whenever the comparison changes."""


def significance_letters(sets: Sequence[QuestionSet], notes: list[str]) -> dict[str, str]:
    """Run -> letters, over all runs of its question set: runs that share one are not significantly different.

    Runs whose ranks cannot be read have no letters, nor do those of a clustered task whose file is missing; ``notes``
    gets one message for each. Imports nothing slow while the kept letters are valid.
    """
    folders: dict[Path, list[QuestionSet]] = {}
    for question_set in sets:
        if len(question_set.runs) > 1:
            folders.setdefault(question_set.folder, []).append(question_set)
    letters: dict[str, str] = {}
    for folder, members in folders.items():
        with kept_in(folder / LETTERS_FILE, notes) as remember:
            for question_set in members:
                letters |= remember([METHOD, *question_set.state], partial(_compared, question_set, notes))
    return letters


def standings(entries: Sequence[Entry]) -> list[str]:
    """For entries of one question set: BEST on the headline metric, TIED where not separable from it, else ""."""
    metric = headline_metric(name for entry in entries for name in entry.metrics)
    compared = [entry for entry in entries if metric in entry.metrics]
    if len(compared) < 2 or metric is None:
        return ["" for _ in entries]
    best = max(compared, key=lambda entry: entry.metrics[metric].value)

    def standing(entry: Entry) -> str:
        if metric in entry.metrics and entry.metrics[metric].value == best.metrics[metric].value:
            return BEST
        return TIED if share_letter(entry.letters, best.letters) else ""

    return [standing(entry) for entry in entries]


def _compared(question_set: QuestionSet, notes: list[str]) -> dict[str, str]:
    from condsim.harness.statistics.compare import letters_of  # NumPy and SciPy

    try:
        values = question_set.values(question_set.headline, notes)
        if len(values) < 2:
            return {}
        return letters_of({run.run: value for run, value in values.items()}, question_set.clusters)
    except CondsimError as error:
        notes.append(f"{question_set.full_name} is not compared: {error}")
        return {}
