"""A sweep as jobs of submitit, on this machine."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from condsim.harness.engine.slurm import SlurmEngine
from condsim.harness.errors import CondsimError
from running import run_condsim

pytest.importorskip("submitit", reason="these tests need submitit (pip install 'condsim[slurm]')")
pytestmark = pytest.mark.slow

TOY = Path(__file__).parents[2] / "user_folder"
SWEEP = ("bench", "--config-dir", ".", "-m", "benchmark=toy", "backbone=toy", "method=custom")
LOCAL = ("engine=slurm", "engine.cluster=local", "engine.groups=2", "engine.cpus=1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(TOY, tmp_path / "own")


def test_jobs_leave_the_values_of_one_process_and_one_that_dies_is_the_failure_of_its_runs(
    folder: Path, tmp_path: Path
) -> None:
    own = ("method._target_=evil.Evil", "tasks=[few]")
    shown = run_condsim(*SWEEP, *own, "+method.how=nothing,none,nil,crash", *LOCAL, folder=folder, status=1)
    assert "2 jobs submitted" in shown
    assert "3 runs finished, 0 already done, 1 FAILED" in shown, "the job that dies has finished one of its two runs"
    assert "Evil how=crash on toy/few: its worker died: job " in shown
    assert "log.err" in shown or "_log" in shown
    alone = shutil.copytree(TOY, tmp_path / "alone")
    run_condsim(*SWEEP, *own, "+method.how=nothing,none,nil", folder=alone)
    metrics = [
        {
            path.parent.name: json.loads(path.read_text())["metrics"]
            for path in place.glob("results/runs/*/*/*/record.json")
        }
        for place in (folder, alone)
    ]
    assert len(metrics[0]) == 3
    assert metrics[0] == metrics[1]


def test_without_submitit_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(CondsimError, match=r"engine=slurm needs submitit: pip install 'condsim\[slurm\]'"):
        list(SlurmEngine().work(lambda: str, [1]))


def test_a_gallery_in_parts_and_encoding_are_not_for_jobs_in_a_queue(folder: Path) -> None:
    with pytest.raises(CondsimError, match="use engine=ray"):
        SlurmEngine().hold([dict])
    shown = run_condsim("encode", "engine=slurm", folder=folder, status=2)
    assert "use engine=local or engine=ray" in shown
