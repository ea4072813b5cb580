"""``engine=local``: everything is done in this process, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from condsim.harness.engine.engine import Held, Item, Lost, Result


class LocalEngine:
    """This process. Nothing is copied or pickled, and nothing can be lost."""

    interactive = True
    workers = 1

    def work(
        self, make: Callable[[], Callable[[Item], Result]], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result | Lost]]:
        do = make()
        for item in items:
            yield item, do(item)

    def hold(self, makes: Sequence[Callable[[], object]]) -> Held:
        return _Parts([make() for make in makes])

    def close(self) -> None: ...


class _Parts:
    """Parts in the memory of this process."""

    def __init__(self, parts: list[Any]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return len(self._parts)

    def all(self, name: str, *arguments: Any) -> list[Any]:
        return [getattr(part, name)(*arguments) for part in self._parts]

    def batch(self) -> AbstractContextManager[None]:
        return nullcontext()

    def release(self) -> None:
        self._parts = []
