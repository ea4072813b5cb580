"""Threads with one core each leave the number of cores of all other threads as it is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch

from condsim.harness.process.cores import one_core_each


def test_only_the_threads_of_the_pool_use_one_core() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with one_core_each(2) as pool:
            assert set(pool.map(lambda _: torch.get_num_threads(), range(8))) == {1}
        with ThreadPoolExecutor(1) as later:  # a thread that uses PyTorch for the first time
            assert later.submit(torch.get_num_threads).result() == 3
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
