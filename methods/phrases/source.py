"""The contract of a source of phrases: what values a condition can take ("color" -> red, blue, ...)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from condsim.harness.errors import CondsimError, NotApplicable
from condsim.harness.task import Task


class Phrases(Protocol):
    """A source of values for conditions."""

    def missing(self, conditions: Sequence[str]) -> list[str]:
        """Those of ``conditions`` (each a single text) that this source has no values for."""
        ...

    def values(self, condition: str) -> tuple[str, ...]:
        """Two or more distinct values of one condition, the commonest first. Raises CondsimError where it has none."""
        ...

    def how_to_add(self, conditions: Sequence[str]) -> str:
        """A sentence for the user on how to give values for ``conditions``."""
        ...


def check_conditions(phrases: Phrases, task: Task) -> None:
    """Raise NotApplicable where no condition of the task has values: then it asks for something else than an attribute
    type. Raise CondsimError where only some are missing."""
    texts = sorted({text for condition in task.conditions for text in condition})
    missing = phrases.missing(texts)
    if not missing:
        return
    named = ", ".join(map(repr, missing[:5])) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
    if len(missing) == len(texts):
        raise NotApplicable(
            f"the conditions of {task.full_name}, such as {missing[0]!r}, are no attribute types with known values. "
            f"{phrases.how_to_add(missing)}"
        )
    raise CondsimError(f"{task.full_name}: no values are known for conditions {named}. {phrases.how_to_add(missing)}")
