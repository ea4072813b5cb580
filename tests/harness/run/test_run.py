"""One run: what a method receives, what it may do with it, and what is recorded."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from condsim.harness.errors import CondsimError, NotApplicable
from condsim.harness.files.memory_map import is_mapped, map_npy
from condsim.harness.method import Gallery, Method, Queries, Scorer
from condsim.harness.run.identity import RunSettings
from condsim.harness.run.isolation import isolated
from condsim.harness.run.record import read_record, record_folder
from condsim.harness.run.run import measure_task, rank
from condsim.harness.task import Benchmark, ImageTable, Ragged, Task, TrainSplit

ITEMS, WIDTH = 40, 8


def benchmark(gallery: Sequence[int] = range(ITEMS)) -> Benchmark:
    rng = np.random.default_rng(0)
    rows = np.arange(ITEMS)
    task = Task(
        "toy", "one", ImageTable(Path("nowhere"), tuple(f"{row}.png" for row in rows)),
        conditions=(("color",), ("shape", "size")), condition=rng.integers(2, size=ITEMS), reference=rows,
        relevant=Ragged.of(np.flatnonzero(np.array(gallery) % 4 == row % 4).take([0]) for row in rows),
        metrics=("recall@1", "map"), gallery=np.array(gallery),
    )  # fmt: skip
    return Benchmark("toy", (task,), TrainSplit(task.images, ("a dog",)))


class Backbone:
    """Keeps its features in memory and hands them out, as ours do."""

    name, width, device = "tiny", WIDTH, torch.device("cpu")

    def __init__(self) -> None:
        self.identity = {"model": "tiny"}
        self.forget_features()

    def forget_features(self) -> None:
        draw = torch.Generator().manual_seed(0)
        self.images, self.texts = torch.randn(ITEMS, WIDTH, generator=draw), torch.randn(9, WIDTH, generator=draw)

    def images_digest(self, table: ImageTable) -> str:
        return ""

    def encode_images(self, table: ImageTable) -> Tensor:
        return self.images[: len(table)]

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        return self.texts[: len(texts)]


class Mine(Method):
    """A user's method. ``act`` may do what it should not, at one of two places."""

    def __init__(
        self,
        prepare: Callable[[Gallery], object] = id,
        score: Callable[[Queries, Tensor | None], object] = lambda q, r: 0,
    ) -> None:
        self.acts = prepare, score

    def prepare(self, gallery: Gallery) -> Scorer:
        self.acts[0](gallery)
        items = gallery.features.clone()

        def score(queries: Queries, rows: Tensor | None = None) -> Tensor:
            self.acts[1](queries, rows)
            assert rows is None
            return (queries.reference + queries.text) @ items.T

        return score


class Noting(Mine):
    def prepare(self, gallery: Gallery) -> Scorer:
        scorer = super().prepare(gallery)
        scorer.notes = lambda: ["a note of the scorer"]  # type: ignore[attr-defined]
        return scorer


class ReadsTrain(Mine):
    reads_train = True


def scores_of(backbone: Any, method: Method, made: Benchmark | None = None) -> list[float]:
    made = made or benchmark()
    ranking, _ = rank(made, made.tasks[0], method, backbone, 5)
    return ranking.ranks.rank.tolist()


WRITES: dict[str, Callable[[Gallery], object]] = {
    "gallery.features": lambda gallery: gallery.features.abs_(),
    "features, normalised": lambda gallery: gallery.features.div_(gallery.features.norm(dim=1, keepdim=True)),
    "features, one number": lambda gallery: gallery.features[3].__setitem__(0, 7.0),
    "features, by NumPy": lambda gallery: np.copyto(gallery.features.numpy(), 0),
    "features, as data": lambda gallery: gallery.features.data.mul_(-1),
    "gallery.condition_features": lambda gallery: gallery.condition_features.mul_(-1),
    "texts, by NumPy": lambda gallery: np.copyto(gallery.condition_features.numpy(), 0),
}


@pytest.mark.parametrize("how", WRITES)
def test_a_method_that_writes_into_features_is_refused_and_changes_no_other(how: str) -> None:
    backbone = Backbone()
    alone = scores_of(Backbone(), Mine())
    with pytest.raises(CondsimError, match=r"Mine wrote into gallery\.(condition_)?features.*clone\(\)"):
        scores_of(backbone, Mine(WRITES[how]))
    assert scores_of(backbone, Mine()) == alone


def test_the_error_of_a_method_that_writes_and_then_fails_is_about_writing() -> None:
    def write_and_fail(gallery: Gallery) -> None:
        gallery.features.abs_()
        raise ZeroDivisionError

    with pytest.raises(CondsimError, match="Mine wrote into"):
        scores_of(Backbone(), Mine(write_and_fail))


