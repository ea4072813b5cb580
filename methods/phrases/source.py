"""The contract of a source of phrases: the values of a condition ("color" -> red, blue, ...)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from condsim.harness.errors import CondsimError, NotApplicable, first_of
from condsim.harness.task import Task


class Phrases(Protocol):
    """A source of values for conditions."""

    def missing(self, conditions: Sequence[str]) -> list[str]:
        """The ``conditions`` (each a single text) for which this source has no values."""
        ...

    def values(self, condition: str) -> tuple[str, ...]:
        """Two or more distinct values of a condition, the most common first. Raises CondsimError where it has none."""
        ...

    def how_to_add(self, conditions: Sequence[str]) -> str:
        """A sentence for the user: how to give values for ``conditions``."""
        ...


def check_conditions(phrases: Phrases, task: Task) -> None:
    """Raise NotApplicable where no condition of the task has values: its conditions are not attribute types. Raise
    CondsimError where only some are missing."""
    texts = sorted({text for condition in task.conditions for text in condition})
    missing = phrases.missing(texts)
    if not missing:
        return
    named = first_of(map(repr, missing), 5)
    if len(missing) == len(texts):
        raise NotApplicable(
            f"the conditions of {task.full_name}, such as {missing[0]!r}, are not attribute types with known values. "
            f"{phrases.how_to_add(missing)}"
        )
    raise CondsimError(f"{task.full_name}: no values for the conditions {named}. {phrases.how_to_add(missing)}")
