"""Memory that is let go is used again, in a process of its own: what is set holds for the whole of it."""

import platform
import subprocess
import sys

import pytest

PAGES = """
import resource
from condsim.harness.memory import LARGEST_KEPT, keep_freed_memory

{setting}
size = LARGEST_KEPT - (4 << 20)
def batch():
    blocks = [bytes([i]) * size for i in (1, 2, 3)]
batch()
batch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    batch()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize() / (10 * 3 * size))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
def test_a_batch_gets_the_memory_of_the_one_before() -> None:
    """The same program without the setting gets cleared pages for every batch."""

    def share_cleared(setting: str) -> float:
        program = [sys.executable, "-c", PAGES.format(setting=setting)]
        return float(subprocess.run(program, capture_output=True, text=True, check=True).stdout)

    if share_cleared("") < 0.1:
        pytest.skip("this system hands out pages so large that clearing them is not seen")
    assert share_cleared("keep_freed_memory()") < 0.02
