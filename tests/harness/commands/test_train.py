"""`condsim train` as a user runs it, with triplets, benchmark and backbone of the user's own."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from running import run_condsim

pytestmark = pytest.mark.slow

TOY = Path(__file__).parents[2] / "user_folder"
SIZES = ["method.hidden=8", "method.heads=1", "method.feedforward=8", "method.depth=1", "method.steps=1"]
TRAINING = ["training.steps=12", "training.batch_size=6", "training.validate_every=4", "validation.share=0.2"]
COMMAND = ("train", "--config-dir", ".", "benchmark=toy", "backbone=toy", "triplets=own", *TRAINING)
OWN = """
from pathlib import Path
import numpy as np
from condsim.harness.task import ImageTable
from condsim.harness.triplets import Triplets

def load(n=80, reference=True):
    rng = np.random.default_rng(0)
    images = ImageTable(Path("nowhere"), tuple(f"{i}.png" for i in range(30)))
    rows = rng.integers(30, size=n) if reference else np.full(n, -1)
    return Triplets("own", images, ("color", "shape"), rows, rng.integers(2, size=n), rng.integers(30, size=n))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(TOY, tmp_path / "own")
    (tmp_path / "own/own.py").write_text(OWN)
    (tmp_path / "own/triplets").mkdir()
    (tmp_path / "own/triplets/own.yaml").write_text("own: {_target_: own.load, n: 80, reference: true}\n")
    return tmp_path / "own"


def train(folder: Path, *arguments: str, status: int = 0) -> str:
    return run_condsim(*COMMAND, *arguments, folder=folder, status=status)


def test_a_sweep_over_rank_trains_and_runs_each_rank_once(folder: Path) -> None:
    sweep = ("-m", "method=query_adaptive", "method.rank=1,2", *SIZES)
    train(folder, *sweep)
    checkpoints = sorted(folder.glob("results/checkpoints/query_adaptive-*.safetensors"))
    assert len(checkpoints) == 2
    assert not list(folder.glob("results/checkpoints/*.running"))
    with (folder / "results/leaderboard.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["task"] == "few"]
    assert sorted(row["settings"].split("rank=")[1][0] for row in rows) == ["1", "2"]
    written = [path.stat().st_mtime_ns for path in checkpoints]
    assert train(folder, *sweep).count("already trained") == 2
    assert [path.stat().st_mtime_ns for path in checkpoints] == written
    history = json.loads(checkpoints[0].with_suffix(".history.json").read_text())
    assert [row["step"] for row in history] == [4, 8, 12]
    assert all(0 <= row["validation"] <= 1 for row in history)
    for path in folder.glob("results/runs/toy/few/query_adaptive-*/record.json"):
        training = json.loads(path.read_text())["training"]
        assert (training["seed"], training["steps"], training["sources"], training["triplets"]) == (0, 12, "own", 80)


def test_trainings_that_differ_in_the_seed_are_one_row_of_the_spread(folder: Path) -> None:
    output = train(folder, "-m", "method=combiner", "method.projection=8", "method.hidden=8", "training.seed=1,2")
    assert "2 seeds" in output


def test_dry_shows_sizes_and_trains_nothing(folder: Path) -> None:
    output = train(folder, "method=combiner", "method.projection=8", "method.hidden=16", "--dry")
    # 2 (8*8 + 8) projections, 16*16 + 16 combiner, 16*8 + 8 output, 16*16 + 16 + 16 + 1 scalar
    assert f"{144 + 272 + 136 + 289:,}" in output
    assert "minutes on cpu" in output
    assert not (folder / "results").exists() or not list((folder / "results").rglob("*.safetensors"))


def test_what_cannot_be_trained_is_reported(folder: Path) -> None:
    assert "has nothing to train" in train(folder, "method=constant", status=1)
    lacking = train(folder, "method=combiner", "triplets.own.reference=false", status=1)
    assert "have no reference image, which combiner needs" in lacking
    assert "no source of triplets" in train(folder, "method=combiner", "triplets.own=null", status=1)
