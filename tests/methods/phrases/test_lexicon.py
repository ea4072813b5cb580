import json
import os
from collections import Counter
from pathlib import Path

import pytest

from condsim.harness.errors import CondsimError
from condsim.methods.phrases.entries import read_sections
from condsim.methods.phrases.lexicon import LEXICON, Lexicon

ANNOTATIONS = Path(os.environ.get("CONDSIM_ANNOTATIONS", Path(__file__).parents[4] / "shared/data"))


def conditions_of(task: str) -> set[str]:
    file = ANNOTATIONS / "genecis" / f"{task}.json"
    if not file.exists():
        pytest.skip(f"{file} is missing: set CONDSIM_ANNOTATIONS to the folder of the real annotations")
    return {template["condition"] for template in json.loads(file.read_text())}


def test_the_lexicon_has_values_for_all_conditions_of_the_real_focus_attribute_task() -> None:
    types = conditions_of("focus_attribute")
    assert len(types) == 40
    lexicon = Lexicon()
    assert lexicon.missing(sorted(types)) == []
    assert min(len(lexicon.values(name)) for name in types) >= 20


@pytest.mark.parametrize("task", ["change_attribute", "focus_object", "change_object"])
def test_no_condition_of_the_other_real_tasks_passes_for_an_attribute_type(task: str) -> None:
    conditions = sorted(conditions_of(task))
    assert Lexicon().missing(conditions) == conditions


@pytest.mark.parametrize("name", ["color", "material", "shape", "texture", "pattern", "location", "activity", "size"])
def test_the_big_conditions_have_more_values_than_the_published_rank(name: str) -> None:
    assert len(Lexicon().values(name)) > 50


def test_the_lexicon_has_values_for_the_attributes_of_the_rendered_world() -> None:
    from condsim.datasets.shapes.world import ATTRIBUTES

    lexicon = Lexicon("shapes")
    assert lexicon.missing(list(ATTRIBUTES)) == []
    for attribute, values in ATTRIBUTES.items():
        words = {word for value in lexicon.values(attribute) for word in value.split()}
        assert set(values) <= words


@pytest.mark.parametrize("section", ["common", "shapes"])
def test_no_value_is_listed_twice_under_a_condition(section: str) -> None:
    for values in read_sections(LEXICON)[section].values():
        assert max(Counter(value.casefold() for value in values).values()) == 1


def test_spelling_is_forgiven() -> None:
    assert Lexicon().values(" Hair  COLOR ") == Lexicon().values("hair color")


def test_a_users_file_adds_and_replaces(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("Breed of sheep: [merino, ' suffolk ', Merino]\ncolor: [red, green]\n")
    lexicon = Lexicon(file=str(file))
    assert lexicon.values("breed of sheep") == ("merino", "suffolk")
    assert lexicon.values("color") == ("red", "green")
    assert len(lexicon.values("shape")) > 50


def test_every_value_is_read_as_the_text_that_it_is(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(
        "lights: [on, off]\ntime: [12:30, 1:00]\nyes: [no, ~, 3, 3.0, 0x10, null, true, 2001-01-01, '${oc.env:HOME}']\n"
    )
    lexicon = Lexicon(file=str(file))
    assert lexicon.values("lights") == ("on", "off")
    assert lexicon.values("time") == ("12:30", "1:00")
    assert lexicon.values("Yes") == ("no", "~", "3", "3.0", "0x10", "null", "true", "2001-01-01", "${oc.env:HOME}")


def test_an_alias_repeats_the_values_of_its_anchor(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("\ufeffhue: &hue [red, blue]\ntint: *hue\n")
    assert Lexicon(file=str(file)).values("tint") == ("red", "blue")


def test_a_missing_condition_names_the_nearest_and_how_to_add_it() -> None:
    with pytest.raises(CondsimError, match=r"'hair colr'.*'hair color'.*method.phrases.file"):
        Lexicon().values("hair colr")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("color: red", "list of values, found the text 'red'"),
        ("color: [red]", "two distinct"),
        ("color: [red, RED]", "two distinct"),
        ("color: [red, [blue]]", "must be text, found a list"),
        ("color: [red, '']", "must be printable text"),
        ('color: [red, "\\e[31mblue"]', "must be printable text"),
        ("- red\n- blue", "found a list"),
        ("", "is empty"),
        ("color: {_target_: os.system, command: touch}", "list of values, found a mapping"),
        ("color: !!python/object/apply:os.system [touch x, touch y]", "found the tag 'python/object/apply:os.system'"),
        ("color: [!!int 3, !!int 4]", "found the tag 'int'"),
        ("color: " + "[" * 500, "nested too deep"),
        (
            "a: &a [x, y]\n"
            + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)),
            "'b': a value must be text, found a list",
        ),
        ("color: &c [*c, *c]", "must be text, found a list"),
        ("color: [red, blue", "YAML"),
        ("color: [a, b]\nColor: [c, d]", "line 2: duplicate condition 'color', first in line 1"),
    ],
)
def test_a_broken_file_is_named_with_the_entry(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(text)
    with pytest.raises(CondsimError, match=message) as error:
        Lexicon(file=str(file))
    assert "my.yaml" in str(error.value)


def test_a_file_that_is_not_there_and_a_section_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CondsimError, match="no such file"):
        Lexicon(file=str(tmp_path / "none.yaml"))
    with pytest.raises(CondsimError, match="'common'"):
        Lexicon("comon")


def test_the_lexicon_lies_beside_the_code() -> None:
    assert LEXICON.exists()
