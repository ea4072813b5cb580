"""Conditional labels: splits, relevance and the ways in (CSV, parquet, Hugging Face), against brute force."""

from __future__ import annotations

import importlib
import io
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from condsim.datasets import labelled
from condsim.harness.errors import CondsimError
from condsim.harness.method import Queries
from condsim.harness.ranking.engine import rank_task
from condsim.harness.ranking.metrics import per_query
from condsim.harness.settings.composition import compose_config

COLORS, SHAPES = ("red", "blue", "green"), ("disc", "star")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """0.png to 39.png. Read only."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(40):
        Image.new("RGB", (4 + i % 3, 4), (i, 0, 0)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def table(pictures: Path, tmp_path: Path) -> Path:
    """40 images in two folders, with their color and shape."""
    folder, lines = tmp_path / "data", ["image,color,shape"]
    for part in "ab":
        (folder / part).mkdir(parents=True)
    for i in range(40):
        name = f"{'ab'[i % 2]}/{i}.png"
        (folder / name).hardlink_to(pictures / f"{i}.png")
        lines.append(f"{name},{COLORS[i % 3]},{SHAPES[i // 3 % 2]}")
    (folder / "labels.csv").write_text("\n".join([*lines, ""]))
    return folder / "labels.csv"


def change(table: Path, change: Callable[[pd.DataFrame], Any]) -> str:
    frame = pd.read_csv(table)
    change(frame)
    frame.to_csv(table, index=False)
    return str(table)


def test_relevance_is_the_same_label_under_every_condition(table: Path) -> None:
    benchmark = labelled.load(str(table), together=[["color", "shape"]])
    labels = pd.read_csv(table).set_index("image").to_dict("index")
    assert [task.full_name for task in benchmark.tasks] == ["labelled/color", "labelled/shape", "labelled/color+shape"]
    for task, columns in zip(benchmark.tasks, (["color"], ["shape"], ["color", "shape"]), strict=True):
        assert task.conditions == (tuple(columns),)
        names = task.images.names
        assert task.gallery is not None
        assert len(task.gallery) == 36
        assert len(task) + len(task.gallery) == 40
        assert not set(task.reference) & set(task.gallery)
        for i, row in enumerate(task.reference):
            same = [r for r in task.gallery if all(labels[names[r]][c] == labels[names[row]][c] for c in columns)]
            assert task.relevant[i].tolist() == same
    assert benchmark.tasks[0].metrics == ("map", "recall@1", "recall@5", "recall@10")
    assert benchmark.headlines == {"average": (("color", "map"), ("shape", "map"))}


def test_the_split_is_the_seeds_and_not_the_row_orders(table: Path) -> None:
    def query_names(**arguments: Any) -> set[str]:
        (task, *_) = labelled.load(str(table), **arguments).tasks
        return {task.images.names[row] for row in task.reference}

    first = query_names()
    assert len(first) == 4
    assert query_names() == first != query_names(seed=1)
    assert len(query_names(queries=0.25)) == 10
    pd.read_csv(table).sample(frac=1, random_state=3).to_csv(table, index=False)
    assert query_names() == first


def test_a_query_whose_label_is_not_in_the_database_is_left_out_and_reported(table: Path) -> None:
    alone = labelled.load(str(table)).tasks[0]
    lonely = alone.images.names[alone.reference[1]]
    change(table, lambda frame: frame.__setitem__("color", frame["color"].where(frame["image"] != lonely, "only one")))
    color, shape = labelled.load(str(table)).tasks
    assert lonely not in color.query_ids
    assert lonely in shape.query_ids
    assert color.skipped == ("color: 1 of 4 queries have no image of their label in the database",)
    assert shape.skipped == ()


def test_conditions_may_be_chosen_and_worded(table: Path) -> None:
    benchmark = labelled.load(str(table), conditions={"shape": "the outline"}, metrics=["map"], name="mine")
    assert [(task.full_name, task.conditions) for task in benchmark.tasks] == [("mine/shape", (("the outline",),))]
    named = labelled.load(str(table), conditions=["shape", "color"], together=["all"]).tasks
    assert (named[2].name, named[2].conditions) == ("all", (("shape", "color"),))


def test_parquet_with_numbers_for_labels(table: Path) -> None:
    frame = pd.read_csv(table)
    frame["count"] = (np.arange(40) % 4).astype(float)
    frame.to_parquet(table.with_suffix(".parquet"))
    whole = labelled.load(str(table.with_suffix(".parquet")), conditions=["count"]).tasks[0]
    frame["count"] = frame["count"].astype(int).astype(str)
    frame.to_csv(table, index=False)
    assert labelled.load(str(table), conditions=["count"]).tasks[0].fingerprint == whole.fingerprint


@pytest.mark.parametrize(
    ("spoil", "arguments", "message"),
    [
        (None, {"conditions": ["colour"]}, "no column 'colour'. Did you mean 'color'"),
        (None, {"image_column": "file"}, "no column 'file'"),
        (None, {"together": [["color", "size"]]}, "'size' is not a condition"),
        (None, {"together": ["color"]}, "should be a list of different conditions, or all"),
        (None, {"queries": 1.5}, "benchmark.queries=1.5"),
        (None, {"tasks": ["colors"]}, "no task 'colors'. Did you mean 'color'"),
        (None, {"images": "nowhere"}, "nowhere is not a folder"),
        (None, {"dataset": {"path": "imagefolder"}}, "exactly one of them"),
        (
            lambda f: f.__setitem__("image", f["image"].replace("a/4.png", "a/6.png")),
            {},
            "row 7: duplicate image",
        ),
        (
            lambda f: f.__setitem__("image", f["image"].replace("a/4.png", "a/99.png")),
            {},
            "row 5: .*a/99.png is not in",
        ),
        (lambda f: f.__setitem__("image", f["image"].replace("a/4.png", "../4.png")), {}, "row 5: .*out of the image"),
        (lambda f: f.__setitem__("image", f["image"].replace("a/4.png", "a/4.txt")), {}, "row 5: .*a/4.txt is not in"),
        (lambda f: f.__setitem__("color", f["color"].where(f.index != 7)), {}, "row 8: color: there is no label"),
        (lambda f: f.drop(f.index, inplace=True), {}, "no rows"),
        (lambda f: f.drop(f.index[1:], inplace=True), {}, "too few to split"),
        (lambda f: f.drop(columns=["color", "shape"], inplace=True), {}, "no column of labels"),
        (lambda f: f.__setitem__("color", f["image"]), {"conditions": ["color"]}, "under 'color' no query shares"),
        (lambda f: f.__setitem__("image", f["image"].replace("a/4.png", "A/4.PNG")), {}, "there is a/4.png, which dif"),
        (lambda f: f.__setitem__("image", f["image"].replace("a/4.png", "/a/4.png")), {}, "row 5: .*the absolute path"),
        (lambda f: f.__setitem__("image", f["image"].replace("a/4.png", "C:/a/4.png")), {}, "the absolute path"),
        (
            lambda f: f.__setitem__("image", f["image"].replace("a/4.png", "")),
            {},
            "row 5: .*found an empty cell",
        ),
        (
            lambda f: f.__setitem__("image", f["image"].replace("a/4.png", "a/\x1b4.png")),
            {},
            "holds a control char",
        ),
        (lambda f: f.rename(columns={"color": "a\x1bb"}, inplace=True), {}, "cannot name a task: rename it"),
        (lambda f: f.rename(columns={"color": " shape"}, inplace=True), {}, r"duplicate column 'shape' \(2 times\)"),
    ],
)
def test_faults(table: Path, spoil: Callable[..., Any] | None, arguments: dict[str, Any], message: str) -> None:
    if spoil is not None:
        change(table, spoil)
    with pytest.raises(CondsimError, match=message):
        labelled.load(str(table), **arguments)


def test_skip_leaves_out_rows_and_says_so(table: Path) -> None:
    change(table, lambda f: f.__setitem__("color", f["color"].where(f.index != 7)))
    task = labelled.load(str(table), on_error="skip").tasks[0]
    assert len(task.images) == 39
    assert "b/7.png" not in task.images.names
    assert len(task.skipped) == 1
    assert "row 8: color: there is no label" in task.skipped[0]


def test_a_missing_image_leaves_the_others_where_the_split_put_them(table: Path) -> None:
    (whole, _) = labelled.load(str(table)).tasks
    query, other = whole.images.names[whole.reference[0]], whole.images.names[whole.gallery_rows[0]]
    for name in (query, other):
        (table.parent / name).unlink()
    with pytest.raises(CondsimError, match=r"the image .* is not in"):
        labelled.load(str(table))
    (task, _) = labelled.load(str(table), on_error="skip").tasks
    assert task.query_ids == whole.query_ids[1:]
    names = [whole.images.names[row] for row in whole.gallery_rows]
    assert [task.images.names[row] for row in task.gallery_rows] == [name for name in names if name != other]
    assert any(f"{query}: there is no such file (row " in message for message in task.skipped)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a/0.png,red,disc,more", r"row 41 \(line 42\) has 4 cells, but the header has 3"),
        ("a/0.png,red", r"row 41 \(line 42\) has 2 cells, but the header has 3"),
        ('a/0.png,red,"disc', "malformed CSV in row 41, which begins at line 42"),
    ],
)
def test_a_line_that_does_not_fit_its_table(table: Path, line: str, message: str) -> None:
    table.write_text(table.read_text() + line)
    with pytest.raises(CondsimError, match=message):
        labelled.load(str(table))


def twins(labels: list[str]) -> list[str]:
    """40 labels, 20 of them spelt as ``labels[0]`` and as ``labels[1]`` in turn."""
    return [labels[i // 2 % 2] if i % 2 else "blue" for i in range(40)]


@pytest.mark.parametrize(
    "spellings",
    [
        ["red", " red"],
        ["red cup", "red\u00a0cup"],
        ["red cup", "red  cup\t"],
        ["caf\u00e9", "cafe\u0301"],
        ["3", "3.0"],
        ["12", "12.00"],
        ["red", "\u200bred\ufeff"],
    ],
)
def test_labels_that_look_alike_are_one_label(table: Path, spellings: list[str]) -> None:
    def fingerprint(labels: list[str]) -> str:
        change(table, lambda frame: frame.__setitem__("color", twins(labels)))
        return labelled.load(str(table), conditions=["color"]).tasks[0].fingerprint

    assert fingerprint(spellings) == fingerprint([spellings[0]] * 2)


@pytest.mark.parametrize("spellings", [["01", "1"], ["3.5", "3"], ["red", "redd"], ["None", "nan"]])
def test_labels_that_differ_stay_different(table: Path, spellings: list[str]) -> None:
    change(table, lambda frame: frame.__setitem__("color", twins(spellings)))
    (task,) = labelled.load(str(table), conditions=["color"], queries=0.5).tasks
    assert len({tuple(task.relevant[i]) for i in range(len(task))}) == 3


def test_labels_that_differ_in_case_are_two_and_noted(table: Path) -> None:
    change(table, lambda frame: frame.__setitem__("color", twins(["red", "Red"])))
    benchmark = labelled.load(str(table))
    (note,) = benchmark.notes
    assert note.endswith("labels of 'color' that differ only in case count as different: 'Red', 'red'")
    assert len({tuple(relevant) for relevant in map(benchmark.tasks[0].relevant.__getitem__, range(4))}) > 1
    assert labelled.load(str(table), conditions=["shape"]).notes == ()


def test_headers_have_one_spelling_too(table: Path) -> None:
    before = labelled.load(str(table), together=["all"])
    table.write_text(table.read_text().replace("image,color,shape", "\ufeffimage , color,shape\u00a0", 1))
    after = labelled.load(str(table), together=["all"])
    assert [task.fingerprint for task in after.tasks] == [task.fingerprint for task in before.tasks]
    chosen = labelled.load(str(table), conditions=[" color"], together=[]).tasks
    assert [task.name for task in chosen] == ["color"]
    assert [task.name for task in labelled.load(str(table), conditions="color").tasks] == ["color"], "a list of one"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda f: f.insert(0, "", range(40)), "the column '' is left out: it has no name"),
        (lambda f: f.insert(0, "Unnamed: 0", range(40)), "'Unnamed: 0' is left out: its 40 values are all different"),
        (lambda f: f.insert(2, "note", [f"photo {i}" for i in range(40)]), "'note' .* all different"),
        (lambda f: f.insert(3, "later", [None] * 40), "'later' is left out: it is empty"),
    ],
)
def test_a_column_that_holds_no_labels_is_named_and_the_others_run(
    table: Path, spoil: Callable[..., Any], reason: str
) -> None:
    before = labelled.load(str(table))
    change(table, spoil)
    after = labelled.load(str(table))
    assert [task.fingerprint for task in after.tasks] == [task.fingerprint for task in before.tasks]
    assert len(after.notes) == 1
    assert re.search(reason, after.notes[0])


def test_a_column_of_lists_is_named_and_the_others_run(table: Path) -> None:
    frame = pd.read_csv(table)
    frame["bbox"] = [[0, 0, i, i] for i in range(40)]
    frame.to_parquet(table.with_suffix(".parquet"))
    benchmark = labelled.load(str(table.with_suffix(".parquet")))
    assert [task.name for task in benchmark.tasks] == ["color", "shape"]
    assert "'bbox' is left out: its values are neither texts nor numbers" in benchmark.notes[0]
    with pytest.raises(CondsimError, match="row 1: bbox: expected text or a number"):
        labelled.load(str(table.with_suffix(".parquet")), conditions=["bbox"])


@pytest.mark.parametrize(
    ("on_disk", "in_table"),
    [
        ("2024-05-01T12:30:01.png", "2024-05-01T12:30:01.png"),
        ("at 3.45\u202fPM.png", "at 3.45\u202fPM.png"),
        ("\U0001f468\u200d\U0001f373.png", "\U0001f468\u200d\U0001f373.png"),
        ("4.jfif", "4.jfif"),
        ("4.AVIF", "4.AVIF"),
        ("without suffix", "without suffix"),
        ("a/b/4.png", "a\\b\\4.png"),
        ("a/4.png", "./a//4.png "),
        ("a\\b.png", "a\\b.png"),
        ("cafe\u0301/e\u0301.png", "caf\u00e9/\u00e9.png"),
        ("caf\u00e9/\u00e9.png", "cafe\u0301/e\u0301.png"),
        ("trailing.png ", "trailing.png"),
    ],
)
def test_names_of_files_that_differ_in_spelling_only(table: Path, on_disk: str, in_table: str) -> None:
    path = table.parent / "more" / on_disk
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((table.parent / "a/4.png").read_bytes())
    change(table, lambda frame: frame.__setitem__("image", frame["image"].replace("a/4.png", f"more/{in_table}")))
    for on_error in ("raise", "skip"):
        (task, _) = labelled.load(str(table), on_error=on_error).tasks
        (row,) = (row for row, name in enumerate(task.images.names) if name.startswith("more"))
        assert len(task.images) == 40
        assert task.images.path(row) == path
        assert not task.skipped


def test_the_same_table_is_the_same_task_however_the_disk_spells_its_names(table: Path) -> None:
    fingerprints = set()
    for on_disk in ("\u00e9.png", "e\u0301.png"):
        (table.parent / on_disk).write_bytes((table.parent / "a/4.png").read_bytes())
        change(table, lambda frame: frame.__setitem__("image", frame["image"].replace("a/4.png", "\u00e9.png")))
        fingerprints.add(labelled.load(str(table)).tasks[0].fingerprint)
        (table.parent / on_disk).unlink()
    assert len(fingerprints) == 1


def test_absolute_paths_below_the_image_folder(table: Path) -> None:
    before = labelled.load(str(table))
    change(table, lambda frame: frame.__setitem__("image", [str(table.parent / name) for name in frame["image"]]))
    after = labelled.load(str(table))
    assert [task.fingerprint for task in after.tasks] == [task.fingerprint for task in before.tasks]
    with pytest.raises(CondsimError, match="is not below the image folder"):
        labelled.load(str(table), images=str(table.parent / "a"))


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(CondsimError, match=r"benchmark\.table is not set.* or set benchmark\.dataset"):
        labelled.load()
    with pytest.raises(CondsimError, match=r"no.csv does not exist"):
        labelled.load(str(tmp_path / "no.csv"))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(CondsimError, match=r"bad.parquet is no readable parquet table"):
        labelled.load(str(tmp_path / "bad.parquet"))


@pytest.mark.parametrize(
    ("choice", "tasks"),
    [
        ("clevr4", ["texture", "color", "shape", "count"]),
        ("stanford40", ["action", "location", "mood"]),
        ("clay_object", ["category", "subcategory", "color", "color+category", "color+subcategory"]),
        ("clay_human", ["age", "action", "background", "age+action", "age+background", "action+background", "all"]),
    ],
)
def test_published_tables_are_configs(table: Path, choice: str, tasks: list[str]) -> None:
    columns = [task for task in tasks if "+" not in task and task != "all"]
    frame = pd.read_csv(table).assign(**{column: np.arange(40) % 2 for column in columns})
    frame.to_csv(table, index=False)
    benchmark = instantiate(compose_config("check", [f"benchmark={choice}", f"benchmark.table={table}"]).benchmark)
    assert [task.full_name for task in benchmark.tasks] == [f"{choice}/{task}" for task in tasks]


def by_name(task: Any) -> dict[str, set[str]]:
    """Which images are relevant, as far as images of different content can be told apart by their order."""
    return {task.query_ids[i]: {task.images.names[row] for row in task.relevant[i]} for i in range(len(task))}


@pytest.fixture
def offline_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    return tmp_path / "hub"


@pytest.mark.slow
def test_an_imagefolder_through_hugging_face(table: Path, offline_hub: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(table).rename(columns={"image": "file_name"})
    frame.to_csv(table.parent / "metadata.csv", index=False)
    table.unlink()
    dataset: Mapping[str, str] = {
        "path": "imagefolder", "data_dir": str(table.parent), "split": "train", "cache_dir": str(offline_hub),
    }  # fmt: skip
    benchmark = labelled.load(dataset=dataset, cache_dir=str(tmp_path / "cache"))
    assert sorted(task.name for task in benchmark.tasks) == ["color", "shape"]
    (color,) = (task for task in benchmark.tasks if task.name == "color")
    assert len(color.images) == 40
    assert len(color) == 4
    originals = {(table.parent / name).read_bytes() for name in frame["file_name"]}
    assert {color.images.path(row).read_bytes() for row in range(40)} == originals, "bytes are kept as they are"
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")}
    again = labelled.load(dataset=dataset, cache_dir=str(tmp_path / "cache"))
    assert [task.fingerprint for task in again.tasks] == [task.fingerprint for task in benchmark.tasks]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")} == before, "written once"


def test_class_labels_of_a_parquet_dataset_become_their_names(table: Path, offline_hub: Path, tmp_path: Path) -> None:
    datasets: Any = importlib.import_module("datasets")

    frame = pd.read_csv(table)
    features = datasets.Features({"picture": datasets.Image(), "color": datasets.ClassLabel(names=list(COLORS))})
    rows = {"picture": [str(table.parent / name) for name in frame["image"]], "color": list(frame["color"])}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "data.parquet"))
    dataset = {"path": "parquet", "data_files": str(tmp_path / "data.parquet"), "split": "train",
               "cache_dir": str(offline_hub)}  # fmt: skip
    (task,) = labelled.load(dataset=dataset, image_column="picture", cache_dir=str(tmp_path / "cache")).tasks
    colors = {name: frame["color"][int(Path(name).stem)] for name in task.images.names}
    for query, relevant in by_name(task).items():
        assert {colors[name] for name in relevant} == {colors[query]}
    with pytest.raises(CondsimError, match="'color' holds no images"):
        labelled.load(dataset=dataset, image_column="color", cache_dir=str(tmp_path / "cache"))
    with pytest.raises(CondsimError, match=r"needs a path .* and a split"):
        labelled.load(dataset={"path": "parquet"})
    with pytest.raises(CondsimError, match=r"cannot load path=parquet, data_files=.*nowhere\.parquet"):
        labelled.load(dataset=dataset | {"data_files": str(tmp_path / "nowhere.parquet")})


def test_a_parquet_dataset_of_paths_is_exported_again_when_its_pictures_change(
    table: Path, offline_hub: Path, tmp_path: Path
) -> None:
    datasets: Any = importlib.import_module("datasets")
    frame = pd.read_csv(table)
    rows = {"image": [str(table.parent / name) for name in frame["image"]], "color": list(frame["color"])}
    features = datasets.Features({"image": datasets.Image(), "color": datasets.Value("string")})
    pq.write_table(datasets.Dataset.from_dict(rows, features=features).data.table, tmp_path / "paths.parquet")
    dataset = {"path": "parquet", "data_files": str(tmp_path / "paths.parquet"), "split": "train",
               "cache_dir": str(offline_hub)}  # fmt: skip

    def exported() -> list[bytes]:
        (task,) = labelled.load(dataset=dataset, cache_dir=str(tmp_path / "cache")).tasks
        return [task.images.path(row).read_bytes() for row in range(len(task.images))]

    assert exported() == [Path(path).read_bytes() for path in rows["image"]]
    shutil.copy(rows["image"][1], rows["image"][0])
    assert exported() == [Path(path).read_bytes() for path in rows["image"]]


def encoded(kind: str, shade: int) -> bytes:
    out = io.BytesIO()
    image = Image.new("RGB", (16, 16), (shade, 0, 0))
    image.save(out, kind, **({"save_all": True, "append_images": [image]} if kind == "MPO" else {}))
    return out.getvalue()


def hub_table(path: Path, cells: list[bytes | None]) -> dict[str, str]:
    datasets: Any = importlib.import_module("datasets")

    features = datasets.Features({"image": datasets.Image(), "color": datasets.Value("string")})
    images = [None if cell is None else {"bytes": cell, "path": None} for cell in cells]
    rows = {"image": images, "color": [COLORS[i % 2] for i in range(len(cells))]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(path))
    return {"path": "parquet", "data_files": str(path), "split": "train", "cache_dir": str(path.parent / "hub")}


@pytest.mark.parametrize("kind", ["MPO", "JPEG2000", "WEBP", "TIFF", "GIF"])
def test_images_of_any_format_through_hugging_face(offline_hub: Path, tmp_path: Path, kind: str) -> None:
    contents = [encoded(kind, 10 * i) for i in range(12)]
    dataset = hub_table(tmp_path / "data.parquet", [*contents])
    (task,) = labelled.load(dataset=dataset, queries=0.3, cache_dir=str(tmp_path / "cache")).tasks
    assert [task.images.path(row).read_bytes() for row in range(12)] == contents


def test_broken_and_empty_images_through_hugging_face(offline_hub: Path, tmp_path: Path) -> None:
    contents: list[bytes | None] = [encoded("PNG", 10 * i) for i in range(12)]
    contents[2], contents[5] = None, b"<html>not found</html>"
    dataset = hub_table(tmp_path / "data.parquet", contents)
    arguments: dict[str, Any] = {"dataset": dataset, "queries": 0.3, "cache_dir": str(tmp_path / "cache")}
    with pytest.raises(CondsimError, match="row 3: image: expected the path of an image file, found an empty cell"):
        labelled.load(**arguments)
    (task,) = labelled.load(**arguments, on_error="skip").tasks
    assert len(task.images) == 11
    assert "row 3: image" in task.skipped[0]
    broken = [path for path in map(task.images.path, range(11)) if path.read_bytes().startswith(b"<html>")]
    assert len(broken) == 1, "written as it is, so that its decoder reports it"


@given(st.integers(0, 300), st.floats(0.01, 0.99), st.integers(0, 5))
def test_a_split_parts_the_rows(count: int, share: float, seed: int) -> None:
    queries, database = labelled.split_rows(count, share, seed)
    assert sorted([*queries, *database]) == list(range(count))
    assert abs(len(queries) - count * share) <= 1


def test_leave_one_out_ranks_all_other_images(table: Path) -> None:
    labels = pd.read_csv(table).set_index("image")
    only = change(table, lambda frame: frame.loc.__setitem__((0, "color"), "white"))
    labels.loc["a/0.png", "color"] = "white"
    metrics = ["map_r", "precision@1", "r_precision"]
    color, shape = labelled.load(only, leave_one_out=True, metrics=metrics).tasks
    assert (len(color), len(shape)) == (39, 40)
    assert color.skipped == ("color: 1 of 40 queries have no image of their label in the database",)
    assert {task.variant for task in (color, shape)} == {"leave_one_out"}
    for task in (color, shape):
        names = task.images.names
        assert task.excluded is not None
        assert len(task.gallery_rows) == 40
        for i, row in enumerate(task.reference):
            assert task.excluded[i].tolist() == [row]
            same = [r for r in range(40) if labels[task.name][names[r]] == labels[task.name][names[row]] and r != row]
            assert task.relevant[i].tolist() == same
    split = labelled.load(only, metrics=metrics).tasks[1]
    assert (split.variant, split.excluded) == ("", None)
    assert split.fingerprint != shape.fingerprint


def test_leave_one_out_gets_the_numbers_of_the_metrics_definitions(table: Path) -> None:
    """MAP@R, P@1 and R-precision (Musgrave et al., ECCV 2020, section 3) of every query, from their definitions."""
    (task,) = labelled.load(str(table), conditions=["color"], leave_one_out=True).tasks
    points = np.random.default_rng(2).normal(size=(40, 3)).astype(np.float32)

    features = torch.from_numpy(points)

    def scorer(queries: Queries, rows: torch.Tensor | None = None) -> torch.Tensor:
        return queries.reference @ (features if rows is None else features[rows]).T

    ranks = rank_task(task, scorer, features, torch.zeros(1, 3)).ranks
    expected: dict[str, list[float]] = {"map_r": [], "precision@1": [], "r_precision": []}
    for i, row in enumerate(task.reference):
        order = [j for j in np.argsort(-points[row] @ points.T) if j != row]
        hits = np.isin(order[: len(task.relevant[i])], task.relevant[i])
        running = np.cumsum(hits) / np.arange(1, len(hits) + 1)
        expected["map_r"].append(float((running * hits).sum() / len(hits)))
        expected["precision@1"].append(float(hits[0]))
        expected["r_precision"].append(float(hits.mean()))
    for metric, values in expected.items():
        np.testing.assert_allclose(per_query(metric, ranks), values, atol=1e-9)
