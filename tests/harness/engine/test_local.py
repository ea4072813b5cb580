"""The engine of one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from condsim.harness.engine.engine import Engine
from condsim.harness.engine.local import LocalEngine


class Counter:
    """A part that remembers the calls that it got."""

    def __init__(self, start: int) -> None:
        self.total = start

    def add(self, number: int) -> int:
        self.total += number
        return self.total


@pytest.fixture
def engine() -> Engine:
    return LocalEngine()


def test_work_gives_each_item_with_its_result_and_makes_its_function_once(engine: Engine) -> None:
    made = []

    def make() -> Callable[[int], int]:
        made.append("model")
        return lambda number: number * number

    assert list(engine.work(make, range(4))) == [(0, 0), (1, 1), (2, 4), (3, 9)]
    assert made == ["model"]


def test_an_item_is_taken_only_when_the_result_of_the_one_before_is_used(engine: Engine) -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(3):
            taken.append(number)
            yield number

    results = engine.work(lambda: str, items())
    assert next(results) == (0, "0")
    assert taken == [0]


def test_what_an_item_raises_ends_the_work(engine: Engine) -> None:
    results = engine.work(lambda: lambda number: 1 // number, [1, 0, 1])
    assert next(results) == (1, 1)
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_every_part_is_called_and_keeps_its_state(engine: Engine) -> None:
    held = engine.hold([partial(Counter, 0), partial(Counter, 10)])
    assert len(held) == 2
    assert held.all("add", 1) == [1, 11]
    with held.batch():
        assert held.all("add", 2) == [3, 13]
    held.release()
