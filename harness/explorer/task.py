"""The queries of a benchmark's task as `condsim explore` shows them: by id, with what they rank and what is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from condsim.harness.configs import plain
from condsim.harness.errors import CondsimError, nearest_id
from condsim.harness.search.pictures import sorted_by_key
from condsim.harness.settings.benchmark import chosen_benchmark
from condsim.harness.settings.composition import compose_config
from condsim.harness.task import Condition, ImageTable, Rows, Task, TrainSplit
from condsim.harness.variants.fewer_queries import query_ids


@dataclass(frozen=True)
class Question:
    """One query of a task. Pictures are keys of its image table."""

    picture: str | None
    conditions: Condition
    candidates: frozenset[str] | None
    """None: the whole gallery."""
    excluded: frozenset[str]
    right: frozenset[str]

    def admits(self, key: str) -> bool:
        return key not in self.excluded and (self.candidates is None or key in self.candidates)


class Questions:
    """The queries of a task; ``choice`` is the name of its benchmark in conf/benchmark."""

    def __init__(self, task: Task, choice: str = "instance", train: TrainSplit | None = None) -> None:
        self.task = task
        self.choice = choice
        self.train = train
        self.ids = query_ids(task)
        self._place = {ident: place for place, ident in enumerate(self.ids)}
        self.images = sorted_by_key(task.images)
        """References and candidates."""
        self.gallery: ImageTable = sorted_by_key(task.images.take(task.gallery_rows))

    def __contains__(self, ident: object) -> bool:
        return ident in self._place

    def of(self, ident: str) -> Question:
        """Raises CondsimError with the nearest id if there is no such query."""
        if ident not in self:
            raise CondsimError(f"there is no query {ident!a}. {nearest_id(ident, self.ids)}")
        task, place = self.task, self._place[ident]
        reference, code = int(task.reference[place]), int(task.condition[place])
        return Question(
            picture=task.images.keys[reference] if reference >= 0 else None,
            conditions=task.conditions[code] if code >= 0 else (),
            candidates=None if task.candidates is None else self._keys(task.candidates[place]),
            excluded=frozenset() if task.excluded is None else self._keys(task.excluded[place]),
            right=self._keys(task.relevant[place]),
        )

    def _keys(self, rows: Rows) -> frozenset[str]:
        return frozenset(self.task.images.keys[row] for row in rows)


def chosen_questions(settings: Sequence[str]) -> Questions:
    """The only task that settings such as ``benchmark=genecis tasks=[focus_object]`` choose.

    Raises CondsimError where they choose several, and for a task whose text features are means of several texts: a
    search has one text per condition.
    """
    benchmark = chosen_benchmark(plain(compose_config("explore", settings)))
    if len(benchmark.tasks) > 1:
        names = ", ".join(task.name for task in benchmark.tasks)
        raise CondsimError(f"choose one task of {benchmark.name}, as in tasks=[{benchmark.tasks[0].name}]: {names}")
    (task,) = benchmark.tasks
    if task.texts is not None:
        raise CondsimError(f"{task.full_name} averages several texts per query, which condsim explore does not do")
    choice = next((value for name, _, value in (s.partition("=") for s in settings) if name == "benchmark"), "shapes")
    return Questions(task, choice, benchmark.train)
