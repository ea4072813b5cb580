"""Freed memory is used again; measured in a separate process, since the setting concerns the whole process."""

import platform
import subprocess
import sys
from functools import cache

import pytest

PAGES = """
import resource
from contextlib import nullcontext
from condsim.harness.process.memory import all_freed_memory_kept

size = 40 << 20  # glibc maps all blocks of more than 32 MiB
def batch():
    blocks = [bytes([i]) * size for i in (1, 2)]
{first}
with {setting}:
    batch()
    batch()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(2):
        batch()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize() / (2 * 2 * size))
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")


@cache
def share_cleared(setting: str = "nullcontext()", first: str = "") -> float:
    """The share of a batch's memory that the system clears again although the batch before has freed it."""
    program = [sys.executable, "-c", PAGES.format(setting=setting, first=first)]
    return float(subprocess.run(program, capture_output=True, text=True, check=True).stdout)


def test_a_batch_gets_the_memory_of_the_one_before() -> None:
    """The same program without the setting gets cleared pages for every batch."""
    if share_cleared() < 0.1:
        pytest.skip("this system hands out pages so large that clearing them is not seen")
    assert share_cleared("all_freed_memory_kept()") < 0.02


def test_after_a_ranking_large_blocks_go_back_to_the_system_again() -> None:
    assert share_cleared(first="with all_freed_memory_kept(): pass") == pytest.approx(share_cleared(), rel=0.1)
