"""A task without some of its images is exactly the task that never had them: against sets of names, query by query."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from condsim.harness.errors import CondsimError
from condsim.harness.task import ImageTable, Kinds, Ragged, Task
from condsim.harness.variants.without_images import without_images

IMAGES = 9
NAMES = tuple(f"{letter}.png" for letter in "abcdefghi")


def lists(draw: st.DrawFn, queries: int, rows: list[int], least: int = 0, unique: bool = False) -> list[list[int]]:
    one = st.lists(st.sampled_from(rows), min_size=least, max_size=4, unique=unique)
    return [draw(one) for _ in range(queries)]


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    """Own candidates (with repeats and kinds) or a gallery (with exclusions and subsets); some queries lack a part."""
    queries, rows = draw(st.integers(1, 6)), list(range(IMAGES))
    condition = np.array([draw(st.integers(-1, 3)) for _ in range(queries)])
    reference = np.array([draw(st.integers(-1, IMAGES - 1)) for _ in range(queries)])
    shared: dict[str, Any] = {
        "benchmark": "toy", "name": "any", "conditions": (("w",), ("x",), ("y", "z"), ("v",)),
        "condition": condition, "reference": reference,
        "images": ImageTable(
            Path("here"), NAMES, draw(st.sampled_from([None, np.arange(4.0 * IMAGES).reshape(-1, 4)])),
            files={"c.png": "part/c.png"},
        ),
        "clusters": draw(st.sampled_from([None, reference])),
        "query_ids": draw(st.sampled_from([None, tuple(f"id{i}" for i in range(queries))])),
        "skipped": ("entry 7: no condition",),
    }  # fmt: skip
    if draw(st.booleans()):
        candidates = lists(draw, queries, rows, least=1)
        codes = np.array([draw(st.integers(-1, 1)) for part in candidates for _ in part])
        return Task(
            **shared, metrics=("recall@1",), candidates=Ragged.of(candidates),
            relevant=Ragged.of(part[:1] for part in candidates), kinds=Kinds(("near", "far"), codes),
        )  # type: ignore[arg-type]  # fmt: skip
    gallery = draw(st.lists(st.sampled_from(rows), min_size=1, max_size=IMAGES, unique=True))
    withheld = draw(st.booleans())
    relevant = [[]] * queries if withheld else lists(draw, queries, gallery, 1, unique=True)
    return Task(
        **shared, metrics=() if withheld else ("map",), gallery=np.array(gallery), relevant=Ragged.of(relevant),
        excluded=Ragged.of(lists(draw, queries, rows)), subset=Ragged.of(lists(draw, queries, gallery)),
    )  # type: ignore[arg-type]  # fmt: skip


def named(task: Task, rows: np.ndarray) -> list[str]:
    return [task.images.names[row] for row in rows]


def queries_of(task: Task) -> list[dict[str, Any]]:
    """Everything about each query, images by name."""
    out = []
    for i in range(len(task)):
        query: dict[str, Any] = {
            "id": task.query_ids[i] if task.query_ids else str(i),
            "condition": task.conditions[task.condition[i]] if task.condition[i] >= 0 else None,
            "reference": NAMES.index(task.images.names[task.reference[i]]) if task.reference[i] >= 0 else None,
            "cluster": None if task.clusters is None else int(task.clusters[i]),
        }
        for label in ("relevant", "candidates", "excluded", "subset"):
            part = getattr(task, label)
            query[label] = None if part is None else named(task, part[i])
        if task.kinds is not None:
            assert task.candidates is not None
            query["kinds"] = Ragged(task.candidates.offsets, task.kinds.codes)[i].tolist()
        out.append(query)
    return out


@given(tasks(), st.sets(st.integers(0, IMAGES - 1), max_size=4))
def test_a_task_without_images_is_what_is_left_by_name(task: Task, bad: set[int]) -> None:
    gone = {NAMES[row] for row in bad}
    expected = []
    for query in queries_of(task):
        needed = [*(query["candidates"] or []), *(query["subset"] or [])]  # type: ignore[misc]
        relevant = [name for name in query["relevant"] if name not in gone]  # type: ignore[attr-defined]
        if query["reference"] in bad or gone & set(needed) or (query["relevant"] and not relevant):
            continue
        excluded = query["excluded"]
        query["relevant"] = relevant
        query["excluded"] = None if excluded is None else [name for name in excluded if name not in gone]  # type: ignore[attr-defined]
        expected.append(query)
    faults = dict.fromkeys(bad, "does not decode")
    if not expected:
        with pytest.raises(CondsimError, match=r"toy/any: every query needs an image that cannot be used"):
            without_images(task, faults)
        return
    gallery = None if task.gallery is None else [name for name in named(task, task.gallery_rows) if name not in gone]
    if gallery == []:
        with pytest.raises(CondsimError, match="gallery is empty"):
            without_images(task, faults)
        return
    found = without_images(task, faults)
    assert queries_of(found) == expected
    assert found.images.names == tuple(name for name in NAMES if name not in gone)
    for row, name in enumerate(found.images.names):
        assert found.images.path(row) == task.images.path(NAMES.index(name))
        if task.images.boxes is not None:
            assert found.images.boxes is not None
            assert found.images.boxes[row].tolist() == task.images.boxes[NAMES.index(name)].tolist()
    assert (None if found.gallery is None else named(found, found.gallery_rows)) == gallery
    assert {part for query in expected if (part := query["condition"])} == set(found.conditions)
    assert len(set(found.conditions)) == len(found.conditions)
    assert found.skipped[0] == "entry 7: no condition"
    lost = len(task) - len(expected)
    assert len(found.skipped) == 1 + len(bad) + lost
    assert sum("is left out" in message for message in found.skipped) == lost
    assert (found.fingerprint == without_images(task, {}).fingerprint) == (not bad)


def test_the_record_says_which_image_and_which_query() -> None:
    rows = np.arange(3)
    task = Task(
        "toy", "two", ImageTable(Path("here"), NAMES[:4]), (("color",),), np.zeros(3, dtype=np.int64), rows,
        Ragged.of([[1], [2], [0, 1]]), ("map",), gallery=np.arange(4),
    )  # fmt: skip
    found = without_images(task, {1: "there is no such file"})
    assert found.skipped == (
        "here/b.png: there is no such file",
        "query 0: its relevant image b.png is left out",
        "query 1: its reference b.png is left out",
    )
    assert found.query_ids == ("2",)
    assert found.relevant[0].tolist() == [0]
    assert found.gallery_rows.tolist() == [0, 1, 2]
