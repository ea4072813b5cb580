"""CIRCO's loader on small files: its gallery, texts and labels, its faults, and the file for the server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from condsim.datasets import circo
from condsim.datasets.circo_submission import LENGTH, faults, submission, write_submission
from condsim.harness.errors import CondsimError
from condsim.harness.task import Task

IDS = tuple(range(3, 3 + 7 * 60, 7))
"""60 images."""


def query(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": number, "reference_img_id": IDS[number], "relative_caption": f"has {number} dogs",
        "shared_concept": "a park", "target_img_id": IDS[10 + number], "gt_img_ids": [IDS[10 + number], IDS[20]],
        "semantic_aspects": ["cardinality", "addition"][: 1 + number % 2], **changes,
    }  # fmt: skip


class Files:
    def __init__(self, root: Path) -> None:
        self.root, self.images = root, root / "COCO2017_unlabeled"
        (self.images / "unlabeled2017").mkdir(parents=True)
        for image in IDS:
            Image.new("RGB", (8, 6)).save(self.images / "unlabeled2017" / f"{image:012d}.jpg")
        self.write("COCO2017_unlabeled/annotations/image_info_unlabeled2017.json", self.info(IDS))
        self.write("annotations/val.json", [query(i) for i in range(4)])
        hidden = ("target_img_id", "gt_img_ids", "semantic_aspects")
        self.write("annotations/test.json", [{k: v for k, v in query(i).items() if k not in hidden} for i in range(4)])

    @staticmethod
    def info(ids: Any) -> dict[str, Any]:
        return {"info": {}, "images": [{"id": image, "file_name": f"{image:012d}.jpg", "width": 8} for image in ids]}

    def write(self, place: str, value: Any) -> None:
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))

    def load(self, **options: Any) -> Task:
        (task,) = circo.load(str(self.root), str(self.images), **options).tasks
        return task


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_the_gallery_is_every_image_of_the_list_and_keeps_the_reference(files: Files) -> None:
    task = files.load()
    assert (task.name, len(task), len(task.images)) == ("val", 4, 60)
    assert np.array_equal(task.gallery_rows, np.arange(60))
    assert task.excluded is None
    assert [task.images.names[row] for row in task.reference] == [f"{image:012d}.jpg" for image in IDS[:4]]
    assert all(task.images.path(row).is_file() for row in range(60))
    assert [set(task.relevant[i]) for i in range(4)] == [{10 + i, 20} for i in range(4)]
    assert task.target is not None
    assert task.target.tolist() == [10, 11, 12, 13]
    assert task.labels is not None
    named = [[task.labels.names[code] for code in task.labels.codes[i]] for i in range(4)]
    assert named == [["cardinality"], ["addition", "cardinality"]] * 2
    assert "target_recall@5" in task.metrics


def test_each_form_of_the_text_is_another_question(files: Files) -> None:
    expected = {
        "caption": "has 2 dogs",
        "magiclens": "find a park but has 2 dogs",
        "megapairs": "Find a picture that also a park, but has 2 dogs.",
    }
    tasks = {form: files.load(text=form) for form in circo.TEXTS}
    assert {form: task.conditions[task.condition[2]][0] for form, task in tasks.items()} == expected
    assert len({task.fingerprint for task in tasks.values()}) == 3
    assert {form: task.variant for form, task in tasks.items()} == {
        "caption": "", "magiclens": "text=magiclens", "megapairs": "text=megapairs",
    }  # fmt: skip
    with pytest.raises(CondsimError, match="Did you mean 'caption'"):
        files.load(text="captions")


def test_an_image_without_a_file_is_counted_or_left_out(files: Files) -> None:
    for number in (0, 11, 50):
        (files.images / "unlabeled2017" / f"{IDS[number]:012d}.jpg").unlink()
    with pytest.raises(CondsimError, match=rf"3 of its 60 images .* the first: {IDS[0]:012d}\.jpg"):
        files.load()
    task = files.load(on_error="skip")
    assert task.query_ids == ("2", "3"), "query 0 lost its reference, query 1 its target"
    assert task.target is not None
    assert [task.images.names[row] for row in task.target] == [f"{IDS[12]:012d}.jpg", f"{IDS[13]:012d}.jpg"]
    assert task.labels is not None
    assert task.labels.codes.lengths.tolist() == [1, 2]
    assert len(task.images) == 57
    assert any("query 1: its target" in message for message in task.skipped)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_img_id": IDS[30]}, "target_img_id 213 is not among gt_img_ids"),
        ({"gt_img_ids": [IDS[11], IDS[11]]}, "gt_img_ids names an image twice"),
        ({"gt_img_ids": []}, "gt_img_ids"),
        ({"reference_img_id": 5}, "reference_img_id: image 5 is not in"),
        ({"id": 0}, "id 0 is already the id of entry 0"),
        ({"id": "1"}, "id: Input should be a valid integer"),
        ({"relative_caption": "two\nlines"}, "text on one line without a control character"),
    ],
)
def test_a_faulty_query_is_named_or_left_out(files: Files, changes: dict[str, Any], message: str) -> None:
    files.write("annotations/val.json", [query(0), query(1, **changes), query(2)])
    with pytest.raises(CondsimError, match=r"val\.json: entry 1") as caught:
        files.load()
    assert message in str(caught.value)
    assert files.load(on_error="skip").query_ids == ("0", "2")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"images": []}, "expected COCO's image_info"),
        ([1], "expected COCO's image_info"),
        ({"images": [{"id": 3, "file_name": "000000000004.jpg"}]}, "should be 000000000003.jpg"),
        ({"images": [{"id": 3, "file_name": "000000000003.jpg"}] * 2}, "image 3 is listed twice"),
    ],
)
def test_a_faulty_list_of_images_is_refused(files: Files, value: Any, message: str) -> None:
    files.write("COCO2017_unlabeled/annotations/image_info_unlabeled2017.json", value)
    with pytest.raises(CondsimError, match=message):
        files.load()


def test_the_test_split_has_a_file_instead_of_metrics(files: Files, tmp_path: Path) -> None:
    task = files.load(split="test")
    assert (task.metrics, task.labels, task.target, task.relevant.lengths.sum()) == ((), None, None, 0)
    with pytest.raises(CondsimError, match="no public ground truth, so map@5 cannot"):
        files.load(split="test", metrics=["map@5"])
    top = np.stack([np.random.default_rng(i).permutation(60)[:55] for i in range(4)])
    path = write_submission(task, top, top[:, :0], tmp_path / "submission")
    value = json.loads(path.read_text())
    assert list(value) == ["0", "1", "2", "3"]
    assert [value[str(i)] for i in range(4)] == [[IDS[row] for row in top[i, :LENGTH]] for i in range(4)]
    assert [path.name for path in path.parent.iterdir()] == ["circo_test.json"]


def test_no_invalid_file_is_written(files: Files, tmp_path: Path) -> None:
    task = files.load(split="test")
    good = np.tile(np.arange(LENGTH), (4, 1))
    twice, missing = good.copy(), good.copy()
    twice[2, 7], missing[1, 49] = twice[2, 6], -1
    for rows, message in (
        (twice, "query 2 names an image twice"),
        (missing, "fewer than the 50"),
        (good[:3], "needs the best 50 of each of 4 queries"),
        (good[:, :49], "needs the best 50"),
    ):
        with pytest.raises(CondsimError, match=message):
            write_submission(task, rows, rows[:, :0], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    files.write("annotations/test.json", [*json.loads((files.root / "annotations/test.json").read_text())[:3], {}])
    with pytest.raises(CondsimError, match="the server wants every query"):
        submission(files.load(split="test", on_error="skip"), good[:3])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"1": None}, "query 1: expected a list"),
        ({"1": [str(i) for i in range(50)]}, "query 1: expected a list of integer image ids"),
        ({"1": [True, *range(2, 51)]}, "query 1: expected a list of integer image ids"),
        ({"1": [*range(49), 0]}, "query 1 names an image twice"),
        ({"1": list(range(49))}, "query 1 has 49 images"),
        ({"2": list(range(50))}, "there is no query '2' in CIRCO"),
        ({"1": [*range(49), 99]}, "image 99 is not in the gallery"),
    ],
)
def test_what_the_server_refuses_is_refused_here(changes: dict[str, Any], message: str) -> None:
    value = {"0": list(range(50)), "1": list(range(50))}
    assert not list(faults(value, 2, set(range(60))))
    assert message in next(faults({**value, **changes}, 2, set(range(60))))
    assert "there is no query 2" in next(faults(value, 3))