def test_writing_into_the_training_split_is_refused() -> None:
    backbone = Backbone()
    alone = scores_of(Backbone(), Mine())
    with pytest.raises(CondsimError, match=r"ReadsTrain wrote into gallery\."):
        scores_of(backbone, ReadsTrain(lambda gallery: gallery.train().images.abs_()))
    assert scores_of(backbone, Mine()) == alone


def test_texts_that_a_method_encodes_are_its_own() -> None:
    backbone = Backbone()
    alone = scores_of(Backbone(), Mine())
    assert scores_of(backbone, Mine(lambda gallery: gallery.encode_texts(["red", "blue"]).zero_())) == alone
    assert scores_of(backbone, Mine()) == alone


@pytest.mark.parametrize("name", ["reference", "text"])
def test_writing_into_queries_is_refused(name: str) -> None:
    with pytest.raises(CondsimError, match="the method wrote into"):
        scores_of(Backbone(), Mine(score=lambda queries, rows: getattr(queries, name).mul_(0)))


def test_a_backbone_that_cannot_forget_gets_its_features_copied() -> None:
    class Simple:
        name, width, device, identity = "simple", WIDTH, torch.device("cpu"), {"model": "simple"}

        def __init__(self) -> None:
            self.images = Backbone().images

        def encode_images(self, table: ImageTable) -> Tensor:
            return self.images

        def encode_texts(self, texts: Sequence[str]) -> Tensor:
            return self.images[: len(texts)]

    backbone = Simple()
    with pytest.raises(CondsimError, match="Mine wrote into"):
        scores_of(backbone, Mine(WRITES["gallery.features"]))
    assert torch.equal(backbone.images, Backbone().images)


def test_the_training_split_is_for_methods_that_say_so() -> None:
    with pytest.raises(CondsimError, match=r"reads_train = True in the class Mine"):
        scores_of(Backbone(), Mine(lambda gallery: gallery.train()))
    with pytest.raises(NotApplicable, match="no training split"):
        scores_of(Backbone(), ReadsTrain(lambda gallery: gallery.train()), replace(benchmark(), train=None))


def test_what_a_method_changes_in_the_process_is_put_back(tmp_path: Path) -> None:
    before = os.getcwd(), torch.get_default_dtype(), torch.is_grad_enabled(), sys.stdout, torch.get_num_threads()

    def meddle(gallery: Gallery) -> None:
        os.chdir(tmp_path)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.set_num_threads(before[4] + 1)
        sys.stdout = None  # type: ignore[assignment]

    made = benchmark()
    measure_task(made, made.tasks[0], Mine(meddle), Backbone(), RunSettings("mine", {}, {}, 100))
    after = os.getcwd(), torch.get_default_dtype(), torch.is_grad_enabled(), sys.stdout, torch.get_num_threads()
    assert before == after


def test_a_method_cannot_close_the_output() -> None:
    made = benchmark()
    with pytest.raises(CondsimError, match="must not close the output"):
        measure_task(
            made, made.tasks[0], Mine(lambda _: sys.stdout.close()), Backbone(), RunSettings("mine", {}, {}, 100)
        )
    assert not sys.stdout.closed


def test_a_method_cannot_end_the_process_but_its_own_child_can() -> None:
    process = os.fork()
    if process == 0:  # a fault here ends this child, and not the tests
        with suppress(CondsimError), isolated():
            child = os.fork()
            if child == 0:
                os._exit(3)
            child_status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            os._exit(0)
        os._exit(child_status)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 3


def test_no_number_depends_on_the_runs_before_it() -> None:
    drawn: list[tuple[float, ...]] = []
    method = Mine(lambda _: drawn.append((random.random(), float(np.random.rand()), float(torch.rand(1)))))
    made = benchmark()
    state = torch.get_rng_state()
    for _ in range(2):
        measure_task(made, made.tasks[0], method, Backbone(), RunSettings("mine", {}, {}, 100))
    assert drawn[0] == drawn[1]
    assert torch.equal(state, torch.get_rng_state())


def test_a_record_is_written_with_its_files(tmp_path: Path) -> None:
    made = benchmark()
    settings = RunSettings("mine", {}, {}, 100, top=3)
    record = measure_task(made, made.tasks[0], Noting(), Backbone(), settings).write(tmp_path)
    folder = record_folder(tmp_path, "toy", "one", "mine", record.run)
    assert read_record(folder) == record
    assert set(record.files) == {"ranks.npz", "top.npy"}
    assert np.load(folder / "top.npy").shape == (ITEMS, record.top) == (ITEMS, 3)
    assert record.versions["condsim"]
    assert "a note of the scorer" in record.notes
    assert "0.1.0" not in str(record.config)


def test_pictures_that_change_during_a_run_are_no_run() -> None:
    class Changing(Backbone):
        seen = 0

        def images_digest(self, table: ImageTable) -> str:
            self.seen += 1
            return str(self.seen)

    made = benchmark()
    with pytest.raises(CondsimError, match="changed during the run"):
        measure_task(made, made.tasks[0], Mine(), Changing(), RunSettings("mine", {}, {}, 100))


