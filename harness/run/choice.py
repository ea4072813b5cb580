"""Settings of a method that are chosen on validation data, so that the reported task never decides on them. [ours]"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from condsim.harness.errors import CondsimError, NotApplicable
from condsim.harness.method import Method
from condsim.harness.ranking.metric_names import headline_metric
from condsim.harness.task import Benchmark, Task

Score = Callable[[Method, Task, str], float]
"""Method, validation task, metric -> the mean over the task's queries."""


@dataclass(frozen=True)
class Candidate:
    """Values of the settings that are chosen, by name without "method.", and the method with these values."""

    values: Mapping[str, Any]
    method: Method


@dataclass(frozen=True)
class Choice:
    """The rule that chooses: candidates in order, and the validation data that they are scored on."""

    candidates: tuple[Candidate, ...]
    validation: Benchmark
    metric: str | None = None
    """None: the headline metric of each validation task."""

    def measures(self, task: Task) -> list[tuple[Task, str]]:
        """(validation task, metric) pairs for ``task``: the validation task of the same name, else all of them.

        Raises CondsimError where nothing is left, where a metric is missing, and where a query of ``task`` is among the
        validation queries.
        """
        same = [other for other in self.validation.tasks if other.name == task.name]
        answered = [other for other in same or self.validation.tasks if other.metrics and self._applies(other)]
        if not answered:
            raise CondsimError(
                f"{task.full_name}: no task of the validation data {self.validation.name} has answers and fits the "
                "method: name other data with +benchmark@validation.benchmark=NAME or validation.split=NAME"
            )
        for other in answered:
            if shared := len(_questions(task) & _questions(other)):
                raise CondsimError(
                    f"{shared} validation queries ({other.full_name}) are queries of {task.full_name} too, so no "
                    "setting is chosen on them: name other data with validation.split=NAME or "
                    "+benchmark@validation.benchmark=NAME"
                )
            if self.metric is not None and self.metric not in other.metrics:
                raise CondsimError(f"validation.metric={self.metric}: {other.full_name} has {', '.join(other.metrics)}")
        return [(other, self.metric or str(headline_metric(other.metrics))) for other in answered]

    def identity(self, task: Task, images_digest: Callable[[Task], str]) -> dict[str, Any]:
        """What the choice for ``task`` depends on. The value that is chosen follows from it and is not part of it."""
        return {
            "candidates": [dict(candidate.values) for candidate in self.candidates],
            "protocol": self.validation.protocol,
            "tasks": [[other.fingerprint, metric, images_digest(other)] for other, metric in self.measures(task)],
        }

    def best(self, task: Task, score: Score) -> tuple[Method, dict[str, Any]]:
        """The method with the best mean over the validation tasks (of equal ones the first), and what was compared."""
        measures = self.measures(task)
        scores = [sum(score(c.method, *measure) for measure in measures) / len(measures) for c in self.candidates]
        chosen = max(range(len(scores)), key=lambda place: scores[place])
        return self.candidates[chosen].method, {
            "chosen": dict(self.candidates[chosen].values),
            "score": scores[chosen],
            "candidates": [
                {"values": dict(candidate.values), "score": value}
                for candidate, value in zip(self.candidates, scores, strict=True)
            ],
            "on": [f"{_name(other)}, {metric}" for other, metric in measures],
        }

    def _applies(self, task: Task) -> bool:
        try:
            self.candidates[0].method.check(task)
        except NotApplicable:
            return False
        return True


def choice_note(choice: Mapping[str, Any]) -> str:
    """One sentence for a reader of the record."""
    values = ", ".join(f"{name}={value}" for name, value in choice["chosen"].items())
    return (
        f"{values} was chosen among {len(choice['candidates'])} candidates on {'; '.join(choice['on'])}: "
        f"{100 * choice['score']:.1f} there"
    )


def _name(task: Task) -> str:
    return f"{task.full_name} ({task.variant})" if task.variant else task.full_name


def _questions(task: Task) -> set[tuple[object, ...]]:
    """Each query as its reference picture, its condition and the pictures that answer it."""
    boxes = [task.images.box(row) for row in range(len(task.images))]
    pictures = [
        (str(task.images.path(row)), None if box is None else tuple(box.tolist())) for row, box in enumerate(boxes)
    ]
    return {
        (
            None if reference < 0 else pictures[reference],
            None if condition < 0 else task.conditions[condition],
            frozenset(pictures[row] for row in task.relevant[query].tolist()),
        )
        for query, (reference, condition) in enumerate(
            zip(task.reference.tolist(), task.condition.tolist(), strict=True)
        )
    }
