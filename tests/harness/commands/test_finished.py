"""A run that is done costs no slow import: to see that it is done, nothing is encoded, scored or drawn."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CODE = """
import sys
from condsim.harness.cli import main
from condsim.harness.deferred import is_deferred
status = main(sys.argv[1:])
slow = {"torch", "torchvision", "open_clip", "scipy"} & set(sys.modules)
print("imported:", sorted(name for name in slow if not is_deferred(name)), "status:", status)
"""


def test_a_finished_run_of_every_embedded_method_imports_neither_torch_nor_open_clip(tmp_path: Path) -> None:
    methods = "image_only,clay,combiner,query_adaptive,neighborhood_rerank,pic2word,crl"
    settings = ["-m", f"method={methods}", "tasks=[focus_attribute]", f"results={tmp_path}", "statistics.resamples=100"]
    first, again = (
        subprocess.run([sys.executable, "-c", CODE, "bench", *settings], capture_output=True, text=True, check=True)
        for _ in range(2)
    )
    assert "7 run, 0 already done" in first.stdout
    assert "0 run, 7 already done" in again.stdout
    assert again.stdout.endswith("imported: [] status: 0\n")
