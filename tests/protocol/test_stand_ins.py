"""From the real files to pixels: every picture of the real ids loads, and every real box crops as the protocol says."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from condsim.datasets import cirr, genecis
from condsim.harness.features.images import crop_to_square
from condsim.harness.task import Task

TEMPLATES, QUERIES = 12, 60


@pytest.fixture(scope="module")
def stand_ins() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render_stand_ins", Path(__file__).with_name("render_stand_ins.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(task: Task) -> Iterator[tuple[int, Image.Image]]:
    for row in range(len(task.images)):
        with Image.open(task.images.path(row)) as image:
            yield row, image


def test_genecis(stand_ins: ModuleType, genecis_templates: Path, tmp_path: Path) -> None:
    benchmark = genecis.load(**stand_ins.render_genecis(genecis_templates, tmp_path, TEMPLATES))
    assert [len(task) for task in benchmark.tasks] == [TEMPLATES] * 4
    for task in benchmark.tasks[:2]:
        for row, image in rows(task):
            x, y, w, h = task.images.boxes[row]
            left, top = max(0, x - 0.7 * w), max(0, y - 0.7 * h)
            right, bottom = min(image.width, left + 1.7 * w), min(image.height, top + 1.7 * h)
            longer = max(round(right) - round(left), round(bottom) - round(top))
            assert crop_to_square(image, task.images.boxes[row]).size == (longer, longer)
    for task in benchmark.tasks[2:]:
        assert all(image.size == (96, 72) for _, image in rows(task))


def test_cirr(stand_ins: ModuleType, cirr_annotations: Path, tmp_path: Path) -> None:
    (task,) = cirr.load(**stand_ins.render_cirr(cirr_annotations, tmp_path, QUERIES)).tasks
    assert (len(task), len(task.images)) == (QUERIES, 2_297)
    assert all(image.size == (48, 36) for _, image in rows(task))
