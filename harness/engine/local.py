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
        return _Objects([make() for make in makes])

    def close(self) -> None: ...


class _Objects:
    """Objects in the memory of this process."""

    def __init__(self, objects: list[Any]) -> None:
        self._objects = objects

    def __len__(self) -> int:
        return len(self._objects)

    def all(self, name: str, *arguments: Any) -> list[Any]:
        return [getattr(held, name)(*arguments) for held in self._objects]

    def batch(self) -> AbstractContextManager[None]:
        return nullcontext()

    def release(self) -> None:
        self._objects = []
