"""The real CIRR annotations: the counts of the protocol, the withheld targets, and the two submission files."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from condsim.datasets import cirr
from condsim.datasets.cirr_submission import write_submission
from condsim.harness.errors import CondsimError
from condsim.harness.task import Task

pytestmark = pytest.mark.slow


@cache
def read(folder: Path, split: str) -> Task:
    (task,) = cirr.load(str(folder), split=split, on_error="survey").tasks  # type: ignore[arg-type]
    return task


@pytest.mark.parametrize(("split", "counts"), [("val", (4_181, 2_297, 2_165)), ("test1", (4_148, 2_315, 2_178))])
def test_counts(cirr_annotations: Path, split: str, counts: tuple[int, int, int]) -> None:
    task = read(cirr_annotations, split)
    assert (len(task), len(task.images), len(set(task.reference))) == counts
    assert task.gallery is not None
    assert len(task.gallery) == counts[1], "every name of the split file is in the gallery"
    assert set(task.subset.lengths) == {5}
    assert set(task.excluded.lengths) == {1}
    assert np.array_equal(task.excluded.values, task.reference)
    assert len(set(task.query_ids)) == len(task)
    assert not any(task.reference[i] in task.subset[i] for i in range(len(task)))


def test_val_targets(cirr_annotations: Path) -> None:
    task = read(cirr_annotations, "val")
    assert set(task.relevant.lengths) == {1}
    assert all(task.relevant[i][0] in task.subset[i] for i in range(len(task))), "so subset recall@5 would be 100 %"
    entries = json.loads((cirr_annotations / "captions" / "cap.rc2.val.json").read_text())
    names = [Path(name).stem for name in task.images.names]
    assert [names[row] for row in task.relevant.values] == [entry["target_hard"] for entry in entries]
    assert [names[row] for row in task.reference] == [entry["reference"] for entry in entries]
    assert [int(pair) for pair in task.query_ids] == [entry["pairid"] for entry in entries]


def test_a_blank_caption_is_kept(cirr_annotations: Path) -> None:
    task = read(cirr_annotations, "test1")
    blank = [i for i in range(len(task)) if not task.conditions[task.condition[i]][0].strip()]
    assert blank == [1387]


def test_test1_has_no_recalls_but_submission_files(cirr_annotations: Path, tmp_path: Path) -> None:
    task = read(cirr_annotations, "test1")
    assert task.metrics == ()
    assert not task.relevant.lengths.any()
    with pytest.raises(CondsimError, match="no public targets"):
        cirr.load(str(cirr_annotations), split="test1", metrics=["recall@5"])
    rng = np.random.default_rng(0)
    top = np.array([[r for r in rng.choice(2_315, 51, replace=False) if r != q][:50] for q in task.reference])
    subset = np.array([rng.permutation(task.subset[i])[:3] for i in range(len(task))])
    sets = {
        str(entry["pairid"]): (entry["reference"], set(entry["img_set"]["members"]))
        for entry in json.loads((cirr_annotations / "captions" / "cap.rc2.test1.json").read_text())
    }
    for path, metric, length in zip(
        write_submission(task, top, subset, tmp_path), ("recall", "recall_subset"), (50, 3), strict=True
    ):
        assert path.stat().st_size <= 5_000_000
        value = json.loads(path.read_text())
        assert len(value) == 4_148 + 2
        assert (value.pop("version"), value.pop("metric")) == ("rc2", metric)
        assert set(value) == set(sets)
        for pair, names in value.items():
            reference, members = sets[pair]
            assert len(names) == len(set(names)) == length
            assert reference not in names
            assert metric == "recall" or set(names) <= members
            assert not any(name.endswith(".png") for name in names)


def test_the_training_split_of_images(cirr_annotations: Path) -> None:
    files = cirr.read_split(cirr_annotations, "train")
    assert len(files) == 16_939
    assert all(path.startswith("train/") for path in files.values())
