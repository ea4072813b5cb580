"""Names in one Arrow column behave like a tuple of strings."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from condsim.harness.files import name_list
from condsim.harness.files.name_list import NameList, NameWriter, same_names


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=9), st.data())
def test_it_has_the_names_in_order(names: list[str], data: st.DataObject) -> None:
    column = NameList.of(names)
    assert list(column) == names
    assert len(column) == len(names)
    start, stop = data.draw(st.integers(-10, 10)), data.draw(st.integers(-10, 10))
    assert list(column[start:stop]) == names[start:stop]
    assert column + ["more"] == NameList.of([*names, "more"])  # noqa: RUF005 - the sum is tested
    assert pickle.loads(pickle.dumps(column)) == column
    if names:
        rows = data.draw(st.lists(st.integers(0, len(names) - 1), max_size=5))
        assert list(column.take(np.array(rows, dtype=np.int64))) == [names[row] for row in rows]
        assert [column[row] for row in rows] == [names[row] for row in rows]
    assert (column.repeated() is None) == (len(set(names)) == len(names))
    assert column.places([*names[:3], "absent name"]) == {name: names.index(name) for name in names[:3]}


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=4), max_size=9))
def test_it_survives_being_joined(names: list[str]) -> None:
    assert NameList.split(NameList.of(names).joined()) == NameList.of(names)


def test_several_batches_are_one_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_list, "_AT_ONCE", 3)
    names = [f"name {i}" for i in range(10)]
    writer = NameWriter(tmp_path / "names.arrow")
    for start in (0, 4):
        writer.write(names[start : start + 4 if start == 0 else 10])
    writer.close()
    for column in (NameList.of(names), NameList.read(tmp_path / "names.arrow")):
        assert list(column) == names
        assert (column[3], column[4], column[-1]) == ("name 3", "name 4", "name 9")
        assert list(column[2:7]) == names[2:7]
        assert list(column[::4]) == names[::4]
        assert column.places(["name 9", "name 4", "no name"]) == {"name 4": 4, "name 9": 9}
        assert same_names(column, tuple(names))
        assert same_names(column, NameList.of(names))
        assert not same_names(column, NameList.of([*names[:-1], "other"]))
        assert NameList.of([*names, "name 2"]).repeated() == "name 2"
    with pytest.raises(IndexError, match="10 names"):
        NameList.of(names)[10]
