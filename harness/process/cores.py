"""The processor's cores: how many this process may use, and threads that use one each."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier


def available_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def one_core_each(threads: int) -> ThreadPoolExecutor:
    """Threads in which PyTorch uses one core; the rest of the process keeps its number of cores.

    ``torch.set_num_threads`` also sets the number that threads which have not used PyTorch yet will take over, so that
    is set back once every thread has started.
    """
    import torch

    before = torch.get_num_threads()
    started = Barrier(threads)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="core")

    def start(_: int) -> None:
        torch.get_num_threads()  # the first call in a thread takes over the process's number, later ones do not
        torch.set_num_threads(1)
        started.wait()  # each thread of the pool runs this once

    try:
        list(pool.map(start, range(threads)))
    finally:
        torch.set_num_threads(before)
    return pool
