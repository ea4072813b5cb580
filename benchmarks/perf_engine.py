"""An engine's own cost: its start, its messages, and a gallery in parts on one and on two workers."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from measuring import Row, cost, gain, in_turn, memory, scaled, skipped, timed, within
from worker import field

from condsim.harness.engine.local import LocalEngine

if TYPE_CHECKING:
    from condsim.harness.engine.engine import Engine
    from condsim.harness.files.gallery_parts import Parts

ITEMS = scaled(400, 50)
BUSY = 0.05
"""Seconds of work per item in the comparison with a plain loop."""
GALLERY, WIDTH = scaled(10_000_000, 600_000), 256


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
    imported = timed(lambda: engine.hold([Loaded, Loaded]))
    held = engine.hold([Loaded, Loaded])
    rounds = [timed(lambda: [held.all("nothing") for _ in range(ITEMS)]) / ITEMS for _ in range(3)]
    held.release()
    rows = [
        within("start of Ray on this machine, until a worker that imports nothing answers", [up], 30),
        within("import of PyTorch and condsim on two workers at once", [imported], 60),
        within("sending one item to a worker of Ray and getting its answer", sent, 0.02),
        within("one call of all objects that two workers hold, and their answers", rounds, 0.02),
        cost(
            f"{few} items of {1000 * BUSY:.0f} ms on two workers of Ray",
            "a plain loop in one process",
            remote,
            plain,
            1,
        ),
        *gallery_in_parts(engine),
    ]
    return [*rows, within("end of Ray", [timed(engine.close)], 10)]


def gallery_in_parts(two: Engine) -> list[Row]:
    """Image only on a float16 gallery of 5 GB at full size: the same workers of Ray, first one of them, then both."""
    from condsim.harness.files.gallery_parts import GRAIN, write_parts

    rows_per_part = max(GRAIN, min(1 << 20, GALLERY // 8 // GRAIN * GRAIN))
    size = f"{GALLERY:,} x {WIDTH} float16 in parts"
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        parts = write_parts(Path(folder) / "gallery", blocks(), rows_per_part=rows_per_part)
        rows = [within(f"write {size}, features in memory", [time.perf_counter() - started], 120)]
        for queries in (1, 64):
            cpu: list[float] = []
            ranked(parts, queries, two, cpu)  # the pages of the files are in memory
            one, both = in_turn(
                partial(ranked, parts, queries, First(two), cpu),
                partial(ranked, parts, queries, two, cpu),
                repeats=3,
                warm=False,
            )
            what = f"image only, {size}, {queries} queries, 10 best, on two workers of Ray"
            rows += [
                gain(what, "on one of them", both, one, 1.5),
                within(f"the command's own processor time in the same, {queries} queries", cpu, 2),
            ]
        held = two.hold([Loaded, Loaded])
        for number, peak in enumerate(held.all("peak"), 1):
            rows.append(memory(f"the same, worker {number}", "with pages of files and imports", peak, None, max(one)))
        held.release()
    return rows


class First:
    """The first worker of an engine alone."""

    interactive = True
    workers = 1

    def __init__(self, engine: Engine) -> None:
        self.work, self.hold, self.close = engine.work, engine.hold, engine.close


def blocks() -> Iterator[tuple[Sequence[str], np.ndarray[tuple[int, int], np.dtype[np.float16]]]]:
    """Names and different rows, 65,536 at a time."""
    block = np.random.default_rng(5).normal(size=(1 << 16, WIDTH)).astype(np.float16)
    for turn, start in enumerate(range(0, GALLERY, len(block))):
        names = [f"{i:08d}.jpg" for i in range(start, min(GALLERY, start + len(block)))]
        yield names, np.roll(block, turn, axis=1)[: len(names)]


def ranked(parts: Parts, queries: int, engine: Engine, cpu: list[float]) -> None:
    """Rank, and append this process's own seconds of processor time to ``cpu``."""
    import problems  # it imports PyTorch, which `measure` times
    import torch

    from condsim.harness.backbone import ImageParts
    from condsim.harness.run.sharded import rank_parts
    from condsim.harness.task import ImageTable
    from condsim.methods.inner_product import ImageOnly

    task = replace(problems.search(parts.names, queries), gallery=range(len(parts)))  # type: ignore[arg-type]
    empty = replace(
        problems.gallery_of(torch.zeros(0, WIDTH)), conditions=(), condition_features=torch.zeros(0, WIDTH),
        table=ImageTable(Path(), ()),
    )  # fmt: skip
    started = time.process_time()
    rank_parts(task, ImageOnly(), ImageParts(parts, torch.zeros(0, WIDTH)), empty, engine, top=10)
    cpu.append(time.process_time() - started)


class Loaded:
    """An object on a worker that has imported what a run needs."""

    def __init__(self) -> None:
        import condsim.harness.run.run  # noqa: F401

    def nothing(self) -> None: ...

    def peak(self) -> int:
        """Bytes: the most memory that the worker's process has had; 0 where the system does not say it."""
        return field("VmHWM")


def nothing() -> Callable[[int], int]:
    return int


def busy() -> Callable[[int], int]:
    """A function that waits, as a worker on a core of its own would compute."""
    return wait


def wait(item: int) -> int:
    time.sleep(BUSY)
    return item
