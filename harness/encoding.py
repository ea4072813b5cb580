"""Batches through a model while the next ones are being read: decoding on threads, the model on the caller's thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from condsim.harness.errors import CondsimError
from condsim.harness.feature_folder import Encoded

AHEAD = 2
"""Batches that are read ahead of the one in the model."""
PER_JOB = 8
"""Pictures that a loader thread takes at once."""

Load = Callable[[int], NDArray[np.uint8]]
"""Row -> uint8 [H, W, 3], or CondsimError with what ails that row."""


@dataclass
class InPieces:
    """A model that gets at most ``size`` rows at once, and from its first out-of-memory on half as many."""

    size: int
    halved: int = field(default=0, init=False)

    def __call__(self, model: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
        """``model(batch)``, in as many pieces as memory asks for."""
        parts: list[Tensor] = []
        done = 0
        while done < len(batch):
            piece = batch[done : done + self.size]
            try:
                parts.append(model(piece))
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                if len(piece) == 1:
                    raise CondsimError(
                        "the memory does not suffice for a single picture; a smaller backbone, "
                        "backbone.precision=bf16 or backbone.device=cpu may help"
                    ) from None
            else:
                done += len(piece)
                continue
            self.size, self.halved = len(piece) // 2, self.halved + 1
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return parts[0] if len(parts) == 1 else torch.cat(parts)


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

    ``model``: uint8 [B, H, W, 3] -> float32 [B, D]. ``size``: (H, W). ``pinned``: read into page-locked memory, from
    which a GPU copies faster.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="load") as pool:
        waiting: deque[_Batch] = deque()
        starts = iter(range(0, len(rows), batch_size))
        try:
            while True:
                while len(waiting) <= AHEAD and (start := next(starts, None)) is not None:
                    waiting.append(_Batch(rows[start : start + batch_size], load, size, pool, pinned))
                if not waiting:
                    return
                yield waiting.popleft().encode(model)
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
        self.jobs: list[Future[dict[int, str]]] = [
            pool.submit(self._fill, start, min(start + PER_JOB, len(rows))) for start in range(0, len(rows), PER_JOB)
        ]

    def encode(self, model: Callable[[Tensor], Tensor]) -> Encoded:
        faults = {slot: fault for job in self.jobs for slot, fault in job.result().items()}
        good = np.array([slot for slot in range(len(self.rows)) if slot not in faults], dtype=np.int64)
        by_row = {int(self.rows[slot]): fault for slot, fault in faults.items()}
        if not len(good):
            return Encoded(self.rows[good], np.zeros((0, 0), np.float32), by_row)
        pixels = self.pixels if not faults else self.pixels[torch.from_numpy(good)]
        return Encoded(self.rows[good], model(pixels).numpy(), by_row)

    def _fill(self, start: int, stop: int) -> dict[int, str]:
        faults = {}
        for slot in range(start, stop):
            try:
                self.slots[slot] = self.load(int(self.rows[slot]))
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
