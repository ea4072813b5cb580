"""Batches through a model while the next ones are being read: decoding on threads, the model on the caller's thread.

A GPU gets the next batch before the features of the last one are read, so that it does not wait for the CPU.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from condsim.harness.errors import CondsimError
from condsim.harness.features.cache.request import Encoded
from condsim.harness.process.cores import one_core_each
from condsim.harness.process.tensors import Tensor

AHEAD = 4
"""Batches that are read ahead of the one in the model."""
PER_JOB = 32
"""Pictures that a loader thread takes at once."""

Batch = TypeVar("Batch", "Tensor", list[str], NDArray[np.int64])
Load = Callable[[int], tuple[NDArray[np.uint8], int]]
"""Row -> uint8 [H, W, 3] and its note (a byte of bits); CondsimError says what is wrong with the row."""


class InPieces:
    """A model that gets its batches in pieces of at most ``size`` rows; running out of memory halves the size for good.

    On a processor, ``threads`` pieces at a time, each on one core: quicker than all cores on one piece, whose layers
    are too small to divide and wait for the slowest core one by one. Use it in a ``with`` statement.
    """

    def __init__(self, size: int, threads: int = 1) -> None:
        self.size, self.threads = size, threads
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> InPieces:
        if self.threads > 1:
            self._pool = one_core_each(self.threads)
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def __call__(self, model: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
        """``model(batch)``, in as many pieces as it takes. Pieces do not depend on the number of threads: the last bits
        of a feature may depend on how many rows its piece has."""
        pieces = [batch[start : start + self.size] for start in range(0, len(batch), self.size)]
        parts = list((map if self._pool is None else self._pool.map)(lambda piece: self._run(model, piece), pieces))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _run(self, model: Callable[[Batch], Tensor], piece: Batch) -> Tensor:
        try:
            return model(piece)
        except (RuntimeError, MemoryError) as error:
            if not _out_of_memory(error):
                raise
        half = len(piece) // 2
        if half == 0:
            raise CondsimError(
                "out of memory even for a single row; a smaller backbone, backbone.precision=bf16 or "
                "backbone.device=cpu may help"
            )
        self.size = min(self.size, half)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return torch.cat([self._run(model, piece[:half]), self._run(model, piece[half:])])


def encode_pictures(
    rows: NDArray[np.int64],
    load: Load,
    model: Callable[[Tensor], Tensor],
    size: tuple[int, int],
    batch_size: int,
    workers: int,
    pinned: bool = False,
) -> Generator[Encoded, None, None]:
    """The features of ``rows``, batch by batch in their order; a row that does not load is a fault of its batch.

    ``model``: uint8 [B, H, W, 3] -> float32 [B, D] on its device. ``size``: (H, W). ``pinned``: the model runs on a
    GPU, which copies faster from page-locked memory.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="load") as pool:
        waiting: deque[_Batch] = deque()
        in_model: deque[Callable[[], Encoded]] = deque()
        starts = iter(range(0, len(rows), batch_size))
        try:
            while True:
                while len(waiting) <= AHEAD and (start := next(starts, None)) is not None:
                    waiting.append(_Batch(rows[start : start + batch_size], load, size, pool, pinned))
                if waiting:
                    in_model.append(waiting.popleft().start(model))
                    if pinned and len(in_model) == 1:
                        continue
                if not in_model:
                    return
                yield in_model.popleft()()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Batch:
    """Pictures on their way into one array."""

    def __init__(
        self, rows: NDArray[np.int64], load: Load, size: tuple[int, int], pool: ThreadPoolExecutor, pinned: bool
    ) -> None:
        self.rows, self.load = rows, load
        self.pixels = torch.empty((len(rows), *size, 3), dtype=torch.uint8, pin_memory=pinned)
        self.slots: NDArray[np.uint8] = self.pixels.numpy()
        self.notes = np.zeros(len(rows), np.uint8)
        self.jobs: list[Future[dict[int, str]]] = [
            pool.submit(self._fill, start, min(start + PER_JOB, len(rows))) for start in range(0, len(rows), PER_JOB)
        ]

    def start(self, model: Callable[[Tensor], Tensor]) -> Callable[[], Encoded]:
        """Start the model on this batch; the result waits for its features."""
        faults = {slot: fault for job in self.jobs for slot, fault in job.result().items()}
        good = np.array([slot for slot in range(len(self.rows)) if slot not in faults], dtype=np.int64)
        by_row = {int(self.rows[slot]): fault for slot, fault in faults.items()}
        if not len(good):
            nothing = Encoded(self.rows[good], np.zeros((0, 0), np.float32), by_row)
            return lambda: nothing
        pixels = self.pixels if not faults else self.pixels[torch.from_numpy(good)]
        features = model(pixels)
        # The copy is queued behind this batch's model, in front of the next one's.
        on_cpu = features.to("cpu", non_blocking=features.is_cuda)
        copied = torch.cuda.Event() if features.is_cuda else None  # type: ignore[no-untyped-call]
        if copied is not None:
            copied.record()

        def finish() -> Encoded:
            if copied is not None:
                copied.synchronize()
            return Encoded(self.rows[good], on_cpu.numpy(), by_row, self.notes[good])

        return finish

    def _fill(self, start: int, stop: int) -> dict[int, str]:
        faults = {}
        for slot in range(start, stop):
            try:
                self.slots[slot], self.notes[slot] = self.load(int(self.rows[slot]))
            except CondsimError as error:
                faults[slot] = str(error)
        return faults


def _out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return (
        isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError))
        or "out of memory" in text
        or "not enough memory" in text
        or "can't allocate memory" in text
    )
