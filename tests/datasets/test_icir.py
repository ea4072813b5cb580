"""i-CIR's loader on small lists in the published format, and its three means against their definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from condsim.datasets import icir
from condsim.datasets.check import check
from condsim.harness.errors import CondsimError
from condsim.harness.ranking.engine import Ranking
from condsim.harness.ranking.metrics import per_query
from condsim.harness.ranking.ranks import Ranks
from condsim.harness.run.run import measure
from condsim.harness.task import Task

DATABASE = """icir/database/mug/0.jpg,on a table,mug
icir/database/mug/1.jpg,in the snow,mug
icir/database/mug/2.jpg,on a table,mug
icir/database/mug/3.jpg,,mug
icir/database/temple/0.jpg,at night,temple
icir/database/temple/1.jpg,on a table,temple
icir/database/mug/1.jpg,as a sketch,temple
"""
QUERIES = """icir/query/mug/0.jpg,on a table,mug
icir/query/mug/0.jpg,in the snow,mug
icir/query/temple/0.jpg,at night,temple
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "icir"
    for line in (DATABASE + QUERIES).splitlines():
        path = tmp_path / line.split(",")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 8)).save(path)
    (root / "database_files.csv").write_text(DATABASE)
    (root / "query_files.csv").write_text(QUERIES)
    return root


def load(folder: Path, images: Path | None = None, **options: Any) -> Task:
    return icir.load(str(folder), str(images or folder), **options).tasks[0]


def named(task: Task, rows: Any) -> list[str]:
    return [task.images.names[row].removeprefix("icir/") for row in rows]


def test_each_instance_is_a_database_of_its_own(folder: Path) -> None:
    task = load(folder)
    assert task.candidates is not None
    mug, temple = [f"database/mug/{i}.jpg" for i in range(4)], ["database/temple/0.jpg", "database/temple/1.jpg"]
    assert [named(task, rows) for rows in (task.candidates[i] for i in range(3))] == [mug, mug, [*temple, mug[1]]]
    assert [named(task, task.relevant[i]) for i in range(3)] == [[mug[0], mug[2]], [mug[1]], [temple[0]]]
    assert [task.conditions[code][0] for code in task.condition] == ["on a table", "in the snow", "at night"]
    assert named(task, task.reference) == ["query/mug/0.jpg", "query/mug/0.jpg", "query/temple/0.jpg"]
    assert (task.clusters.tolist() if task.clusters is not None else None) == [0, 0, 1]
    assert len(task.images) == 8, "an image under two instances is one row"


def test_images_are_found_from_either_folder_and_are_no_part_of_the_question(folder: Path) -> None:
    tasks = [load(folder), load(folder, folder.parent), icir.load(str(folder)).tasks[0]]
    assert len({task.fingerprint for task in tasks}) == 1
    assert all(task.images.path(row).is_file() for task in tasks[:2] for row in range(8))


def test_the_lists_may_be_in_a_folder_annotations(folder: Path) -> None:
    (folder / "annotations").mkdir()
    for name in (icir.QUERIES, icir.DATABASE):
        (folder / name).rename(folder / "annotations" / name)
    assert len(load(folder)) == 3


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("query_files.csv", "icir/query/mug/0.jpg,on the moon,mug", r"mug/0\.jpg: .*so it has no positive"),
        ("query_files.csv", "icir/query/mug/0.jpg,on a table,cup", r"mug/0\.jpg: .*has no image of 'cup'"),
        ("query_files.csv", "icir/query/mug/0.jpg,on a table", "line 2: expected path,text,instance, found 2 cells"),
        ("query_files.csv", "icir/query/mug/0.jpg,on a table, in the snow,mug", "line 2: .*found 4 cells"),
        ("query_files.csv", "../../x.jpg,in the snow,mug", "line 2: .*leads out of the image folder"),
        ("database_files.csv", "icir/database/mug/9.jpg,in the snow,", "line 2: there is no instance"),
    ],
)
def test_a_faulty_line_is_named_or_left_out(folder: Path, file: str, line: str, message: str) -> None:
    lines = (folder / file).read_text().splitlines()
    (folder / file).write_text("\n".join([lines[0], line, *lines[2:]]) + "\n")
    with pytest.raises(CondsimError, match=message):
        load(folder)
    task = load(folder, on_error="skip")
    assert len(task) == 2
    assert task.skipped


def test_a_missing_image_is_named_or_takes_its_instance_with_it(folder: Path) -> None:
    (folder / "database" / "temple" / "1.jpg").unlink()
    with pytest.raises(CondsimError, match=r"1 of its 8 images .*icir/database/temple/1\.jpg"):
        load(folder)
    task = load(folder, on_error="skip")
    assert [task.conditions[code][0] for code in task.condition] == ["on a table", "in the snow"]


def test_check_counts_queries_instances_and_images(folder: Path) -> None:
    options = {"_target_": "condsim.datasets.icir.load", "name": "icir", "annotations": str(folder)}
    report = check({**options, "images": str(folder)})
    assert {part.what: (part.found, part.expected) for part in report.parts} == {
        "queries": (3, 1_883), "instances": (2, 202), "images": (8, 8),
    }  # fmt: skip
    assert (report.images, report.missing, report.problems) == (8, (), ())
    assert check(options).parts[-1].place == "benchmark.images is not set"


def test_the_three_means_are_those_of_the_released_code(folder: Path) -> None:
    """Positives at places 1 and 4, at 2, and at 3: AP by trapezoids over n + 1e-5, by hand."""
    task = load(folder)
    offsets, above = np.array([0, 2, 3, 4]), np.array([0, 3, 1, 2])
    one, size = np.ones(4, dtype=np.int64), np.array([4, 4, 3])
    ranks = Ranks(offsets, above, one, 0 * one, task.relevant.lengths, size, complete=True)
    first = ((1 + 1) / 2 + (1 / 3 + 2 / 4) / 2) / (2 + 1e-5)
    second = ((0 / 1 + 1 / 2) / 2) / (1 + 1e-5)
    third = ((0 / 2 + 1 / 3) / 2) / (1 + 1e-5)
    measured = measure(task, Ranking(ranks, None, None, None), resamples=200, seed=0)
    expected = (
        (first + second + third) / 3,
        ((first + second) / 2 + third) / 2,
        (min(first, second) + third) / 2,
    )
    for name, value in zip(icir.METRICS, expected, strict=True):
        assert measured[name].value == pytest.approx(value, abs=1e-12), name
        assert float(np.mean(per_query(name, ranks, None, task.clusters))) == pytest.approx(value, abs=1e-12)
    with pytest.raises(CondsimError, match="needs a task with clusters"):
        per_query(icir.METRICS[1], ranks)
