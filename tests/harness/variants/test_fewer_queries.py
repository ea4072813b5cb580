"""A list of query ids makes a smaller question of any task, and never passes for the whole one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from condsim.harness.condition_features import condition_features
from condsim.harness.errors import CondsimError
from condsim.harness.results.breakdown import by_label
from condsim.harness.run.task_file import load_task, save_task
from condsim.harness.task import Benchmark, ImageTable, Kinds, Labels, Ragged, Submission, Task
from condsim.harness.variants.fewer_queries import restrict, take_queries


def gallery_task(name: str = "one", queries: int = 5) -> Task:
    """Query i: reference i, positives i + 1 (the target) and 8, conditions in turns, labels "even" or "odd", "all"."""
    rows = np.arange(queries)
    return Task(
        "toy", name, ImageTable(Path("here"), tuple(f"{letter}.png" for letter in "abcdefghijkl")),
        conditions=(("red",), ("blue",), ("big",)), condition=rows % 3, reference=rows,
        relevant=Ragged.of([8, i + 1] for i in range(queries)), metrics=("map", "target_recall@1"),
        gallery=np.arange(10),
        clusters=rows // 2, query_ids=tuple(f"q{i}" for i in rows), target=rows + 1,
        labels=Labels(("even", "odd", "all"), Ragged.of([i % 2, 2] for i in range(queries))),
        texts=(("red", "rot"), ("blue",), ("big", "large", "huge")),
    )  # fmt: skip


def own_lists_task() -> Task:
    return Task(
        "toy", "own", ImageTable(Path("here"), tuple(f"{letter}.png" for letter in "abcdef")), (("red",),),
        np.zeros(3, dtype=np.int64), np.array([0, 1, -1]), Ragged.of([[1], [2], [5]]), ("recall@1",),
        candidates=Ragged.of([[1, 2], [2, 3, 3], [4, 5]]), kinds=Kinds(("k", "l"), np.array([-1, 0, -1, 1, 0, 1, -1])),
    )  # fmt: skip


def restricted(task: Task, ids: list[str], folder: Path) -> Task:
    (folder / "list.txt").write_text("\n".join(ids) + "\n\n")
    return restrict(Benchmark("toy", (task,)), folder / "list.txt").tasks[0]


def test_the_named_queries_stay_with_all_that_belongs_to_them(tmp_path: Path) -> None:
    whole = gallery_task()
    part = restricted(whole, ["q4", "q1"], tmp_path)
    assert part.query_ids == ("q1", "q4"), "in the task's order"
    assert part.conditions == (("blue",),), "query 4 has the second condition too"
    assert part.texts == (("blue",),)
    names = part.images.names
    assert [names[row] for row in part.reference] == ["b.png", "e.png"]
    assert [[names[row] for row in part.relevant[i]] for i in range(2)] == [["i.png", "c.png"], ["i.png", "f.png"]]
    assert part.target is not None
    assert [names[row] for row in part.target] == ["c.png", "f.png"]
    assert part.labels is not None
    assert [part.labels.codes[i].tolist() for i in range(2)] == [[1, 2], [0, 2]]
    assert part.clusters is not None
    assert part.clusters.tolist() == [0, 2]
    assert len(part.gallery_rows) == 10, "the gallery stays whole"
    assert "k.png" not in names, "an image that nothing needs is not encoded"
    assert part.variant == "queries_from=list.txt"
    assert part.fingerprint != whole.fingerprint


def test_own_candidates_and_their_kinds_stay_together(tmp_path: Path) -> None:
    part = restricted(own_lists_task(), ["1"], tmp_path)
    assert part.images.names == ("b.png", "c.png", "d.png")
    assert part.candidates is not None
    assert part.candidates[0].tolist() == [1, 2, 2]
    assert part.kinds is not None
    assert part.kinds.codes.tolist() == [-1, 1, 0]


def test_all_queries_are_the_same_question(tmp_path: Path) -> None:
    whole = gallery_task()
    assert restricted(whole, [f"q{i}" for i in range(5)], tmp_path) is whole


def test_a_json_file_has_a_list_per_task(tmp_path: Path) -> None:
    both = Benchmark("toy", (gallery_task("one"), gallery_task("two")))
    path = tmp_path / "easy.json"
    path.write_text(json.dumps({"one": ["q0"], "two": ["q2", "q3"], "three": ["x"]}))
    assert [task.query_ids for task in restrict(both, path).tasks] == [("q0",), ("q2", "q3")]
    path.write_text(json.dumps(["q1"]))
    assert [task.query_ids for task in restrict(both, path).tasks] == [("q1",)] * 2
    path.write_text(json.dumps({"one": ["q0"]}))
    with pytest.raises(CondsimError, match="names no queries of the task two: add them, or choose"):
        restrict(both, path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q7", "there is no query 'q7'. A name is 'q0'"),
        ("q1\nq1", "the query id 'q1' is repeated"),
        ("\n", "the list of query ids is empty"),
    ],
)
def test_a_faulty_list_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(CondsimError, match=message):
        restrict(Benchmark("toy", (gallery_task(),)), tmp_path / "list.txt")


@pytest.mark.parametrize("text", ["{", '{"one": "q1"}', "7", '{"one": [1.5]}'])
def test_a_faulty_json_file_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(CondsimError, match=r"list\.json"):
        restrict(Benchmark("toy", (gallery_task(),)), tmp_path / "list.json")
    with pytest.raises(CondsimError, match="does not exist"):
        restrict(Benchmark("toy", (gallery_task(),)), tmp_path / "none.txt")


def test_a_task_for_a_server_stays_whole(tmp_path: Path) -> None:
    task = replace(gallery_task(), metrics=(), submission=Submission(1, lambda *_: None))
    with pytest.raises(CondsimError, match="the server takes the whole task only"):
        restricted(task, ["q1"], tmp_path)


@given(st.permutations(range(5)), st.integers(1, 5))
def test_taking_queries_twice_is_taking_them_once(order: list[int], count: int) -> None:
    first = take_queries(gallery_task(), np.array(order))
    both = take_queries(first, np.arange(count))
    assert both.fingerprint == take_queries(gallery_task(), np.array(order[:count])).fingerprint


def test_new_fields_are_part_of_the_fingerprint_only_where_they_change_a_number() -> None:
    task = gallery_task()
    changes: tuple[dict[str, Any], ...]
    changes = ({"texts": None}, {"target": None}, {"texts": (("red",), ("blue",), ("big",))})
    for change in changes:
        assert replace(task, **change).fingerprint != task.fingerprint
    changes = ({"labels": None}, {"variant": "x"})
    for change in changes:
        assert replace(task, **change).fingerprint == task.fingerprint
    plain = replace(own_lists_task(), images=ImageTable(Path("elsewhere"), own_lists_task().images.names))
    assert plain.fingerprint == "d2f410a318d154fd5f9bbc1343ef2c33", "records of tasks without the new fields stay valid"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": np.array([0, 2, 3, 4, 5])}, "the target of query 0 is not among its relevant rows"),
        ({"target": np.array([1, 2])}, "target has 2 entries for 5 queries"),
        ({"labels": Labels(("a",), Ragged.of([[0]] * 4))}, "labels has 4 entries for 5 queries"),
        ({"labels": Labels(("a",), Ragged.of([[1]] * 5))}, "labels: rows must be in"),
        ({"texts": (("red",),)}, "texts has to name at least one text"),
        ({"texts": (("red",), (), ("big",))}, "texts has to name at least one text"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CondsimError, match=message):
        replace(gallery_task(), **changes)  # type: ignore[arg-type]


def test_the_fields_survive_the_task_file(tmp_path: Path) -> None:
    task = replace(gallery_task(), variant="text=x")
    save_task(tmp_path / "task.npz", task)
    back = load_task(tmp_path / "task.npz", task.fingerprint)
    assert (back.texts, back.variant, back.fingerprint) == (task.texts, "text=x", task.fingerprint)
    assert back.target is not None
    assert back.labels is not None
    assert task.labels is not None
    assert back.target.tolist() == [1, 2, 3, 4, 5]
    assert back.labels.names == task.labels.names
    assert [back.labels.codes[i].tolist() for i in range(5)] == [task.labels.codes[i].tolist() for i in range(5)]


def test_results_break_down_by_label() -> None:
    values = {"a": np.array([1.0, 0.0, 0.5, 1.0, 0.0]), "b": np.zeros(5)}
    rows = by_label(gallery_task(), values)
    assert [(row.name, row.queries) for row in rows] == [("even", 3), ("odd", 2), ("all", 5)]
    assert [row.means["a"] for row in rows] == pytest.approx([0.5, 0.5, 0.5])
    assert by_label(replace(gallery_task(), labels=None), values) == []


def test_several_texts_of_a_condition_are_the_mean_of_their_unit_features() -> None:
    lengths = {"red": 1.0, "rot": 100.0, "blue": 5.0, "big": 1.0, "large": 2.0, "huge": 3.0}
    axis = {text: i for i, text in enumerate(lengths)}
    calls: list[list[str]] = []

    def encode(texts: list[str]) -> torch.Tensor:
        calls.append(list(texts))
        out = torch.zeros(len(texts), 6)
        for i, text in enumerate(texts):
            out[i, axis[text]] = lengths[text]
        return out

    features = condition_features(gallery_task(), encode)  # type: ignore[arg-type]
    half, third = 2**-0.5, 3**-0.5
    expected = [[half, half, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0], [0, 0, 0, third, third, third]]
    torch.testing.assert_close(features, torch.tensor(expected))
    assert calls == [list(lengths)], "each distinct text is encoded once"
    plain = condition_features(replace(gallery_task(), texts=None), encode)  # type: ignore[arg-type]
    assert plain[1, 2] == 5.0, "one text per condition stays raw"
