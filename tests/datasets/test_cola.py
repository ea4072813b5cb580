"""COLA's loader on small files: queries, groups, labels, and its faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from condsim.datasets import cola
from condsim.datasets.check import check
from condsim.harness.errors import CondsimError
from condsim.harness.ranking.metrics import per_query
from condsim.harness.ranking.ranks import Ranks
from condsim.harness.task import Task

LINK = "https://host.example/vg_gqa_images"
PAIRS: list[Any] = [
    [f"{LINK}/1.jpg", "white pillow on blue bed", f"{LINK}/2.jpg", "blue pillow on white bed"],
    [f"{LINK}/3.jpg", "red  car", f"{LINK}/1.jpg", "white pillow on blue bed"],
]
LONGER: list[Any] = [["4.jpg", "red car", "2.jpg", None, "3.jpg", None], ["1.jpg", None, "5.jpg", "dog", "2.jpg", None]]


class Files:
    def __init__(self, root: Path) -> None:
        self.root, self.file = root, root / "pairs.json"
        for number in range(1, 6):
            folder = root / "images" / ("VG_100K", "VG_100K_2")[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 6)).save(folder / f"{number}.jpg")
        self.write(PAIRS)

    def write(self, entries: Any, name: str = "pairs.json") -> None:
        (self.root / name).write_text(json.dumps(entries))

    def load(self, **options: Any) -> Task:
        (task,) = cola.load(str(self.file), str(self.root / "images"), **options).tasks
        return task


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def listed(task: Task) -> list[tuple[str, str, list[str]]]:
    """(caption, its image, the candidates) of each query."""
    assert task.candidates is not None
    names = task.images.names
    return [
        (task.conditions[task.condition[i]][0], *(names[row] for row in task.relevant[i]),
         [names[row] for row in task.candidates[i]])
        for i in range(len(task))
    ]  # fmt: skip


def test_each_caption_ranks_the_images_of_its_entry(files: Files) -> None:
    task = files.load()
    assert listed(task) == [
        ("white pillow on blue bed", "1.jpg", ["1.jpg", "2.jpg"]),
        ("blue pillow on white bed", "2.jpg", ["1.jpg", "2.jpg"]),
        ("red car", "3.jpg", ["3.jpg", "1.jpg"]),
        ("white pillow on blue bed", "1.jpg", ["3.jpg", "1.jpg"]),
    ]
    assert (task.full_name, task.metrics, task.query_ids) == (
        "cola/multi_object", cola.METRICS, ("0.0", "0.1", "1.0", "1.1")
    )  # fmt: skip
    assert task.reference.tolist() == [-1] * 4
    assert task.images.path(0) == files.root / "images/VG_100K_2/1.jpg"  # the link's folder is no part of the name


def test_an_entry_counts_where_both_of_its_captions_are_right(files: Files) -> None:
    """COLA's code: im0_c0 > im1_c0 and im1_c1 > im0_c1 (its ColaMultiObjAcc)."""
    task = files.load()
    scores = np.random.default_rng(0).random((50, 4, 2))  # [trial, query, candidate]
    for trial in scores:
        right = [trial[0, 0] > trial[0, 1], trial[1, 1] > trial[1, 0], trial[2, 0] > trial[2, 1],
                 trial[3, 1] > trial[3, 0]]  # fmt: skip
        one = np.ones(4, dtype=np.int64)
        ranks = Ranks(np.arange(5), 1 - np.array(right, dtype=np.int64), one, 0 * one, one, 2 * one, complete=True)
        value = per_query("grouped_recall@1", ranks, groups=task.clusters).mean()
        assert value == np.mean([right[0] and right[1], right[2] and right[3]])


def test_an_image_without_a_caption_is_only_a_distractor(files: Files) -> None:
    files.write(LONGER)
    files.write([["swapped", "2 objects"], ["missing"]], "pairs.labels.json")
    task = files.load(metrics=["recall@1"])
    assert listed(task) == [
        ("red car", "4.jpg", ["4.jpg", "2.jpg", "3.jpg"]),
        ("dog", "5.jpg", ["1.jpg", "5.jpg", "2.jpg"]),
    ]
    assert task.labels is not None
    assert [{task.labels.names[code] for code in task.labels.codes[i]} for i in range(2)] == [
        {"swapped", "2 objects"}, {"missing"}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("white pillow", r"entry 1: expected \[image, caption, image, caption\], found 'white pillow'"),
        (PAIRS[0][:3], "found a list of 3"),
        (PAIRS[0][:2], "found a list of 2"),
        ([*PAIRS[0][:3], 7], "entry 1, image 1: caption: Input should be a valid string, found 7"),
        ([*PAIRS[0][:3], " "], "entry 1, image 1: caption"),
        ([3, *PAIRS[0][1:]], "entry 1, image 0: image"),
        ([f"{LINK}/..", *PAIRS[0][1:]], "entry 1, image 0: image"),
        ([f"{LINK}/9.jpg", *PAIRS[0][1:]], r"the image 9\.jpg is not in"),
        ([PAIRS[0][0], "a", PAIRS[0][0], "b"], "expected different images"),
        ([PAIRS[0][0], None, PAIRS[0][2], None], "expected a caption for at least one image"),
    ],
)
def test_a_faulty_entry_is_named_and_can_be_left_out_whole(files: Files, entry: Any, message: str) -> None:
    files.write([PAIRS[0], entry, PAIRS[1]])
    with pytest.raises(CondsimError, match=message):
        files.load()
    task = files.load(on_error="skip")
    assert task.query_ids == ("0.0", "0.1", "2.0", "2.1")
    assert task.clusters is not None
    assert task.clusters.tolist() == [0, 0, 2, 2]
    assert len(task.skipped) == 1


@pytest.mark.parametrize("labels", [{}, [["a"]], [["a"], "b"], [["a"], [3]], [["a"], [" "]]])
def test_labels_have_one_list_per_entry(files: Files, labels: Any) -> None:
    files.write(labels, "pairs.labels.json")
    with pytest.raises(CondsimError, match=r"pairs\.labels\.json: .*expected"):
        files.load()


def test_check_counts_entries_and_images(files: Files) -> None:
    config = {"_target_": "condsim.datasets.cola.load", "name": "cola", "annotations": str(files.file),
              "images": str(files.root / "images")}  # fmt: skip
    (files.root / "images/VG_100K/2.jpg").unlink()
    report = check(config)
    assert [(part.what, part.found, part.expected) for part in report.parts] == [("queries", 4, 420), ("images", 2, 3)]
    assert [Path(path).name for path in report.missing] == ["2.jpg"]
    assert report.card.startswith("# COLA")
    assert not report.complete
    unset = check({**config, "annotations": None, "images": None})
    assert [(part.found, part.expected) for part in unset.parts] == [(None, 420)]
    (files.root / "pairs.json").write_text("{}")
    assert "expected a list of entries" in check(config).problems[0]
