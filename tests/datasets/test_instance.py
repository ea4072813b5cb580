"""Instance retrieval: several positives, distractors, queries by image, by text or both, with or without pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hydra.utils import instantiate
from PIL import Image

from condsim.datasets import instance
from condsim.harness.errors import CondsimError
from condsim.harness.ranking.engine import rank_task
from condsim.harness.ranking.metrics import per_query
from condsim.harness.settings.composition import compose_config

GALLERY = [f"g/{i}.png" for i in range(6)]
QUERIES = [
    {"id": "tower", "image": "q/tower.png", "text": "", "positives": "g/0.png|g/3.png"},
    {"id": "tower at night", "image": "q/tower.png", "text": "at night", "positives": "g/3.png"},
    {"id": "cup", "image": "g/1.png", "text": "", "positives": "g/1.png | g/2.png"},
    {"id": "a red cup", "image": "", "text": "a red cup", "positives": "g/2.png"},
]


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, Any]:
    for name in (*GALLERY, "q/tower.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    return write(tmp_path, QUERIES)


def write(folder: Path, queries: list[dict[str, Any]], gallery: list[str] = GALLERY) -> dict[str, Any]:
    pd.DataFrame(queries).to_csv(folder / "queries.csv", index=False)
    pd.DataFrame({"image": gallery}).to_csv(folder / "gallery.csv", index=False)
    return {"queries": str(folder / "queries.csv"), "gallery": str(folder / "gallery.csv"), "images": str(folder)}


def test_a_task_says_what_its_tables_say(tables: dict[str, Any]) -> None:
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


def test_queries_of_one_image_are_one_cluster_where_the_user_says_so(tables: dict[str, Any]) -> None:
    (task,) = instance.load(**tables, clusters="reference").tasks
    assert task.clusters is not None
    tower, at_night, cup, only_text = task.clusters.tolist()
    assert tower == at_night
    assert len({tower, cup, only_text}) == 3
    assert task.cluster_name == "reference"
    assert instance.load(**tables).tasks[0].clusters is None


def test_parquet_lists_and_feature_keys_without_pictures(tmp_path: Path) -> None:
    queries = [{"id": 7, "image": "key-9", "positives": ["key-1", "key-2"]}]
    pd.DataFrame(queries).to_parquet(tmp_path / "queries.parquet")
    pd.DataFrame({"image": [f"key-{i}" for i in range(4)]}).to_parquet(tmp_path / "gallery.parquet")
    (task,) = instance.load(str(tmp_path / "queries.parquet"), str(tmp_path / "gallery.parquet")).tasks
    assert task.images.names == ("key-0", "key-1", "key-2", "key-3", "key-9")
    assert (task.query_ids, task.relevant[0].tolist(), task.conditions) == (("7",), [1, 2], ())


def test_several_conditions_count_at_once(tmp_path: Path) -> None:
    lists = ["size"], ["b", "a"]
    queries = [{"id": i, "conditions": listed, "positives": ["a"]} for i, listed in enumerate(lists)]
    pd.DataFrame({"image": ["a", "b"]}).to_parquet(tmp_path / "gallery.parquet")
    pd.DataFrame(queries).to_parquet(tmp_path / "queries.parquet")
    rows = [
        {**query, "conditions": "|".join(listed), "positives": "a"}
        for query, listed in zip(queries, lists, strict=True)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "queries.csv", index=False)
    for name in ("queries.parquet", "queries.csv"):
        (task,) = instance.load(str(tmp_path / name), str(tmp_path / "gallery.parquet")).tasks
        assert [task.conditions[code] for code in task.condition] == [("size",), ("b", "a")]
    pd.DataFrame([rows[0] | {"text": "color"}]).to_csv(tmp_path / "queries.csv", index=False)
    with pytest.raises(CondsimError, match=r"row 1: expected text or conditions, found both"):
        instance.load(str(tmp_path / "queries.csv"), str(tmp_path / "gallery.parquet"))


@pytest.mark.parametrize(
    ("choice", "name", "metrics"),
    [
        ("instance", "instance/test", ("map@1000", "map@50", "ndcg@50", "mrr")),
        ("ilias", "ilias/i2i_100m", ("map@1000",)),
        ("inquire", "inquire/t2i", ("map@50", "ndcg@50", "mrr@50")),
    ],
)
def test_configs(tables: dict[str, Any], choice: str, name: str, metrics: tuple[str, ...]) -> None:
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
            r"queries\.csv: row 2: the positive 'g/9\.png' is not in the gallery",
        ),
        (spoilt(1, positives=""), GALLERY, "row 2: positives: expected a list of gallery images"),
        (spoilt(1, positives="g/1.png|g/1.png"), GALLERY, "row 2: positives: duplicate image 'g/1.png'"),
        (spoilt(2, positives="g/1.png"), GALLERY, "row 3: expected a positive other than the query image"),
        (spoilt(1, id="tower"), GALLERY, r"row 2: duplicate id 'tower' \(first in row 1\)"),
        (spoilt(1, id=""), GALLERY, "row 2: there is no id"),
        (spoilt(3, text=" "), GALLERY, "row 4: expected an image, a text or both"),
        (spoilt(0, image="q/none.png"), GALLERY, "row 1: image: the image q/none.png is not in"),
        (QUERIES, [*GALLERY, "g/0.png"], r"gallery\.csv: row 7: duplicate image g/0\.png \(first in row 1\)"),
        (QUERIES, ["g/77.png", *GALLERY], r"gallery\.csv: row 1: image: the image g/77\.png is not in"),
        (QUERIES, [], "no rows"),
        ([{"id": 1, "positives": "g/0.png"}], GALLERY, "neither a column image nor text"),
    ],
)
def test_faults(tables: dict[str, Any], queries: Any, gallery: list[str], message: str) -> None:
    write(Path(tables["images"]), queries, gallery)
    with pytest.raises(CondsimError, match=message):
        instance.load(**tables)


def test_skip_and_options(tables: dict[str, Any]) -> None:
    write(Path(tables["images"]), spoilt(1, positives="g/9.png"), [*GALLERY, "g/0.png"])
    (task,) = instance.load(**tables, on_error="skip").tasks
    assert task.query_ids == ("tower", "cup", "a red cup")
    assert len(task.skipped) == 2
    with pytest.raises(CondsimError, match=r"benchmark\.gallery is not set"):
        instance.load(tables["queries"])


def test_a_missing_positive_of_several_loses_no_query(tables: dict[str, Any]) -> None:
    (Path(tables["images"]) / "g/3.png").unlink()
    (task,) = instance.load(**tables, on_error="skip").tasks
    assert task.query_ids == ("tower", "cup", "a red cup"), "nothing else answers the tower at night"
    assert [task.images.names[row] for row in task.relevant[0]] == ["g/0.png"]
    assert "g/3.png" not in task.images.names
    assert "g/3.png: there is no such file (row 4 of" in task.skipped[0]
    with pytest.raises(CondsimError, match=r"gallery\.csv: row 4: image: the image g/3\.png is not in"):
        instance.load(**tables)


SPELLINGS = ["./{}", "{} ", ".\\{}", "\ufeff{}", "{}"]


@pytest.mark.parametrize("in_gallery", SPELLINGS)
@pytest.mark.parametrize("in_queries", SPELLINGS)
@pytest.mark.parametrize("with_images", [True, False])
def test_every_name_has_one_spelling(
    tables: dict[str, Any], in_gallery: str, in_queries: str, with_images: bool
) -> None:
    before = instance.load(**tables).tasks[0]
    queries = [
        {
            **query,
            "image": query["image"] and in_queries.format(query["image"]),
            "positives": "|".join(in_queries.format(name.strip()) for name in query["positives"].split("|")),
        }
        for query in QUERIES
    ]
    write(Path(tables["images"]), queries, [in_gallery.format(name) for name in GALLERY])
    after = instance.load(**{**tables, "images": tables["images"] if with_images else None}).tasks[0]
    assert after.fingerprint == before.fingerprint


def test_texts_and_ids_have_one_spelling(tables: dict[str, Any]) -> None:
    queries = spoilt(3, id="a\u00a0red cup ", text=" a  red\u00a0cup")
    write(Path(tables["images"]), queries)
    (task,) = instance.load(**tables).tasks
    assert task.query_ids is not None
    assert task.query_ids[3] == "a red cup"
    assert ("a red cup",) in task.conditions


def test_missing_cells_of_parquet_are_empty_and_numbers_are_ids(tables: dict[str, Any]) -> None:
    folder = Path(tables["images"])
    frame = pd.DataFrame(
        {"id": [7.0, 8.0], "image": ["g/0.png", None], "text": [None, "a cup"], "positives": [["g/1.png"], ["g/2.png"]]}
    )
    frame.to_parquet(folder / "queries.parquet")
    (task,) = instance.load(**{**tables, "queries": str(folder / "queries.parquet")}).tasks
    assert task.query_ids == ("7", "8")
    assert list(task.reference) == [0, -1]


def test_inquire_counts_a_first_positive_behind_place_50_as_0(tmp_path: Path) -> None:
    """INQUIRE's own code computes MRR over its first 50 results: 1/2 for place 2, 0 for place 55."""
    names = [f"g{i}.jpg" for i in range(60)]
    pd.DataFrame({"image": names}).to_csv(tmp_path / "gallery.csv", index=False)
    queries = [{"id": 0, "text": "a", "positives": "g54.jpg"}, {"id": 1, "text": "b", "positives": "g1.jpg|g30.jpg"}]
    pd.DataFrame(queries).to_csv(tmp_path / "queries.csv", index=False)
    overrides = ["benchmark=inquire", *(f"benchmark.{n}={tmp_path / n}.csv" for n in ("queries", "gallery"))]
    (task,) = instantiate(compose_config("check", overrides).benchmark).tasks
    scores = torch.arange(60, 0, -1, dtype=torch.float32)
    ranking = rank_task(
        task, lambda queries, rows=None: scores.expand(len(queries), -1), torch.zeros(60, 2), torch.zeros(2, 2),
        pointwise=False,
    )  # fmt: skip
    assert per_query("mrr@50", ranking.ranks).tolist() == [0.0, 0.5]
    assert "mrr@50" in task.metrics
    assert "mrr" not in task.metrics
