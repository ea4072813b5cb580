"""The task contract refuses what would give a silently wrong number."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from condsim.harness.errors import CondsimError
from condsim.harness.task import Benchmark, ImageTable, Kinds, Ragged, Task


def rows(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def task(**changes: object) -> Task:
    parts: dict[str, Any] = {
        "benchmark": "toy",
        "name": "two",
        "images": ImageTable(Path("here"), ("a.png", "b.png", "c.png")),
        "conditions": (("color",),),
        "condition": rows(0, 0),
        "reference": rows(0, 1),
        "relevant": Ragged.of([[1], [2]]),
        "metrics": ("recall@1",),
        "candidates": Ragged.of([[1, 2], [2, 0]]),
    }
    return Task(**{**parts, **changes})  # type: ignore[arg-type]


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=8), st.data())
def test_ragged_holds_its_lists_and_takes_them_in_any_order(lists: list[list[int]], data: st.DataObject) -> None:
    ragged = Ragged.of(lists)
    assert [list(part) for part in (ragged[i] for i in range(len(ragged)))] == lists
    order = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=10))
    taken = ragged.take(np.array(order, dtype=np.int64))
    assert [list(taken[i]) for i in range(len(order))] == [lists[i] for i in order]
    start = data.draw(st.integers(0, len(lists)))
    stop = data.draw(st.integers(start, len(lists)))
    part = ragged.part(start, stop)
    assert [list(part[i]) for i in range(len(part))] == lists[start:stop]
    padded = ragged.padded(-1)
    assert [[value for value in row if value >= 0] for row in padded.tolist()] == lists


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gallery": rows(0, 1)}, "exactly one of candidates and gallery"),
        ({"candidates": None}, "exactly one of candidates and gallery"),
        ({"relevant": Ragged.of([[1], []])}, "query 1 has nothing relevant"),
        ({"relevant": Ragged.of([[1], [1]])}, "relevant row of query 1 is not among its candidates"),
        ({"reference": rows(0, 3)}, "reference: rows must be in"),
        ({"condition": rows(0, 1)}, "condition: rows must be in"),
        ({"relevant": Ragged.of([[1]])}, "relevant has 1 entries for 2 queries"),
        ({"clusters": rows(0)}, "clusters has 1 entries"),
        ({"reference": rows(0, 1, 2)}, "reference has 3 entries for 2 queries"),
        ({"query_ids": ("a",)}, "query_ids has 1 entries for 2 queries"),
        ({"kinds": Kinds(("near",), rows(0, 0))}, "kinds has 2 codes for 4 candidates"),
        ({"candidates": None, "gallery": rows(2, 1, 2)}, "the gallery has a row twice"),
        ({"candidates": None, "gallery": rows(0, 2)}, "relevant row of query 0"),
        ({"candidates": None, "gallery": rows()}, "gallery is empty"),
    ],
)
def test_a_task_that_cannot_be_ranked_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CondsimError, match=message):
        task(**changes)


def test_an_image_table_has_one_box_per_picture() -> None:
    with pytest.raises(CondsimError, match=r"boxes of shape \(1, 4\) for 2 pictures"):
        ImageTable(Path("here"), ("a.png", "b.png"), np.zeros((1, 4)))


def test_the_fingerprint_changes_with_the_protocol_and_not_with_the_folder() -> None:
    base = task()
    assert task(images=ImageTable(Path("elsewhere"), base.images.names)).fingerprint == base.fingerprint
    moved = ImageTable(Path("here"), base.images.names, files={"b.png": "part_2/b.png"})
    assert [moved.path(row) for row in (0, 1)] == [Path("here/a.png"), Path("here/part_2/b.png")]
    assert moved.take(rows(1)).path(0) == Path("here/part_2/b.png")
    assert task(images=moved).fingerprint == base.fingerprint
    changed = [
        task(candidates=Ragged.of([[1, 2, 0], [2, 0]])),
        task(candidates=Ragged.of([[2, 1], [2, 0]])),
        task(conditions=(("shape",),)),
        task(metrics=("recall@2",)),
        task(reference=rows(1, 0)),
        task(clusters=rows(0, 0)),
        task(images=ImageTable(Path("here"), ("a.png", "b.png", "d.png"))),
        task(images=ImageTable(Path("here"), base.images.names, np.ones((3, 4)))),
        task(candidates=None, gallery=rows(0, 1, 2)),
    ]
    fingerprints = {base.fingerprint, *(other.fingerprint for other in changed)}
    assert len(fingerprints) == 1 + len(changed)


def test_the_gallery_of_candidate_lists_is_each_candidate_once() -> None:
    assert task().gallery_rows.tolist() == [0, 1, 2]
    assert task(candidates=Ragged.of([[1, 2], [2, 2]])).gallery_rows.tolist() == [1, 2]


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(CondsimError, match=r"no task 'tow'\. Did you mean 'two'"):
        Benchmark("toy", (task(),)).select(["tow"])


def test_another_rule_of_cropping_is_another_question() -> None:
    boxes = np.array([[1, 2, 3, 4], [np.nan] * 4, [np.nan] * 4])
    tables = [ImageTable(Path("here"), ("a.png", "b.png", "c.png"), boxes, crop=crop) for crop in ("genecis", "plain")]
    assert task(images=tables[0]).fingerprint != task(images=tables[1]).fingerprint


def test_queries_without_positives_are_refused_unless_they_count() -> None:
    with pytest.raises(CondsimError, match="query 1 has nothing relevant"):
        task(relevant=Ragged.of([[1], []]))
    assert task(relevant=Ragged.of([[1], []]), counts_unanswerable=True).relevant.lengths.tolist() == [1, 0]
