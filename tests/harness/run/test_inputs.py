"""What a method reads: every text of it, also those that it chooses by features, and every image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from builders import make_task
from condsim.harness.backbone import Backbone
from condsim.harness.errors import NotApplicable
from condsim.harness.features.published.backbone import Precomputed
from condsim.harness.run.inputs import Inputs, inputs_of
from condsim.harness.run.run import rank
from condsim.harness.task import Benchmark, ImageTable, TrainSplit
from condsim.methods.clay import Clay
from condsim.methods.freedom import Freedom
from condsim.methods.joint import Joint
from condsim.methods.neighborhood_rerank import NeighborhoodRerank
from encoders import Space

TASK = make_task(("color",), ("shape",))
BENCHMARK = Benchmark("bench", (TASK,), TrainSplit(ImageTable(Path("train"), ("7.jpg", "8.jpg")), ("a dog",)))
SPACE = Space(width=12)


def files(folder: Path, inputs: Inputs) -> Backbone:
    """A backbone of files that has the features of ``inputs``."""
    names = [key for table in inputs.tables for key in table.keys]
    texts = list(inputs.texts)
    np.savez(folder / "images.npz", names=names, features=SPACE.encode_images(len(names)))
    np.savez(folder / f"{len(texts)}.npz", names=texts, features=SPACE.encode_texts(texts))
    return Precomputed(folder / "images.npz", folder / f"{len(texts)}.npz", cache_dir=folder)


def test_a_run_with_features_of_exactly_these_texts_lacks_none(tmp_path: Path) -> None:
    method = Clay(rank=2)
    inputs = inputs_of(BENCHMARK, TASK, method)
    assert inputs.complete
    assert {"color", "shape", "a photo of color", "a photo of red"} <= set(inputs.texts)
    encoded: list[str] = []
    rank(BENCHMARK, TASK, method, files(tmp_path, inputs), 1, encoded)
    assert set(encoded) == set(inputs.texts)


def test_texts_that_are_chosen_by_features_are_listed_once_the_features_are_there(tmp_path: Path) -> None:
    words = [f"word {i}" for i in range(40)]
    (tmp_path / "words.csv").write_text("\n".join(words))
    method = Freedom(neighbors=2, words_each=2, words=2, vocabulary=str(tmp_path / "words.csv"))
    first = inputs_of(BENCHMARK, TASK, method, width=12)
    assert not first.complete
    assert {"color", "shape", *words} <= set(first.texts)
    second = inputs_of(BENCHMARK, TASK, method, files(tmp_path, first))
    assert second.complete
    assert len(set(second.texts) - {"color", "shape", *words}) in range(2, 5)  # per condition two words with its text
    encoded: list[str] = []
    rank(BENCHMARK, TASK, method, files(tmp_path, second), 1, encoded)
    assert set(encoded) == set(second.texts)


def test_images_and_phrases_of_the_training_split_are_listed() -> None:
    images = inputs_of(BENCHMARK, TASK, NeighborhoodRerank(mode="images", neighbors=1))
    assert [len(table) for table in images.tables] == [5, 2]
    phrases = inputs_of(BENCHMARK, TASK, NeighborhoodRerank(neighbors=1))
    assert set(phrases.texts) == {"color", "shape", "a dog"}


def test_a_method_that_does_not_apply_says_so() -> None:
    with pytest.raises(NotApplicable, match="encodes image and text together"):
        inputs_of(BENCHMARK, TASK, Joint())
