"""Instance retrieval: several positives, distractors, queries by image, by text or both, with or without pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hydra.utils import instantiate
from PIL import Image

from condsim.datasets import instance
from condsim.harness.commands.overrides import compose_config
from condsim.harness.errors import CondsimError

GALLERY = [f"g/{i}.png" for i in range(6)]
QUERIES = [
    {"id": "tower", "image": "q/tower.png", "text": "", "positives": "g/0.png|g/3.png"},
    {"id": "tower at night", "image": "q/tower.png", "text": "at night", "positives": "g/3.png"},
    {"id": "cup", "image": "g/1.png", "text": "", "positives": "g/1.png | g/2.png"},
    {"id": "a red cup", "image": "", "text": "a red cup", "positives": "g/2.png"},
]


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, str]:
    for name in (*GALLERY, "q/tower.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    return write(tmp_path, QUERIES)


def write(folder: Path, queries: list[dict[str, Any]], gallery: list[str] = GALLERY) -> dict[str, str]:
    pd.DataFrame(queries).to_csv(folder / "queries.csv", index=False)
    pd.DataFrame({"image": gallery}).to_csv(folder / "gallery.csv", index=False)
    return {"queries": str(folder / "queries.csv"), "gallery": str(folder / "gallery.csv"), "images": str(folder)}


def test_a_task_says_what_its_tables_say(tables: dict[str, str]) -> None:
    (task,) = instance.load(**tables).tasks
    names = task.images.names
    assert names == (*GALLERY, "q/tower.png"), "each picture once, whoever names it"
    assert task.gallery is not None
    assert [names[row] for row in task.gallery] == GALLERY
    assert task.query_ids == ("tower", "tower at night", "cup", "a red cup")
    assert [[names[row] for row in task.relevant[i]] for i in range(4)] == [
        ["g/0.png", "g/3.png"], ["g/3.png"], ["g/2.png"], ["g/2.png"],
    ]  # fmt: skip
    assert task.excluded is not None
    assert [list(task.excluded[i]) for i in range(4)] == [[], [], [1], []]
    assert [names[row] if row >= 0 else None for row in task.reference] == ["q/tower.png"] * 2 + ["g/1.png", None]
    texts = [task.conditions[c] if c >= 0 else None for c in task.condition]
    assert texts == [None, ("at night",), None, ("a red cup",)]


def test_parquet_lists_and_feature_keys_without_pictures(tmp_path: Path) -> None:
    queries = [{"id": 7, "image": "key-9", "positives": ["key-1", "key-2"]}]
    pd.DataFrame(queries).to_parquet(tmp_path / "queries.parquet")
    pd.DataFrame({"image": [f"key-{i}" for i in range(4)]}).to_parquet(tmp_path / "gallery.parquet")
    (task,) = instance.load(str(tmp_path / "queries.parquet"), str(tmp_path / "gallery.parquet")).tasks
    assert task.images.names == ("key-0", "key-1", "key-2", "key-3", "key-9")
    assert (task.query_ids, task.relevant[0].tolist(), task.conditions) == (("7",), [1, 2], ())


@pytest.mark.parametrize(
    ("choice", "name", "metrics"),
    [
        ("instance", "instance/test", ("map@1000", "map@50", "ndcg@50", "mrr")),
        ("ilias", "ilias/i2i_100m", ("map@1000",)),
        ("inquire", "inquire/t2i", ("map@50", "ndcg@50", "mrr")),
    ],
)
def test_configs(tables: dict[str, str], choice: str, name: str, metrics: tuple[str, ...]) -> None:
    overrides = [f"benchmark.{key}={value}" for key, value in tables.items()]
    (task,) = instantiate(compose_config("check", [f"benchmark={choice}", *overrides]).benchmark).tasks
    assert (task.full_name, task.metrics) == (name, metrics)


def spoilt(place: int, **cells: Any) -> list[dict[str, Any]]:
    return [{**query, **(cells if i == place else {})} for i, query in enumerate(QUERIES)]


@pytest.mark.parametrize(
    ("queries", "gallery", "message"),
    [
        (
            spoilt(1, positives="g/9.png"),
            GALLERY,
            r"queries\.csv: row 1: the positive 'g/9\.png' is not in the gallery",
        ),
        (spoilt(1, positives=""), GALLERY, "row 1: positives: expected a list of gallery images"),
        (spoilt(1, positives="g/1.png|g/1.png"), GALLERY, "row 1: positives names an image twice"),
        (spoilt(2, positives="g/1.png"), GALLERY, "row 2: expected a positive other than the query image"),
        (spoilt(1, id="tower"), GALLERY, "row 1: the id 'tower' already stands in row 0"),
        (spoilt(1, id=""), GALLERY, "row 1: there is no id"),
        (spoilt(3, text=" "), GALLERY, "row 3: expected an image, a text or both"),
        (spoilt(0, image="q/none.png"), GALLERY, "row 0: image: the image q/none.png is not in"),
        (QUERIES, [*GALLERY, "g/0.png"], r"gallery\.csv: row 6: the image g/0\.png already stands in row 0"),
        (QUERIES, ["g/77.png", *GALLERY], r"gallery\.csv: row 0: image: the image g/77\.png is not in"),
        (QUERIES, [], "no rows"),
        ([{"id": 1, "positives": "g/0.png"}], GALLERY, "neither a column image nor text"),
    ],
)
def test_faults(tables: dict[str, str], queries: Any, gallery: list[str], message: str) -> None:
    write(Path(tables["images"]), queries, gallery)
    with pytest.raises(CondsimError, match=message):
        instance.load(**tables)


def test_skip_and_options(tables: dict[str, str]) -> None:
    write(Path(tables["images"]), spoilt(1, positives="g/9.png"), [*GALLERY, "g/0.png"])
    (task,) = instance.load(**tables, on_error="skip").tasks
    assert task.query_ids == ("tower", "cup", "a red cup")
    assert len(task.skipped) == 2
    with pytest.raises(CondsimError, match=r"benchmark\.gallery is not set"):
        instance.load(tables["queries"])


def test_a_missing_positive_of_several_loses_no_query(tables: dict[str, str]) -> None:
    (Path(tables["images"]) / "g/3.png").unlink()
    (task,) = instance.load(**tables, on_error="skip").tasks
    assert task.query_ids == ("tower", "cup", "a red cup"), "nothing else answers the tower at night"
    assert [task.images.names[row] for row in task.relevant[0]] == ["g/0.png"]
    assert "g/3.png" not in task.images.names
    assert "g/3.png: there is no such file (row 3 of" in task.skipped[0]
    with pytest.raises(CondsimError, match=r"gallery\.csv: row 3: image: the image g/3\.png is not in"):
        instance.load(**tables)
