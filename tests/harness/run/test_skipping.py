"""What a run does about images that cannot be encoded, by the benchmark's on_error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from condsim.harness.errors import CondsimError, UnusableRowsError
from condsim.harness.run.skipping import without_unusable_images
from condsim.harness.task import Benchmark, ImageTable, OnError, Ragged, Task, TrainSplit


class Backbone:
    """Refuses some names, in rounds as the real one does: missing files first."""

    name, width, device = "stub", 2, torch.device("cpu")

    def __init__(self, *rounds: set[str], skippable: bool = True) -> None:
        self.identity = {"model": "stub"}
        self.rounds, self.skippable = rounds, skippable

    def encode_images(self, table: ImageTable) -> Tensor:
        for bad in self.rounds:
            faults = {row: "is bad" for row, name in enumerate(table.names) if name in bad}
            if faults:
                raise UnusableRowsError(len(table), faults, lambda row: table.names[row], skippable=self.skippable)
        return torch.tensor([[ord(name), 0.0] for name in table.names])

    def encode_texts(self, texts: object) -> Tensor:
        raise NotImplementedError


def benchmark(on_error: OnError | None) -> Benchmark:
    rows = np.arange(4)
    task = Task(
        "toy", "any", ImageTable(Path("here"), tuple("abcde")), (("color",),), 0 * rows, rows,
        Ragged.of(rows[:, None]), ("map",), gallery=np.arange(5),
    )  # fmt: skip
    return Benchmark("toy", (task,), on_error=on_error)


def error_of(backbone: Backbone, made: Benchmark) -> UnusableRowsError:
    with pytest.raises(UnusableRowsError) as caught:
        backbone.encode_images(made.tasks[0].images)
    return caught.value


def test_with_skip_every_image_that_cannot_be_used_is_left_out() -> None:
    made, backbone = benchmark("skip"), Backbone({"b"}, {"d", "e"})
    same, task = without_unusable_images(made, made.tasks[0], backbone, error_of(backbone, made))
    assert same is made
    assert task.images.names == ("a", "c")
    assert [task.query_ids, [message.split(":")[0] for message in task.skipped]] == [
        ("0", "2"), ["here/b", "query 1", "here/d", "here/e", "query 3"],
    ]  # fmt: skip


def test_with_skip_images_of_the_training_split_are_left_out_too() -> None:
    made = replace(benchmark("skip"), train=TrainSplit(ImageTable(Path("train"), tuple("xyz")), ("a dog",)))
    assert made.train is not None
    backbone = Backbone({"z"}, {"x"})
    with pytest.raises(UnusableRowsError) as caught:
        backbone.encode_images(made.train.images)
    less, task = without_unusable_images(made, made.tasks[0], backbone, caught.value)
    assert less.train is not None
    assert (less.train.images.names, less.train.phrases) == (("y",), ("a dog",))
    assert task.skipped == ("training split: train/z: is bad", "training split: train/x: is bad")
    assert task.fingerprint == made.tasks[0].fingerprint


def test_without_skip_the_message_says_what_can_be_done() -> None:
    made, backbone = benchmark("raise"), Backbone({"b"})
    with pytest.raises(CondsimError, match=r"1 of 5 rows(.|\n)*b: is bad(.|\n)*condsim check(.|\n)*on_error=skip"):
        without_unusable_images(made, made.tasks[0], backbone, error_of(backbone, made))


@pytest.mark.parametrize("on_error", ["skip", "raise", None])
def test_what_is_no_fault_of_the_images_is_never_skipped(on_error: OnError | None) -> None:
    made, backbone = benchmark(on_error), Backbone({"b"}, skippable=False)
    with pytest.raises(UnusableRowsError) as caught:
        without_unusable_images(made, made.tasks[0], backbone, error_of(backbone, made))
    assert "on_error=skip" not in str(caught.value)
    about_texts = UnusableRowsError(1, {0: "is no text"}, str)
    with pytest.raises(CondsimError, match="is no text"):
        without_unusable_images(made, made.tasks[0], Backbone(), about_texts)


def test_a_benchmark_without_the_setting_gets_no_hint_to_it() -> None:
    made, backbone = benchmark(None), Backbone({"b"})
    with pytest.raises(UnusableRowsError) as caught:
        without_unusable_images(made, made.tasks[0], backbone, error_of(backbone, made))
    assert "on_error" not in str(caught.value)
