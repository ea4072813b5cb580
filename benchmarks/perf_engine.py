"""An engine's own cost: starting its workers, and sending work to them, against a plain loop."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable

from measuring import Row, cost, in_turn, scaled, skipped, within

from condsim.harness.engine.local import LocalEngine

ITEMS = scaled(400, 50)
BUSY = 0.05
"""Seconds of work per item in the second comparison."""


def measure() -> list[Row]:
    if importlib.util.find_spec("ray") is None:
        return [skipped("workers of Ray", "Ray is not installed")]
    from condsim.harness.engine.ray import RayEngine

    engine = RayEngine(workers=2)
    up = timed(lambda: list(engine.work(nothing, [0])))
    list(engine.work(nothing, range(8)))  # both workers are up
    sent = [timed(lambda: list(engine.work(nothing, range(ITEMS)))) / ITEMS for _ in range(3)]
    few = max(8, ITEMS // 20)
    remote, plain = in_turn(
        lambda: list(engine.work(busy, range(few))), lambda: list(LocalEngine().work(busy, range(few))), repeats=3
    )
    engine.close()
    return [
        within("start of Ray on this machine, until a worker that imports nothing answers", [up], 30),
        within("sending one item to a worker of Ray and getting its answer", sent, 0.02),
        cost(
            f"{few} items of {1000 * BUSY:.0f} ms on two workers of Ray",
            "a plain loop in one process",
            remote,
            plain,
            1,
        ),
    ]


def timed(job: Callable[[], object]) -> float:
    started = time.perf_counter()
    job()
    return time.perf_counter() - started


def nothing() -> Callable[[int], int]:
    return int


def busy() -> Callable[[int], int]:
    """A function that waits, as a worker on a core of its own would compute."""
    return wait


def wait(item: int) -> int:
    time.sleep(BUSY)
    return item
