"""The sentences of which messages are made."""

from __future__ import annotations

from pathlib import Path

import pytest

from condsim.harness.errors import (
    CondsimError,
    UnusableRowsError,
    counted,
    did_you_mean,
    first_line,
    first_of,
    nearest_id,
    reading,
)


def test_the_nearest_names_are_offered_or_all_of_them() -> None:
    assert did_you_mean("caly", ["clay", "image_only"]) == "Did you mean 'clay'?"
    assert did_you_mean("rank_1", ["rank_2", "rank_3", "x"]) == "Did you mean 'rank_3' or 'rank_2'?"
    assert did_you_mean("zzz", ["b", "a"]) == "Choose one of: a, b."
    assert did_you_mean("temperature", ["feature", "top"]) == "Choose one of: feature, top."
    assert did_you_mean("vit b/32", ["ViT-B-32/openai", "RN50/openai"]) == "Did you mean 'ViT-B-32/openai'?"
    assert did_you_mean("zzz", []) == "There is nothing to choose from."
    many = did_you_mean("zzz", [f"name {i:02}" for i in range(99)], "condsim ls names")
    listed = ", ".join(f"name {i:02}" for i in range(10))
    assert many == f"Choose one of: {listed} and 89 more (`condsim ls names` lists them)."


def test_ids_that_differ_in_digits_alone_are_not_near() -> None:
    ids = ["focus/7", "focus/8", "change/7"]
    assert nearest_id("focus/9", ids) == "A name is 'focus/7'."
    assert nearest_id("focis/9", ids).startswith("Did you mean 'focus/8' or 'focus/7'")
    assert nearest_id("188.jpg#50.02,3", ["588.jpg#50.13,4"]) == "A name is '588.jpg#50.13,4'."
    assert nearest_id("x", []) == "There is nothing to choose from."


def test_long_lists_and_messages_are_shortened() -> None:
    assert first_of("abcde") == "a, b, c and 2 more"
    assert first_of("abc") == "a, b, c"
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"


def test_what_is_counted_is_in_the_singular_or_the_plural() -> None:
    assert [counted(n, "row") for n in (0, 1, 2000)] == ["0 rows", "1 row", "2,000 rows"]
    assert counted(2, "query", "queries") == "2 queries"


def test_a_file_that_cannot_be_read_is_named_with_what_it_should_be(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none", "does not exist"), (tmp_path, "cannot be read")):
        with pytest.raises(CondsimError, match=rf"{reason}.*\(expected a table\)") as caught, reading(path, "a table"):
            path.read_text()
        assert str(path) in str(caught.value)


def test_rows_that_cannot_be_used_are_counted_and_ten_are_named() -> None:
    error = UnusableRowsError(30, dict.fromkeys(range(12), "is bad"), lambda row: f"{row}.png", skippable=True)
    assert "12 of 30 rows" in str(error)
    assert str(error).count("is bad") == 10
    assert "0.png" in str(error)
    assert error.faults.keys() == set(range(12))
