"""A task with other words for its conditions: the same queries, to see how much a result depends on the wording.

[ours: no benchmark of ours publishes paraphrases]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from condsim.harness.errors import CondsimError, did_you_mean
from condsim.harness.files.json_files import read_json
from condsim.harness.task import Benchmark, Task
from condsim.harness.variants.fewer_queries import join_variants

PLACE = "{}"
MARK = "wording="
"""In a task's variant, the start of the wording, which is its end."""
EXPECTED = 'a JSON object {"<condition>": ["<wording 1>", "<wording 2>"]}'


def reworded(benchmark: Benchmark, wording: str) -> Benchmark:
    """``benchmark`` with the conditions in another wording.

    ``wording``: a text with {} for the condition ("with the same {}"; "{}" alone changes nothing), or FILE#N for the
    N-th wording, from 1, that a file (see ``EXPECTED``) lists for each condition. A condition of several texts is
    reworded text by text. Tasks keep their names; their ``variant`` names the wording, and their fingerprints differ.
    Raises CondsimError for another form and for a condition without such a wording.
    """
    if wording == PLACE:
        return benchmark
    say = (lambda text: wording.replace(PLACE, text)) if PLACE in wording else _listed(wording)
    return replace(benchmark, tasks=tuple(_reworded(task, wording, say) for task in benchmark.tasks))


def without_words(task: Task) -> Task:
    """``task`` without its wording: tasks that are equal then have the same queries and differ in words alone."""
    return replace(task, conditions=tuple((str(i),) for i in range(len(task.conditions))), texts=None)


def _reworded(task: Task, wording: str, say: Callable[[str], str]) -> Task:
    texts = task.texts and tuple(tuple(map(say, several)) for several in task.texts)
    conditions = tuple(tuple(map(say, condition)) for condition in task.conditions)
    shown = wording if PLACE in wording else Path(wording).name
    return replace(task, conditions=conditions, texts=texts, variant=join_variants(task.variant, f"{MARK}{shown}"))


def _listed(wording: str) -> Callable[[str], str]:
    name, _, number = wording.rpartition("#")
    if not name or not number.isdecimal() or int(number) < 1:
        raise CondsimError(
            f"wording={wording}: expected a text with {{}} for the condition, such as wording='\"the same {{}}\"', or "
            "FILE#N, such as wording=words.json#2"
        )
    path = Path(name).expanduser()
    lists = read_json(path, EXPECTED)
    if not isinstance(lists, Mapping) or not all(
        isinstance(several, list) and several and all(isinstance(text, str) and text.strip() for text in several)
        for several in lists.values()
    ):
        raise CondsimError(f"{path}: expected {EXPECTED}")

    def say(text: str) -> str:
        several = lists.get(text)
        if several is None:
            raise CondsimError(f"{path} has no wording of the condition {text!r}. {did_you_mean(text, lists)}")
        if len(several) < int(number):
            raise CondsimError(f"{path} has {len(several)} wordings of {text!r}: wording={wording} needs {number}")
        return str(several[int(number) - 1])

    return say
