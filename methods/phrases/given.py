"""Values of conditions that a user gives with a search, before those of another source."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence

from condsim.harness.errors import CondsimError
from condsim.methods.phrases.entries import spelling, without_repeats
from condsim.methods.phrases.source import Phrases


def read_list(text: str) -> tuple[str, ...]:
    """The values in ``red, "blue, navy"``: separated by commas; one with a comma is in double quotes."""
    return without_repeats(next(csv.reader([text], skipinitialspace=True), []))


def write_list(values: Sequence[str], between: str = ",") -> str:
    """The text that :func:`read_list` reads."""
    quoted = ('"' + value.replace('"', '""') + '"' if set(value) & set('",') else value for value in values)
    return between.join(quoted)


class GivenValues:
    """Values from ``values``; for the other conditions those of ``otherwise``.

    Args:
        values: condition -> its values, at least two different ones, the most common first.
        otherwise: where the values of other conditions come from.
    """

    def __init__(self, values: Mapping[str, Sequence[str]], otherwise: Phrases) -> None:
        self.entries = {spelling(condition): without_repeats(listed) for condition, listed in values.items()}
        self.otherwise = otherwise
        for condition, listed in self.entries.items():
            if len(listed) < 2:
                raise CondsimError(
                    f"values of {condition!r}: expected at least two different ones, found {len(listed)}"
                )

    def missing(self, conditions: Sequence[str]) -> list[str]:
        return self.otherwise.missing([text for text in conditions if spelling(text) not in self.entries])

    def values(self, condition: str) -> tuple[str, ...]:
        return self.entries.get(spelling(condition)) or self.otherwise.values(condition)

    def how_to_add(self, conditions: Sequence[str]) -> str:
        return (
            f"Name some of its values: --values '{conditions[0]}=first,second,third' on the command line, "
            f"values={{{conditions[0]!r}: ['first', 'second', 'third']}} in Python. "
            f"{self.otherwise.how_to_add(conditions)}"
        )
