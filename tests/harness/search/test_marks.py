"""Marks of results: on disk at once, read again after a killed server, and made into tables."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from condsim.harness.errors import CondsimError
from condsim.harness.search.marks import Marks


@pytest.fixture
def marks(tmp_path: Path) -> Marks:
    marks = Marks(tmp_path / "marks")
    marks.add("a.png", ("color",), "b.png", "right")
    marks.add("a.png", ("color",), "c, 1.png", "right")
    marks.add("a.png", ("color",), "d.png", "wrong")
    marks.add("b.png", ("color",), "d.png", "wrong")
    marks.add("", ("a red cup",), "d.png", "right")
    marks.add("a.png", ("color",), "b.png", "none")
    return marks


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_mark_is_on_disk_and_the_last_one_counts(marks: Marks) -> None:
    assert len(table(marks.file)) == 6
    again = Marks(marks.folder)
    assert again.of("a.png", ("color",)) == {"c, 1.png": "right", "d.png": "wrong"}
    assert again.of("", ("a red cup",)) == {"d.png": "right"}
    assert len(again) == len(marks) == 4


def test_an_incomplete_last_line_is_removed(marks: Marks, capsys: pytest.CaptureFixture[str]) -> None:
    whole = marks.file.read_bytes()
    marks.file.write_bytes(whole + b'a.png,"col')
    again = Marks(marks.folder)
    assert "the last line is incomplete" in capsys.readouterr().err
    assert len(again) == 4
    again.add("a.png", ("color",), "e.png", "right")
    assert Marks(marks.folder).of("a.png", ("color",))["e.png"] == "right"


def test_the_tables_hold_the_queries_with_a_right_result(marks: Marks) -> None:
    gallery = ["a.png", "b.png", "c, 1.png", "d.png", "e.png"]
    queries, pictures = marks.save_tables(gallery)
    assert table(queries) == [
        {"id": "a red cup", "image": "", "conditions": "a red cup", "positives": "d.png"},
        {"id": "a.png, color", "image": "a.png", "conditions": "color", "positives": "c, 1.png"},
    ]
    assert [row["image"] for row in table(pictures)] == gallery
    assert [row["id"] for row in table(marks.save_tables(gallery[1:])[0])] == ["a red cup"]  # a.png was removed


def test_conditions_that_count_at_once_are_one_query(marks: Marks) -> None:
    marks.add("a.png", ("color", "shape"), "e.png", "right")
    assert Marks(marks.folder).of("a.png", ("color", "shape")) == {"e.png": "right"}
    assert "e.png" not in marks.of("a.png", ("color",))
    row = {"id": "a.png, color + shape", "image": "a.png", "conditions": "color|shape", "positives": "e.png"}
    assert row in table(marks.save_tables(["a.png", "b.png", "e.png"])[0])
    with pytest.raises(CondsimError, match=r"the condition 'a\|b' holds '\|'"):
        marks.add("a.png", ("a|b",), "e.png", "right")


def test_what_is_no_mark_is_one_message(marks: Marks, tmp_path: Path) -> None:
    with pytest.raises(CondsimError, match=r"'a\|b\.png' holds '\|'.*rename the file"):
        marks.add("a|b.png", ("color",), "c.png", "right")
    with pytest.raises(CondsimError, match="no result is marked as right yet"):
        Marks(tmp_path / "none").save_tables(["a.png"])
    marks.file.write_text("query,condition,image,mark\na.png,color,b.png,yes\n")
    with pytest.raises(CondsimError, match=r"marks\.csv: row 1: mark 'yes': expected right, wrong or none"):
        Marks(marks.folder)
    marks.file.write_text("image,color\na.png,red\n")
    with pytest.raises(CondsimError, match="expected a CSV table of marks"):
        Marks(marks.folder)
