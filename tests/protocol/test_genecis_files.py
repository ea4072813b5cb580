"""The real GeneCIS templates: the counts of the protocol, and every wart that a loader could quietly smooth away."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from condsim.datasets import genecis
from condsim.harness.task import Task

COUNTS = {
    # task: templates, distractors, distinct items, distinct images, distinct conditions, image slots
    "focus_attribute": (2000, 9, 15_773, 13_348, 40, 22_000),
    "change_attribute": (2112, 14, 18_212, 15_058, 400, 33_792),
    "focus_object": (1960, 14, 2_198, 2_198, 97, 31_360),
    "change_object": (1960, 14, 2_739, 2_739, 109, 31_360),
}


@pytest.fixture(scope="module")
def tasks(genecis_templates: Path) -> dict[str, Task]:
    return {
        name: genecis.read_task(genecis_templates / f"{name}.json", Path("images"), None, name)
        for name in genecis.TASKS
    }


def pictures(task: Task) -> list[tuple[Any, ...]]:
    boxes = [()] * len(task.images) if task.images.boxes is None else map(tuple, task.images.boxes.tolist())
    return list(zip(task.images.names, boxes, strict=True))


@pytest.mark.parametrize("name", genecis.TASKS)
def test_counts(tasks: dict[str, Task], name: str) -> None:
    task = tasks[name]
    templates, distractors, items, images, conditions, slots = COUNTS[name]
    assert len(task) == templates
    assert set(task.candidates.lengths) == {1 + distractors}
    assert len(task.images) == len(set(pictures(task))) == items
    assert len(set(task.images.names)) == images
    assert len(task.conditions) == conditions
    assert len(task) + len(task.candidates.values) == slots


def test_each_distinct_picture_is_encoded_once(tasks: dict[str, Task]) -> None:
    crops = {picture for name in genecis.TASKS[:2] for picture in pictures(tasks[name])}
    wholes = {picture for name in genecis.TASKS[2:] for picture in pictures(tasks[name])}
    assert (len(crops), len({name for name, _ in crops}), len(wholes)) == (31_050, 23_640, 3_033)
    assert len(crops) + len(wholes) == 34_083
    assert sum(len(task) + len(task.candidates.values) for task in tasks.values()) == 118_512


@pytest.mark.parametrize("name", genecis.TASKS)
def test_every_template_reads_back_unchanged(tasks: dict[str, Task], genecis_templates: Path, name: str) -> None:
    task = tasks[name]
    table = pictures(task)

    def plain(item: dict[str, Any]) -> tuple[str, tuple[float, ...]]:
        if "val_image_id" in item:
            return str(item["val_image_id"]).zfill(12) + ".jpg", ()
        return item["image_id"] + ".jpg", tuple(float(value) for value in item["instance_bbox"])

    for i, entry in enumerate(json.loads((genecis_templates / f"{name}.json").read_text())):
        assert table[task.reference[i]] == plain(entry["reference"])
        assert [table[row] for row in task.candidates[i]] == [plain(entry["target"]), *map(plain, entry["gallery"])]
        assert [table[row] for row in task.relevant[i]] == [plain(entry["target"])]
        assert task.conditions[task.condition[i]] == (entry["condition"],)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("focus_attribute", [14, 312, 341, 653, 659, 1614]),
        ("change_attribute", [297, 302, 318, 1023, 1034]),
        ("focus_object", []),
        ("change_object", []),
    ],
)
def test_repeated_distractors_are_kept(tasks: dict[str, Task], name: str, expected: list[int]) -> None:
    lists = tasks[name].candidates
    assert [i for i in range(len(lists)) if len(set(lists[i][1:])) < len(lists[i]) - 1] == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("focus_attribute", [14]), ("change_attribute", []), ("focus_object", []), ("change_object", [19])],
)
def test_a_target_among_its_distractors_is_relevant_once(
    tasks: dict[str, Task], name: str, expected: list[int]
) -> None:
    task = tasks[name]
    assert [i for i in range(len(task)) if task.candidates[i][0] in task.candidates[i][1:]] == expected
    assert set(task.relevant.lengths) == {1}


def test_a_reference_in_its_own_gallery_is_kept(tasks: dict[str, Task]) -> None:
    found = {
        name: sum(task.reference[i] in task.candidates[i] for i in range(len(task))) for name, task in tasks.items()
    }
    assert found == {"focus_attribute": 0, "change_attribute": 79, "focus_object": 0, "change_object": 0}
    assert all(task.excluded is None for task in tasks.values())


def test_negative_and_tiny_boxes_are_kept(tasks: dict[str, Task]) -> None:
    negative = 0
    for name in genecis.TASKS[:2]:
        task = tasks[name]
        assert task.images.boxes is not None
        slots = np.concatenate([task.reference, task.candidates.values])
        negative += int((task.images.boxes[slots, :2] < 0).any(axis=1).sum())
    assert negative == 77
    assert min(tasks[name].images.boxes[:, 2:].min() for name in genecis.TASKS[:2]) == 2  # type: ignore[index]


def test_templates_repeat_so_the_bootstrap_clusters_by_reference(tasks: dict[str, Task]) -> None:
    repeated = {}
    for name, task in tasks.items():
        triples = Counter(zip(task.reference, task.relevant.values, task.condition, strict=True))
        repeated[name] = sum(count > 1 for count in triples.values())
        assert np.array_equal(task.clusters, task.reference)
    assert repeated == {"focus_attribute": 8, "change_attribute": 51, "focus_object": 267, "change_object": 139}
