"""A command imports what its runs need: a finished run nothing slow, cached features torch without open_clip."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from running import run_condsim

pytestmark = pytest.mark.slow

CODE = """
import sys
from condsim.harness.cli import main
from condsim.harness.process.deferred import is_deferred
for settings in (sys.argv[1:], [*sys.argv[3:], "method=clay", "statistics.seed=1"]):
    status = main(["bench", *settings])
    slow = {"torch", "torchvision", "open_clip", "scipy", "pandas", "pydantic"} & set(sys.modules)
    print("imported:", sorted(name for name in slow if not is_deferred(name)), "status:", status)
"""


def test_a_command_imports_only_what_its_runs_need(tmp_path: Path) -> None:
    methods = "image_only,clay,combiner,query_adaptive,pic2word,crl"
    settings = ["-m", f"method={methods}", "tasks=[labelled_color]", f"results={tmp_path}", "statistics.resamples=100"]
    first = run_condsim("bench", *settings, folder=tmp_path)
    assert "6 runs finished, 0 already done" in first
    done = subprocess.run([sys.executable, "-c", CODE, *settings], capture_output=True, text=True, check=True)
    again, encoded = done.stdout.split("status: 0\n")[:2]
    assert "0 runs finished, 6 already done" in again
    assert again.endswith("imported: [] ")
    assert "1 run finished, 0 already done" in encoded
    assert "'torch'" in encoded
    assert not re.search("open_clip|torchvision", encoded), "for pictures and texts that are not encoded yet"
