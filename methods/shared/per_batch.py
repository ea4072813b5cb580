"""What a scorer derives from a batch of queries, computed once for all chunks of the gallery."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from condsim.harness.method import Queries

Derived = TypeVar("Derived")


class PerBatch(Generic[Derived]):
    """Calls ``derive`` once per batch: the engine passes the same ``Queries`` object for each chunk of the gallery."""

    def __init__(self, derive: Callable[[Queries], Derived]) -> None:
        self.derive = derive
        self._last: tuple[Queries, Derived] | None = None

    def __call__(self, queries: Queries) -> Derived:
        if self._last is None or self._last[0] is not queries:
            self._last = (queries, self.derive(queries))
        return self._last[1]


def part_of(queries: Queries, part: slice) -> Queries:
    """The queries ``part`` of a batch."""
    fields = (queries.reference, queries.text, queries.condition, queries.reference_row, queries.row)
    return Queries(*(None if field is None else field[part] for field in fields))  # type: ignore[arg-type]
