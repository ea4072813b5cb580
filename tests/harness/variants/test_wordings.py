"""Other words for the conditions of a task: the same queries, another question set."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from builders import make_task
from condsim.harness.errors import CondsimError
from condsim.harness.task import Benchmark
from condsim.harness.variants.wordings import reworded, without_words

TASK = make_task(("color",), ("color", "shape"))
BENCHMARK = Benchmark("bench", (TASK,))


def test_a_template_rewords_each_text_and_nothing_else() -> None:
    (task,) = reworded(BENCHMARK, "with the same {}").tasks
    assert task.conditions == (("with the same color",), ("with the same color", "with the same shape"))
    assert task.fingerprint != TASK.fingerprint
    assert without_words(task).fingerprint == without_words(TASK).fingerprint
    assert task.variant == "wording=with the same {}"
    assert reworded(BENCHMARK, "{}") is BENCHMARK


def test_the_texts_that_are_averaged_are_reworded_too() -> None:
    task = replace(TASK, texts=(("a", "b"), ("c",)), variant="text=caption")
    (other,) = reworded(Benchmark("bench", (task,)), "the {}").tasks
    assert other.texts == (("the a", "the b"), ("the c",))
    assert other.variant == "text=caption wording=the {}"


def test_a_file_lists_the_wordings_of_each_condition(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    path.write_text(json.dumps({"color": ["hue", "tint"], "shape": ["outline", "form"]}), encoding="utf-8")
    (task,) = reworded(BENCHMARK, f"{path}#2").tasks
    assert task.conditions == (("tint",), ("tint", "form"))
    assert task.variant == "wording=words.json#2"


@pytest.mark.parametrize(
    ("content", "number", "message"),
    [
        ({"color": ["hue"], "shapes": ["form"]}, "1", "no wording of the condition 'shape'. Did you mean 'shapes'"),
        ({"color": ["hue"], "shape": ["form"]}, "2", "1 wordings of 'color'"),
        ({"color": "hue"}, "1", "expected a JSON object"),
        ({"color": [""]}, "1", "expected a JSON object"),
        ({}, "0", "expected a text with {} for the condition"),
        ({}, "x", "expected a text with {} for the condition"),
    ],
)
def test_a_condition_without_such_a_wording_is_named(
    tmp_path: Path, content: dict[str, object], number: str, message: str
) -> None:
    path = tmp_path / "words.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CondsimError) as error:
        reworded(BENCHMARK, f"{path}#{number}")
    assert message in str(error.value)
