"""The real COLA file: the counts of the protocol, and what the rule for phrases does with its captions."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from condsim.datasets import cola
from condsim.methods.shared.object_parts import object_phrases


@pytest.fixture(scope="module")
def file(annotations: Path) -> Path:
    path = annotations / "binding" / "cola" / "multiobjects.json"
    if not path.is_file():
        pytest.skip(f"{annotations} has no binding/cola/multiobjects.json, COLA's file of pairs")
    return path


def test_counts_and_pairs(file: Path) -> None:
    (task,) = cola.load(str(file), on_error="survey").tasks  # type: ignore[arg-type]
    assert (len(task), len(task.images), len(task.conditions)) == (420, 218, 294)
    assert task.candidates is not None
    assert task.clusters is not None
    names = task.images.names
    for i, entry in enumerate(json.loads(file.read_text())):
        images = [link.rsplit("/", 1)[1] for link in entry[::2]]
        for place in range(2):
            query = 2 * i + place
            assert task.conditions[task.condition[query]] == (entry[2 * place + 1],)
            assert [names[row] for row in task.candidates[query]] == images
            assert [names[row] for row in task.relevant[query]] == [images[place]]
            assert task.clusters[query] == i


def test_nearly_every_caption_divides_into_two_phrases(file: Path) -> None:
    captions = [caption for entry in json.loads(file.read_text()) for caption in entry[1::2]]
    assert Counter(len(object_phrases(caption)) for caption in captions) == {2: 415, 1: 5}