@pytest.mark.parametrize(
    ("gallery", "mapped", "own"), [([0, 1], False, False), ([0, 1], True, True), ([1], False, True), ([1], True, True)]
)
def test_a_gallery_is_copied_only_where_it_has_to_be(
    tmp_path: Path, gallery: list[int], mapped: bool, own: bool
) -> None:
    """A gallery of gigabytes is not held twice, and one in a file is held by a method that does not read files."""
    np.save(tmp_path / "features.npy", np.eye(2, 3, dtype=np.float32))
    images = map_npy(tmp_path / "features.npy") if mapped else torch.eye(2, 3)
    seen: list[torch.Tensor] = []

    class Backbone3(Backbone):
        width = 3

        def encode_images(self, table: ImageTable) -> Tensor:
            return images

        def encode_texts(self, texts: Sequence[str]) -> Tensor:
            return torch.ones(len(texts), 3)

    table = ImageTable(tmp_path, ("a.png", "b.png"))
    task = Task(
        "toy", "one", table, conditions=(("color",),), condition=np.array([0]), reference=np.array([0]),
        relevant=Ragged.of([[1]]), metrics=("recall@1",), gallery=np.array(gallery),
    )  # fmt: skip
    rank(Benchmark("toy", (task,)), task, Mine(lambda given: seen.append(given.features)), Backbone3(), 1)
    assert torch.equal(seen[0], torch.eye(2, 3)[gallery])
    assert not is_mapped(seen[0])
    assert (seen[0].data_ptr() != images.data_ptr()) == own


def test_a_method_gets_the_texts_of_its_task_and_pseudo_words_where_the_backbone_has_them() -> None:
    class WithPseudoWords(Backbone):
        def encode_texts_with(self, texts: Sequence[str], vectors: Tensor) -> Tensor:
            return self.texts[: len(texts)]

    task = replace(benchmark().tasks[0], texts=(("red", "a red one"), ("small",)))
    received: list[Gallery] = []
    for backbone in (Backbone(), WithPseudoWords()):
        rank(Benchmark("toy", (task,), None), task, Mine(received.append), backbone, 5)
    plain, able = received
    assert plain.encode_texts_with is None
    assert able.encode_texts_with is not None
    assert plain.texts == able.texts == task.texts
    vectors = torch.zeros(2, 7)
    mine = able.encode_texts_with(["a $", "$"], vectors)
    mine.zero_()
    assert able.encode_texts_with(["a $", "$"], vectors).abs().min() > 0


WRONG_FEATURES: dict[str, tuple[str, Callable[[Tensor], object], str]] = {
    "a row too few": (
        "encode_images",
        lambda x: x[1:],
        r"a float32 .*\(39, 8\), expected .*\(40, 8\): one row per image",
    ),
    "another width": ("encode_images", lambda x: x[:, :7], r"a float32 .*\(40, 7\), expected .*\(40, 8\)"),
    "numpy": ("encode_texts", lambda x: x.numpy(), r"numpy\.ndarray, expected .*\(2, 8\): one row per text"),
    "float64": ("encode_texts", lambda x: x.double(), "a float64 tensor"),
    "NaN": ("encode_images", lambda x: x / (x[:, :1] != x[3, 0]), r"NaN or infinity for '3\.png'"),
}


@pytest.mark.parametrize("what", WRONG_FEATURES)
def test_features_of_a_users_backbone_that_are_no_float_rows_are_refused(what: str) -> None:
    part, change, message = WRONG_FEATURES[what]

    class Own:
        name, width, device, identity = "own", WIDTH, torch.device("cpu"), {"model": "own"}

        def encode_images(self, table: ImageTable) -> object:
            features = Backbone().images
            return change(features) if part == "encode_images" else features

        def encode_texts(self, texts: Sequence[str]) -> object:
            features = Backbone().texts[: len(texts)]
            return change(features) if part == "encode_texts" else features

    with pytest.raises(CondsimError, match=rf"Own\.{part} returned {message}"):
        scores_of(Own(), Mine())


def test_prepare_that_returns_no_function_is_named() -> None:
    class Forgot(Mine):
        def prepare(self, gallery: Gallery) -> Scorer:
            return None  # type: ignore[return-value]

    with pytest.raises(CondsimError, match=r"Forgot\.prepare returned NoneType, expected a function"):
        scores_of(Backbone(), Forgot())


def test_an_assignment_to_the_queries_says_how_to_do_it() -> None:
    def add(queries: Queries, rows: Tensor | None) -> None:
        queries.reference += 1  # type: ignore[misc]

    with pytest.raises(CondsimError, match=r"Mine: cannot assign to field 'reference': .* a clone"):
        scores_of(Backbone(), Mine(score=add))
