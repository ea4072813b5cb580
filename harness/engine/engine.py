"""The engine contract: who does the work of a command, and who keeps large objects in memory (`conf/engine`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Lost:
    """In place of a result: the workers that had this item died, more often than it may be tried again."""

    reason: str


def divided(items: int, groups: int) -> list[range]:
    """0 to ``items`` - 1 in order, in ``groups`` ranges whose lengths differ by at most one."""
    bounds = [items * i // groups for i in range(groups + 1)]
    return [range(start, stop) for start, stop in pairwise(bounds)]


class Held(Protocol):
    """Objects that stay in the memory of workers. Their number and order are those of ``Engine.hold``."""

    def __len__(self) -> int: ...

    def all(self, name: str, *arguments: Any) -> list[Any]:
        """Call the method ``name`` of every object with the same arguments; the results, one per object.

        An object whose worker died is made again. The new one repeats the earlier calls, and then answers this one.
        What an object raises is raised here. ``arguments`` and results travel by pickle.
        """
        ...

    def batch(self) -> AbstractContextManager[None]:
        """Calls inside the ``with`` statement are forgotten at its end: an object that is made later omits them.

        Write ``held.all("prepare", statistics)`` outside, and the rounds of one batch of queries inside.
        """
        ...

    def release(self) -> None:
        """Free the objects. No other method may be called after this."""
        ...


class Engine(Protocol):
    """Where work is done."""

    interactive: bool
    """Whether workers answer while the command waits. False for jobs in a queue, which are only good for sweeps."""

    @property
    def workers(self) -> int:
        """How many items or objects are worked on at once: cut work into at least so many. It may start them."""
        ...

    def work(
        self, make: Callable[[], Callable[[Item], Result]], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result | Lost]]:
        """Each item with its result, in the order in which they are done.

        Each worker calls ``make`` once, for example to load a model, and the function that it returns per item. An item
        may be done twice where a worker dies: doing it again must change nothing. What ``make`` or the function raises
        is raised here and ends the work. ``make``, items and results travel by pickle.
        """
        ...

    def hold(self, makes: Sequence[Callable[[], object]]) -> Held:
        """Make objects on the workers and keep them there. ``makes`` travel by pickle: they name files, not rows."""
        ...

    def close(self) -> None:
        """End the workers. The engine starts them again when it is used again."""
        ...
