"""ROxford's and RParis's loader on a small ground truth in the published format."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from condsim.datasets import revisited
from condsim.datasets.check import check
from condsim.harness.errors import CondsimError
from condsim.harness.run.task_file import load_task, save_task
from condsim.harness.task import Benchmark, Task

TRUTH: dict[str, Any] = {
    "imlist": [f"oxford_{i:06d}" for i in range(8)],
    "qimlist": ["all_souls_000013", "magdalen_000078"],
    "gnd": [
        {"bbx": [1.5, 2.0, 8.5, 7.0], "easy": np.array([0, 3]), "hard": np.array([5]), "junk": np.array([1])},
        {"bbx": [0.0, 0.0, 4.0, 4.0], "easy": np.zeros(0), "hard": np.array([2]), "junk": np.array([4, 6])},
    ],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    jpg = tmp_path / "roxford5k" / "jpg"
    jpg.mkdir(parents=True)
    for name in (*TRUTH["imlist"], *TRUTH["qimlist"]):
        Image.new("RGB", (12, 10)).save(jpg / f"{name}.jpg")
    write(tmp_path, TRUTH)
    return tmp_path


def write(folder: Path, truth: Any) -> Path:
    path = folder / "roxford5k" / "gnd_roxford5k.pkl"
    path.write_bytes(pickle.dumps(truth, protocol=2))
    return path


def load(folder: Path, **options: Any) -> Benchmark:
    return revisited.load("roxford5k", images=str(folder), **options)


def lists(task: Task) -> list[tuple[str, list[int], list[int]]]:
    assert task.excluded is not None
    assert task.query_ids is not None
    return [(name, task.relevant[i].tolist(), task.excluded[i].tolist()) for i, name in enumerate(task.query_ids)]


def test_three_difficulties_with_their_junk(folder: Path) -> None:
    benchmark = load(folder)
    easy, medium, hard = benchmark.tasks
    assert benchmark.name == "roxford5k"
    assert lists(easy) == [("all_souls_000013", [0, 3], [5, 1])]
    assert lists(medium) == [("all_souls_000013", [0, 3, 5], [1]), ("magdalen_000078", [2], [4, 6])]
    assert lists(hard) == [("all_souls_000013", [5], [0, 3, 1]), ("magdalen_000078", [2], [4, 6])]
    assert easy.skipped == ("easy: 1 of 2 queries have nothing relevant in this task",)
    for task in benchmark.tasks:
        assert task.gallery_rows.tolist() == list(range(8)), "the query pictures are not in it"
        assert task.condition.tolist() == [-1] * len(task)
        assert task.metrics == ("map_trapezoid", "mp@1", "mp@5", "mp@10")
    assert easy.images.names[int(easy.reference[0])] == "all_souls_000013.jpg"
    assert hard.images.names[int(hard.reference[1])] == "magdalen_000078.jpg"
    box = medium.images.box(int(medium.reference[0]))
    assert box is not None
    assert box.tolist() == [1.5, 2.0, 8.5, 7.0]
    assert (medium.images.crop, medium.images.box(0)) == ("plain", None)


def test_the_crop_survives_in_the_task_file(folder: Path, tmp_path: Path) -> None:
    task = load(folder).tasks[0]
    save_task(tmp_path / "task.npz", task)
    assert load_task(tmp_path / "task.npz", task.fingerprint).images.crop == "plain"


def test_the_pickle_is_converted_once_and_again_where_it_changes(folder: Path) -> None:
    before = [task.fingerprint for task in load(folder).tasks]
    copy = folder / "roxford5k" / "gnd_roxford5k.json"
    assert json.loads(copy.read_text())["gnd"][1]["junk"] == [4, 6]
    written = copy.stat().st_mtime_ns
    assert [task.fingerprint for task in load(folder).tasks] == before
    assert copy.stat().st_mtime_ns == written
    changed = {**TRUTH, "gnd": [TRUTH["gnd"][0], {**TRUTH["gnd"][1], "junk": [4]}]}
    pickled = write(folder, changed)
    assert lists(load(folder).tasks[1])[1] == ("magdalen_000078", [2], [4])
    pickled.unlink()
    assert lists(load(folder).tasks[1])[1] == ("magdalen_000078", [2], [4]), "the JSON file alone is enough"
    copy.write_text("{")
    write(folder, TRUTH)
    assert [task.fingerprint for task in load(folder).tasks] == before, "a damaged copy is written again"


def test_images_are_found_from_either_folder(folder: Path) -> None:
    for root in (folder, folder / "roxford5k"):
        task = load(root).tasks[1]
        assert all(task.images.path(row).is_file() for row in range(len(task.images)))
    elsewhere = revisited.load("roxford5k", str(folder / "roxford5k")).tasks
    assert [task.fingerprint for task in elsewhere] == [task.fingerprint for task in load(folder).tasks]


def test_distractors_are_a_benchmark_of_its_own_name(folder: Path) -> None:
    million = folder / "revisitop1m"
    for name in ("0/a.jpg", "1/b.jpg"):
        (million / "jpg" / name).parent.mkdir(parents=True)
        Image.new("RGB", (6, 8)).save(million / "jpg" / name)
    (million / "revisitop1m.txt").write_text("0/a.jpg\n1/b.jpg\n")
    benchmark = load(folder, distractors=True)
    assert benchmark.name == "roxford5k_1m"
    task = benchmark.tasks[1]
    assert len(task.gallery_rows) == 10
    assert task.images.names[8:10] == ("revisitop1m/0/a.jpg", "revisitop1m/1/b.jpg")
    assert all(task.images.path(row).is_file() for row in range(len(task.images)))
    assert lists(task) == lists(load(folder).tasks[1])


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"easy": [0, 8]}, r"gnd\[1\]: it names image 8, but imlist has 8"),
        ({"easy": [0, 4]}, r"gnd\[1\]: image 4 is in it twice"),
        ({"bbx": [1, 2, 3]}, r"gnd\[1\]: bbx: List should have at least 4 items"),
        ({"junk": ["a"]}, r"gnd\[1\]: junk\[0\]: Input should be a valid integer"),
        ({"hard": [-1]}, r"gnd\[1\]: hard\[0\]: Input should be greater than or equal to 0"),
    ],
)
def test_a_faulty_query_is_named_or_left_out(folder: Path, query: dict[str, Any], message: str) -> None:
    write(folder, {**TRUTH, "gnd": [TRUTH["gnd"][0], {**TRUTH["gnd"][1], **query}]})
    with pytest.raises(CondsimError, match=message):
        load(folder)
    for task in load(folder, on_error="skip").tasks:
        assert task.query_ids == ("all_souls_000013",)
        assert len(task.skipped) == 1


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ([], "expected a ground truth with imlist"),
        ({"imlist": ["a"], "qimlist": ["b"]}, "gnd: Field required"),
        ({**TRUTH, "gnd": TRUTH["gnd"][:1]}, "gnd has 1 entries for 2 query images"),
        ({**TRUTH, "imlist": ["a"] * 8}, "imlist names a twice"),
        ({**TRUTH, "imlist": ["../a"] * 8}, r"imlist\[0\]: String should match"),
    ],
)
def test_a_faulty_ground_truth_is_refused(folder: Path, truth: Any, message: str) -> None:
    write(folder, truth)
    with pytest.raises(CondsimError, match=message):
        load(folder)


def test_missing_images_are_named_or_left_out(folder: Path) -> None:
    (folder / "roxford5k" / "jpg" / "oxford_000002.jpg").unlink()
    with pytest.raises(CondsimError, match=r"1 of its 10 images .*oxford_000002\.jpg"):
        load(folder)
    medium = load(folder, on_error="skip").tasks[1]
    assert medium.query_ids == ("all_souls_000013",)
    with pytest.raises(CondsimError, match=r"benchmark\.images is not set"):
        revisited.load("roxford5k")
    with pytest.raises(CondsimError, match=r"benchmark\.images=.*nowhere is not a folder"):
        load(folder / "nowhere")
    with pytest.raises(CondsimError, match="Did you mean 'roxford5k'"):
        revisited.load("roxfrod5k", images=str(folder))


def test_check_counts_queries_gallery_and_images_and_fits_the_boxes(folder: Path) -> None:
    options = {"_target_": "condsim.datasets.revisited.load", "dataset": "roxford5k", "name": "roxford5k"}
    report = check({**options, "images": str(folder)})
    assert {part.what: (part.found, part.expected) for part in report.parts} == {
        "queries": (2, 70), "gallery": (8, 4_993), "images": (10, 10),
    }  # fmt: skip
    assert (report.missing, report.problems, report.unreadable) == ((), (), ())
    query = {**TRUTH["gnd"][1], "bbx": [20.0, 0.0, 30.0, 4.0]}
    write(folder, {**TRUTH, "gnd": [TRUTH["gnd"][0], query]})
    (fault,) = check({**options, "images": str(folder)}).unreadable
    assert "magdalen_000078.jpg: the box [20, 0, 30, 4] (left, top, right, bottom) is outside its image" in fault
