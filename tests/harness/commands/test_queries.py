"""`condsim queries`: the tables name every query and image so that a file made from them is read back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from condsim.harness.commands import queries as command
from condsim.harness.errors import CondsimError
from condsim.harness.settings import benchmark as chosen
from condsim.harness.task import Benchmark, ImageTable, Ragged, Task

BOXES = np.array([[np.nan] * 4, [2, 3, 8, 4.5], [np.nan] * 4])


def task(folder: Path, name: str = "focus", **changes: Any) -> Task:
    """Query 0: image 0 with "color"; query 1: a crop of image 1 with two conditions; query 2: neither."""
    made = Task(
        "toy", name, ImageTable(folder, ("a.png", "b.png", "c.png"), BOXES, dilation=0.0),
        conditions=(("color",), ("color", "shape")), condition=np.array([0, 1, -1]), reference=np.array([0, 1, -1]),
        relevant=Ragged.of([[1], [2], [0]]), metrics=("recall@1",), query_ids=("q0", "q1", "q, 2"),
        candidates=Ragged.of([[1, 2], [2], [0]]),
    )  # fmt: skip
    return replace(made, **changes)


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, *tasks: Task, **settings: Any) -> Path:
    monkeypatch.setattr(chosen, "make_once", lambda config, name: Benchmark("toy", tasks))
    unset = ("tasks", "queries_from", "wording", "pairs", "crops")
    defaults: dict[str, Any] = {"benchmark": {}, "width": 8, **dict.fromkeys(unset)}
    files = {"queries": str(folder / "queries.csv"), "images": str(folder / "images.csv")}
    assert command.run({**defaults, **files, **settings}) == 0
    return folder


def test_every_query_has_a_row_with_its_name_image_and_text(tmp_path: Path) -> None:
    whole, crop, neither = command.query_rows(task(tmp_path))
    assert whole == {
        "query": "focus/q0", "task": "focus", "id": "q0", "text": "color", "texts": ["color"],
        "image": "a.png", "path": str(tmp_path / "a.png"), "box": [],
    }  # fmt: skip
    assert (crop["text"], crop["image"], crop["box"]) == ("color and shape", "b.png#2,3,8,4.5", [2, 3, 8, 4.5])
    assert (neither["query"], neither["text"], neither["image"]) == ("focus/q, 2", "", "")
    several = task(tmp_path, texts=(("red", "rot"), ("big",)))
    assert command.query_rows(several)[0]["texts"] == ["red", "rot"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_the_tables_hold_the_same_in_each_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    file = tmp_path / f"q{suffix}"
    run(tmp_path, monkeypatch, task(tmp_path), queries=str(file))
    readers: dict[str, Any] = {
        ".csv": lambda: pd.read_csv(file, keep_default_na=False),
        ".jsonl": lambda: pd.read_json(file, lines=True),
        ".parquet": lambda: pd.read_parquet(file),
    }
    frame = readers[suffix]()
    assert frame["query"].tolist() == ["focus/q0", "focus/q1", "focus/q, 2"]
    boxes = [json.loads(cell or "[]") if isinstance(cell, str) else list(cell) for cell in frame["box"]]
    assert boxes == [[], [2, 3, 8, 4.5], []]
    assert pd.read_csv(tmp_path / "images.csv")["image"].tolist() == ["a.png", "b.png#2,3,8,4.5", "c.png"]


def test_pairs_are_what_the_queries_of_a_condition_compare(tmp_path: Path) -> None:
    assert [row["name"] for row in command.pair_rows([task(tmp_path)])] == [
        "color/a.png", "color/b.png#2,3,8,4.5", "color/c.png",
        "color and shape/b.png#2,3,8,4.5", "color and shape/c.png",
    ]  # fmt: skip


def test_crops_are_written_as_the_benchmark_crops_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (16, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "b.png")
    made = task(tmp_path, images=ImageTable(tmp_path, ("a.png", "b.png", "c.png"), BOXES.round(), crop="plain"))
    boxes = np.array(made.images.boxes)
    boxes[1] = [2, 3, 10, 8]
    made = replace(made, images=replace(made.images, boxes=boxes))
    run(tmp_path, monkeypatch, made)
    assert "1 of 3 images are crops, and their path leads to the whole picture: add crops=" in capsys.readouterr().err
    run(tmp_path, monkeypatch, made, crops=str(tmp_path / "crops"))
    assert "crops" not in capsys.readouterr().err
    path = pd.read_csv(tmp_path / "queries.csv")["path"][1]
    assert Path(path).parent == tmp_path / "crops"
    assert (np.array(Image.open(path)) == pixels[3:8, 2:10]).all()


@pytest.mark.parametrize("name", ["queries.csv", "images.csv"])
def test_a_file_of_the_user_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / name).write_text("id,image,positives\n1,a.png,b.png\n")
    with pytest.raises(CondsimError, match=f"{name}: the file exists and was not written by .*=encode_{name}"):
        run(tmp_path, monkeypatch, task(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]
    assert (tmp_path / name).read_text().startswith("id,image")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_its_own_tables_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    files = {what: str(tmp_path / f"{what}{suffix}") for what in ("queries", "images", "pairs")}
    for _ in range(2):
        run(tmp_path, monkeypatch, task(tmp_path), **files)


def test_two_pictures_with_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = task(tmp_path, "change", images=ImageTable(tmp_path / "elsewhere", ("a.png", "b.png", "c.png")))
    with pytest.raises(CondsimError, match=r"tasks focus and change have different pictures .*tasks=\[change\]"):
        run(tmp_path, monkeypatch, task(tmp_path), other)
    with pytest.raises(CondsimError, match=r"queries=q\.txt: a table is written as \.csv"):
        run(tmp_path, monkeypatch, task(tmp_path), queries="q.txt")


def test_with_a_method_its_texts_are_written_with_the_tasks_that_need_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, without = task(tmp_path), task(tmp_path, "without", reference=np.array([-1, 1, -1]))
    words = {"_target_": "condsim.methods.texts.Texts", "table": str(tmp_path / "edits.csv")}
    (tmp_path / "edits.csv").write_text('query,text\nfocus/q0,a red cup\nfocus/q1,two cups\n"focus/q, 2",a plate\n')
    run(tmp_path, monkeypatch, whole, without, method=words, texts=str(tmp_path / "texts.csv"))
    rows = pd.read_csv(tmp_path / "texts.csv", keep_default_na=False)
    assert {"a red cup", "two cups", "a plate"} <= set(rows["text"])
    assert set(rows["tasks"]) == {'["focus"]'}
    assert "not in the tables: toy/without" in capsys.readouterr().err
