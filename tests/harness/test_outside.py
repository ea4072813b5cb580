"""Files of texts and names from outside: what fits is read, what does not is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from condsim.harness.errors import CondsimError, NotApplicable
from condsim.harness.outside import TextTable, require_queries
from condsim.harness.task import ImageTable, Ragged, Task

ROWS = [("toy/1", "a red cup"), ("toy/0", "a dog, asleep"), ("toy/1", 'a "blue" cup')]


def task(ids: tuple[str, ...] = ("a", "b", "c"), **changes: Any) -> Task:
    n = len(ids)
    return Task(
        "bench", "toy", ImageTable(Path(), ("x.jpg", "y.jpg")), (("color",),), np.zeros(n, dtype=np.int64),
        np.zeros(n, dtype=np.int64), Ragged.of([[1]] * n), ("map",), gallery=np.arange(2), query_ids=ids, **changes,
    )  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_query_may_have_several_texts_in_their_order(tmp_path: Path, suffix: str) -> None:
    frame, path = pd.DataFrame(ROWS, columns=["query", "text"]).assign(model="m"), tmp_path / f"t{suffix}"
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    elif suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    table = TextTable(path, "query")
    assert table.of(["toy/0", "toy/1"]) == [("a dog, asleep",), ("a red cup", 'a "blue" cup')]
    with pytest.raises(CondsimError, match=r"no text for 1 of 2 queries, such as 'toy/11'. A name is 'toy/1'"):
        table.of(["toy/0", "toy/11"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"query": "toy/0", "text": "a"}\n{"query": "toy/1", "text": ""}\n',
            "row 2: the cell of the column text is",
        ),
        (
            '{"query": "toy/0", "text": "a"}\n{"query": "toy/1"}\n',
            "row 2: the cell of the column text is empty",
        ),
        ('{"query": "toy/0", "text": "a"}\n{"query": "to', "line 2: malformed or truncated JSON"),
        ("[1]\n", "line 1: expected a JSON object"),
        ('{"query": "toy/0", "texts": "a"}\n', "there is no column 'text'. Did you mean 'texts'"),
        ("\n", "there is no column 'query'"),
    ],
)
def test_a_fault_in_json_lines_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "t.jsonl").write_text(content)
    with pytest.raises(CondsimError, match=message):
        TextTable(tmp_path / "t.jsonl", "query")


def test_the_rows_of_a_file_must_be_the_queries_of_the_task() -> None:
    right = ["toy/c", "toy/a", "toy/b"]
    require_queries(task(), right, "FILE")
    require_queries(task(), [*right, "other/a"], "FILE")
    with pytest.raises(CondsimError, match=r"FILE: no row for 1 of 3 queries of bench/toy, such as 'toy/b'"):
        require_queries(task(), ["toy/a", "toy/c"], "FILE")
    with pytest.raises(CondsimError, match=r"1 row named after no query of bench/toy, such as 'toy/d'"):
        require_queries(task(), [*right, "toy/d"], "FILE")
    with pytest.raises(NotApplicable, match=r"FILE has no row for bench/toy: a row is named 'other/a'"):
        require_queries(task(), ["other/a"], "FILE")
    with pytest.raises(CondsimError, match=r"expected names such as 'toy/a', found 'a'"):
        require_queries(task(), ["a", "b", "c"], "FILE")
    with pytest.raises(CondsimError, match="several queries with the id 'toy/a'"):
        require_queries(task(("a", "b", "a")), right, "FILE")


def test_a_task_with_fewer_queries_takes_a_file_for_all_of_them() -> None:
    require_queries(task(("a",), variant="queries_from=list.txt"), ["toy/a", "toy/b"], "FILE")
