"""Names that look alike get one spelling, and names that differ keep their difference."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condsim.harness import names
from condsim.harness.names import clean_label, clean_path, clean_text, notes_on_alike, unusable_character

LOOKS_LIKE_CAFE = [
    "café",
    "cafe\u0301",
    " café",
    "café\u00a0",
    "\ufeffcafé",
    "\u202fcafé\u3000\n",
    "\u200b\ufeff café \u200b",
]


@pytest.mark.parametrize("text", LOOKS_LIKE_CAFE)
@pytest.mark.parametrize("clean", [clean_text, clean_label, clean_path])
def test_twins_have_one_spelling(text: str, clean: object) -> None:
    assert callable(clean)
    assert clean(text) == "caf\u00e9"


@pytest.mark.parametrize(
    "path", ["./a/b.png", "a\\b.png", ".\\a\\b.png", "a//b.png", "a/./b.png", " a/b.png ", "a/b.png"]
)
def test_one_file_has_one_path(path: str) -> None:
    assert clean_path(path) == "a/b.png"


def test_what_names_different_things_stays_different() -> None:
    assert clean_path("../a.png") == "../a.png"
    assert clean_path("/a.png") == "/a.png"
    assert clean_path("a  b.png") != clean_path("a b.png")
    assert clean_label("Red") != clean_label("red")
    assert clean_text("a  b") == "a  b"
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    assert clean_label(family) == family, "joiners inside an emoji are part of it"


def test_labels_have_single_spaces() -> None:
    assert clean_label(" dark \u00a0\tred\n") == "dark red"


def test_invisible_characters_are_no_part_of_a_label() -> None:
    assert clean_label("r\u200be\u00add\u200e") == "red"


@pytest.mark.parametrize("name", ["a\x00b", "a\nb", "a\x1b[31m", "caf\udce9.jpg", "a\u2028b"])
def test_what_no_name_may_hold(name: str) -> None:
    assert unusable_character(name)


@pytest.mark.parametrize("name", ["at 3.45\u202fPM.png", "12:30:01.png", "\U0001f468\u200d\U0001f373.png", "é", "a\\b"])
def test_odd_names_that_are_names(name: str) -> None:
    assert unusable_character(name) is None


def test_twins_in_case_are_named() -> None:
    notes = notes_on_alike(["red", "Red", "RED", "blue", "Straße", "STRASSE"], "labels")
    assert [note.partition(": ")[2] for note in notes] == ["'RED', 'Red', 'red'", "'STRASSE', 'Straße'"]
    assert notes_on_alike(["red", "blue"], "labels") == ()
    (note,) = notes_on_alike(["red", "Red"], "labels of 'color'")
    assert note == "labels of 'color' that differ only in case count as different: 'Red', 'red'"


@given(st.text() | st.text("a ./\\\u00a0\ufeff"))
def test_cleaning_again_changes_nothing(text: str) -> None:
    for clean in (clean_text, clean_label, clean_path):
        assert clean(clean(text)) == clean(text)


def test_a_part_that_was_removed_leaves_no_blank() -> None:
    assert clean_path("a.png /.") == "a.png"


def test_examples_of_the_docstrings() -> None:
    results = doctest.testmod(names)
    assert results.attempted > 0
    assert results.failed == 0
