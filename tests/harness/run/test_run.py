"""What identifies a run: its folder is another one exactly where its numbers could be others."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from condsim.harness.memory_map import is_mapped, map_npy
from condsim.harness.run.identity import RunSettings, folder_of_run
from condsim.harness.run.run import rank
from condsim.harness.task import Benchmark, ImageTable, Ragged, Task

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


@pytest.mark.parametrize(
    ("gallery", "mapped", "own"), [([0, 1], False, False), ([0, 1], True, True), ([1], False, True), ([1], True, True)]
)
def test_a_gallery_is_copied_only_where_it_has_to_be(
    tmp_path: Path, gallery: list[int], mapped: bool, own: bool
) -> None:
    """A gallery of gigabytes is not held twice, and one in a file is held by a method that does not read files."""
    np.save(tmp_path / "features.npy", np.eye(2, 3, dtype=np.float32))
    images = map_npy(tmp_path / "features.npy") if mapped else torch.eye(2, 3)
    seen: list[torch.Tensor] = []

    def prepare(given: SimpleNamespace) -> object:
        seen.append(given.features)
        return lambda queries, rows=None: queries.reference @ given.features.T

    one = replace(task(tmp_path), gallery=np.array(gallery))
    backbone = SimpleNamespace(
        device=torch.device("cpu"), encode_images=lambda _: images, encode_texts=lambda texts: torch.ones(len(texts), 3)
    )
    method = SimpleNamespace(reads_mapped=False, pointwise=True, prepare=prepare)
    rank(Benchmark("toy", (one,)), one, method, backbone, 1)
    assert torch.equal(seen[0], torch.eye(2, 3)[gallery])
    assert not is_mapped(seen[0])
    assert (seen[0].data_ptr() != images.data_ptr()) == own
