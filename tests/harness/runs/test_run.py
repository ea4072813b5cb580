"""What identifies a run: its folder is another one exactly where its numbers could be others."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from condsim.harness.runs.run import RunSettings, folder_of_run
from condsim.harness.task import ImageTable, Ragged, Task

BACKBONE = SimpleNamespace(identity={"model": "tiny"})


def task(root: Path) -> Task:
    table = ImageTable(root, ("a.png", "b.png"))
    shared = {"conditions": (("color",),), "condition": np.array([0]), "reference": np.array([0])}
    return Task("toy", "one", table, **shared, relevant=Ragged.of([[1]]), metrics=("recall@1",), gallery=np.array([1]))


def folder(tmp_path: Path, **config: object) -> Path:
    return folder_of_run(tmp_path, task(tmp_path), BACKBONE, RunSettings("mine", config, {}))


def test_weights_trained_anew_under_the_old_name_are_another_run(tmp_path: Path) -> None:
    weights = tmp_path / "head.safetensors"
    weights.write_bytes(b"old")
    before = folder(tmp_path, checkpoint=str(weights))
    assert folder(tmp_path, checkpoint=str(weights)) == before
    weights.write_bytes(b"newer")
    assert folder(tmp_path, checkpoint=str(weights)) != before


def test_the_same_weights_elsewhere_are_the_same_run(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"weights")
    assert folder(tmp_path, checkpoint=str(tmp_path / "one")) == folder(tmp_path, checkpoint=str(tmp_path / "two"))


def test_a_setting_counts(tmp_path: Path) -> None:
    assert folder(tmp_path, rank=5) != folder(tmp_path, rank=6)
