"""CIRR: tasks as the files say, the withheld targets of test1, and submission files that the server would take."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate

from builders import make_cirr, put
from condsim.datasets import cirr
from condsim.datasets.cirr_submission import write_submission
from condsim.harness.errors import CondsimError
from condsim.harness.settings.composition import compose_config
from condsim.harness.task import Task


def stems(task: Task, rows: np.ndarray) -> list[str]:
    return [Path(task.images.names[row]).stem for row in rows]


def test_val_says_what_its_files_say(tmp_path: Path) -> None:
    files = make_cirr(tmp_path / "cirr")
    benchmark = cirr.load(**files.arguments)
    (task,) = benchmark.tasks
    assert task.full_name == "cirr/val"
    assert stems(task, task.gallery_rows) == list(files.files), (
        "every name of the split file, also those no query names"
    )
    assert len(task.gallery) == 14
    for i, entry in enumerate(files.captions):
        assert stems(task, task.reference[[i]]) == [entry["reference"]]
        assert stems(task, task.relevant[i]) == [entry["target_hard"]]
        assert task.excluded[i].tolist() == [task.reference[i]]
        others = [member for member in entry["img_set"]["members"] if member != entry["reference"]]
        assert stems(task, task.subset[i]) == others
        assert len(others) == 5
        assert task.conditions[task.condition[i]] == (entry["caption"],)
    assert task.query_ids == tuple(str(entry["pairid"]) for entry in files.captions)
    assert task.clusters.tolist() == task.reference.tolist()
    assert benchmark.headlines == {"average": (("val", "recall@5"), ("val", "subset_recall@1"))}
    assert {"recall@1", "recall@5", "recall@10", "recall@50", "subset_recall@3"} < set(task.metrics)


def test_train_is_a_split_with_answers_for_the_choice_of_settings(tmp_path: Path) -> None:
    files = make_cirr(tmp_path / "cirr", "train")
    (task,) = cirr.load(**files.arguments | {"split": "train"}).tasks
    assert task.full_name == "cirr/train"
    assert stems(task, task.relevant.values) == [entry["target_hard"] for entry in files.captions]


def test_image_folders_of_both_layouts_and_a_missing_image(tmp_path: Path) -> None:
    files = make_cirr(tmp_path / "cirr")
    images = files.root / "images"
    shutil.move(images / "dev", images / "img_raw" / "dev")
    (task,) = cirr.load(**files.arguments).tasks
    assert all(task.images.path(row).is_file() for row in range(len(task.images)))
    (images / "img_raw" / "dev" / "dev-0-0-img0.png").unlink()
    with pytest.raises(CondsimError, match=r"1 of its 14 images .* the first: dev/dev-0-0-img0"):
        cirr.load(**files.arguments)
    (task,) = cirr.load(**files.arguments, on_error="skip").tasks
    kept = [entry for entry in files.captions if "dev-0-0-img0" not in entry["img_set"]["members"]]
    assert task.query_ids == tuple(str(entry["pairid"]) for entry in kept)
    assert len(task.gallery) == 13
    assert len(task.skipped) == 1 + len(files.captions) - len(kept)


def test_a_blank_caption_is_real(tmp_path: Path) -> None:
    files = make_cirr(tmp_path / "cirr", "test1")
    files.write(captions=put(files.captions, (2, "caption"), " "))
    (task,) = cirr.load(**files.arguments).tasks
    assert task.conditions[task.condition[2]] == (" ",)


def test_train_is_there_only_where_its_images_are(tmp_path: Path) -> None:
    files = make_cirr(tmp_path / "cirr")
    assert cirr.load(**files.arguments).train is None
    (files.root / "image_splits" / "split.rc2.train.json").write_text(json.dumps({"t-1": "./train/3/t-1.png"}))
    entry = {**files.captions[0], "caption": "of the training split"}
    (files.root / "captions" / "cap.rc2.train.json").write_text(json.dumps([entry]))
    (files.root / "images" / "train").mkdir()
    train = cirr.load(**files.arguments).train
    assert train is not None
    assert (train.images.names, train.phrases) == (("train/3/t-1.png",), ("of the training split",))


FAULTS: list[tuple[tuple[str | int, ...], Any, list[str]]] = [
    ((3, "target_hard"), ..., ["entry 3", "target_hard", "required"]),
    ((3, "target_hard"), "nobody", ["entry 3", "target_hard", "'nobody'", "not in the split file"]),
    ((3, "target_hard"), "dev-13-0-img0", ["entry 3", "target_hard", "not among img_set.members"]),
    ((0, "target_hard"), "dev-0-0-img0", ["entry 0", "target_hard is the reference"]),
    ((3, "reference"), 5, ["entry 3", "reference", "string"]),
    ((3, "reference"), "dev-13-0-img0", ["entry 3", "reference", "not among img_set.members"]),
    ((3, "pairid"), "103", ["entry 3", "pairid", "integer", "'103'"]),
    ((3, "pairid"), 100, ["entry 3", "pairid 100", "entry 0"]),
    ((3, "caption"), None, ["entry 3", "caption", "string"]),
    ((3, "img_set", "members"), ["dev-6-0-img0"] * 5, ["entry 3", "img_set.members", "at least 6"]),
    ((0, "img_set", "members", 5), "dev-1-0-img0", ["entry 0", "img_set.members: duplicate image"]),
    ((0, "img_set", "members", 5), "nobody", ["entry 0", "img_set.members[5]", "not in the split file"]),
    ((4,), [], ["entry 4"]),
]


@pytest.mark.parametrize(("place", "value", "words"), FAULTS, ids=[str(fault[0]) + ascii(fault[1]) for fault in FAULTS])
def test_a_faulty_query(tmp_path: Path, place: tuple[str | int, ...], value: Any, words: list[str]) -> None:
    files = make_cirr(tmp_path / "cirr")
    files.write(captions=put(files.captions, place, value))
    with pytest.raises(CondsimError) as caught:
        cirr.load(**files.arguments)
    for word in ["cap.rc2.val.json", *words]:
        assert word in str(caught.value), str(caught.value)
    (task,) = cirr.load(**files.arguments, on_error="skip").tasks
    assert len(task) == len(files.captions) - 1
    assert len(task.skipped) == 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "not empty"),
        ([], "expected an object"),
        ({"dev-0-0-img0": 3}, "image 'dev-0-0-img0': expected the path of an image file, found 3"),
        ({"dev-0-0-img0": "./dev/other.png"}, "expected a file of that name"),
        ({"x": "../x.png"}, "leads out of the image folder"),
        ({"x": "/etc/x.png"}, "the absolute path '/etc/x.png' is not below the image folder"),
    ],
)
def test_a_faulty_split_file(tmp_path: Path, files: Any, message: str) -> None:
    world = make_cirr(tmp_path / "cirr")
    world.write(files=files)
    with pytest.raises(CondsimError, match=message) as caught:
        cirr.load(**world.arguments)
    assert "split.rc2.val.json" in str(caught.value)


def test_a_duplicate_image_in_the_split_file(tmp_path: Path) -> None:
    files = make_cirr(tmp_path / "cirr")
    path = files.root / "image_splits" / "split.rc2.val.json"
    path.write_text(path.read_text().replace("{", '{"dev-1-0-img0": "./dev/dev-1-0-img0.png", ', 1))
    with pytest.raises(CondsimError, match="duplicate key 'dev-1-0-img0'"):
        cirr.load(**files.arguments)


def test_options(tmp_path: Path) -> None:
    files = make_cirr(tmp_path / "cirr")
    overrides = [f"benchmark.{key}={value}" for key, value in files.arguments.items()]
    config = compose_config("check", ["benchmark=cirr", *overrides, "benchmark.metrics=[recall@2]"])
    benchmark = instantiate(config.benchmark)
    assert benchmark.tasks[0].metrics == ("recall@2",)
    assert benchmark.headlines == {}
    with pytest.raises(CondsimError, match=r"benchmark\.split=test: unknown. Did you mean 'test1'"):
        cirr.load(**files.arguments | {"split": "test"})
    with pytest.raises(CondsimError, match=r"benchmark\.annotations is not set"):
        cirr.load(None, files.arguments["images"])


def test_recalls_on_test1_are_refused(tmp_path: Path) -> None:
    files = make_cirr(tmp_path / "cirr", "test1")
    with pytest.raises(CondsimError, match=r"no public targets, so recall@1 cannot .* submission files"):
        cirr.load(**files.arguments, metrics=["recall@1"])
    benchmark = cirr.load(**files.arguments)
    assert benchmark.tasks[0].metrics == ()
    assert benchmark.headlines == {}
    assert not benchmark.tasks[0].relevant.lengths.any()


@pytest.fixture
def ranked(tmp_path: Path) -> tuple[Task, np.ndarray, np.ndarray]:
    """A test1 task of 60 images, and rankings of its gallery and of its subsets by random scores."""
    (task,) = cirr.load(**make_cirr(tmp_path / "cirr", "test1", 60).arguments).tasks
    rng = np.random.default_rng(0)
    top = [[row for row in rng.permutation(60) if row != reference][:55] for reference in task.reference]
    return task, np.array(top), np.array([rng.permutation(task.subset[i]) for i in range(len(task))])


def test_submission_files(ranked: tuple[Task, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    task, top, subset = ranked
    recall, local = write_submission(task, top, subset, tmp_path / "new")
    for path, metric, rows, length in ((recall, "recall", top, 50), (local, "recall_subset", subset, 3)):
        value = json.loads(path.read_text())
        assert (value.pop("version"), value.pop("metric")) == ("rc2", metric)
        assert list(value) == sorted(task.query_ids)
        assert list(json.loads(path.read_text())) == sorted([*task.query_ids, "version", "metric"]), "as CLIP4Cir's"
        for i, pair in enumerate(task.query_ids):
            assert value[pair] == stems(task, rows[i][:length])
    assert {path.name for path in (tmp_path / "new").iterdir()} == {recall.name, local.name}, "no part is left behind"


def test_a_submission_that_the_server_would_refuse_is_not_written(
    ranked: tuple[Task, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    task, top, subset = ranked
    outside = next(row for row in range(60) if row not in task.subset[0] and row != task.reference[0])

    def changed(rows: np.ndarray, value: int) -> np.ndarray:
        return np.concatenate([[[value, *rows[0][1:]]], rows[1:]])

    for best, local, message in (
        (changed(top, task.reference[0]), subset, "pair 100 names its own reference"),
        (changed(top, top[0][1]), subset, "pair 100 has a duplicate image"),
        (changed(top, -1), subset, "outside its gallery"),
        (top[:, :49], subset, "needs the best 50 of each of 8 pairs"),
        (top[1:], subset, "needs the best 50 of each of 8 pairs"),
        (top, changed(subset, outside), "pair 100 names an image outside its image set"),
        (top, changed(subset, task.reference[0]), "pair 100 names its own reference"),
        (top, subset[:, :2], "needs the best 3"),
    ):
        with pytest.raises(CondsimError, match=message):
            write_submission(task, best, local, tmp_path / "submission")
        assert not (tmp_path / "submission").exists()


def test_a_submission_needs_every_pair(tmp_path: Path) -> None:
    files = make_cirr(tmp_path / "cirr", "test1")
    files.write(captions=put(files.captions, (1, "reference"), 3))
    (task,) = cirr.load(**files.arguments, on_error="skip").tasks
    with pytest.raises(CondsimError, match=r"every pair, but some were left out: .*entry 1"):
        write_submission(task, np.zeros((7, 50), dtype=int), np.zeros((7, 3), dtype=int), tmp_path)
