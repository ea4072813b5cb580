"""A setting that is chosen on validation data: by its score there, never by the reported task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from condsim.harness.errors import CondsimError
from condsim.harness.method import Queries
from condsim.harness.one_vector import OneVector
from condsim.harness.run.choice import Candidate, Choice
from condsim.harness.run.identity import RunSettings, identify
from condsim.harness.run.record import read_record, record_folder
from condsim.harness.run.run import measure_task
from condsim.harness.task import Benchmark, ImageTable, Ragged, Task

ITEMS = 30


class Backbone:
    """Picture k of folder "a" points at angle k, and the text is a turn by one step; in folder "b" by two steps."""

    name, width, device = "circle", 2, torch.device("cpu")

    @property
    def identity(self) -> dict[str, str]:
        return {"model": "circle"}

    def images_digest(self, table: ImageTable) -> str:
        return str(table.root)

    def encode_images(self, table: ImageTable) -> Tensor:
        angle = 2 * torch.pi * torch.arange(len(table)) / ITEMS
        return torch.stack((angle.cos(), angle.sin()), dim=1)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        return torch.zeros(len(texts), 2)


class Turn(OneVector):
    """Turns the reference by ``steps`` pictures."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def embed(self, queries: Queries) -> Tensor:
        x, y = queries.reference.unbind(dim=1)
        angle = torch.tensor(2 * torch.pi * self.steps / ITEMS)
        return torch.stack((x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()), dim=1)


def task(folder: str, right: int, name: str = "one", metrics: tuple[str, ...] = ("recall@1", "map")) -> Task:
    """The answer to picture k is picture k + ``right``."""
    rows = np.arange(ITEMS)
    return Task(
        "toy", name, ImageTable(Path(folder), tuple(f"{row}.png" for row in rows)), conditions=(("turn",),),
        condition=np.zeros(ITEMS, dtype=np.int64), reference=rows,
        relevant=Ragged.of([[(row + right) % ITEMS] for row in rows]), metrics=metrics, gallery=rows,
    )  # fmt: skip


def choice(*tasks: Task, steps: Sequence[int] = (0, 1, 2, 3), metric: str | None = None) -> Choice:
    candidates = tuple(Candidate({"steps": step}, Turn(step)) for step in steps)
    return Choice(candidates, Benchmark("toy", tasks), metric)


def settings(rule: Choice) -> RunSettings:
    return RunSettings("turn", {"steps": "val"}, {"steps": "val"}, resamples=100, choice=rule)


def test_the_value_is_the_best_on_validation_and_not_on_the_task(tmp_path: Path) -> None:
    reported, validation = task("a", right=1), task("b", right=2)
    run = measure_task(Benchmark("toy", (reported,)), reported, Turn(0), Backbone(), settings(choice(validation)))
    record = run.write(tmp_path)
    folder = record_folder(tmp_path, "toy", "one", "turn", record.run)
    assert read_record(folder) == record
    assert record.metrics["recall@1"].value == 0.0  # steps=1 would be right here, steps=2 is right on validation
    assert record.choice["chosen"] == {"steps": 2}
    assert record.choice["score"] == 1.0
    assert [entry["values"]["steps"] for entry in record.choice["candidates"]] == [0, 1, 2, 3]
    assert [entry["score"] < 1 for entry in record.choice["candidates"]] == [True, True, False, True]
    assert record.settings == {"steps": "val"}
    assert record.notes == ["steps=2 was chosen among 4 candidates on toy/one, recall@1: 100.0 there"]


def test_the_identity_holds_the_rule_and_not_the_value() -> None:
    reported = task("a", right=1)
    benchmark = Benchmark("toy", (reported,))

    def run(rule: Choice) -> str:
        return identify(benchmark, reported, Turn(0), Backbone(), settings(rule)).run

    usual = run(choice(task("b", right=2)))
    assert usual == run(choice(task("b", right=2)))
    others = {
        run(choice(task("b", right=3))),  # other answers
        run(choice(task("c", right=2))),  # other pictures
        run(choice(task("b", right=2), steps=(0, 1, 2))),
        run(choice(task("b", right=2), metric="map")),
        identify(benchmark, reported, Turn(2), Backbone(), RunSettings("turn", {"steps": 2}, {}, 100)).run,
    }
    assert len(others | {usual}) == 6


def test_of_equal_candidates_the_first_is_chosen() -> None:
    method, outcome = choice(task("b", 2), steps=(3, 0, 1)).best(task("a", 1), lambda method, other, metric: 0.25)
    assert isinstance(method, Turn)
    assert (method.steps, outcome["chosen"], outcome["score"]) == (3, {"steps": 3}, 0.25)


def test_the_validation_task_of_the_same_name_is_used_else_the_mean_over_all() -> None:
    one, two = task("b", right=1, name="one"), task("b", right=2, name="two")
    rule = choice(one, two)
    assert [other.name for other, _ in rule.measures(task("a", 1, name="two"))] == ["two"]
    assert [other.name for other, _ in rule.measures(task("a", 1, name="three"))] == ["one", "two"]
    _, outcome = rule.best(
        task("a", 1, name="three"), lambda method, other, metric: {"one": 0.2, "two": 0.4}[other.name]
    )
    assert outcome["score"] == pytest.approx(0.3)


def test_a_setting_is_never_chosen_on_the_reported_queries() -> None:
    reported = task("a", right=1)
    with pytest.raises(CondsimError, match=r"30 validation queries \(toy/one\) are queries of toy/one too"):
        choice(task("a", right=1)).measures(reported)
    few = replace(task("a", right=1), gallery=np.arange(ITEMS)[::-1].copy(), metrics=("recall@5",))
    with pytest.raises(CondsimError, match="are queries of toy/one too"):  # another gallery and metric do not help
        choice(few).measures(reported)
    choice(task("a", right=2)).measures(reported)  # the same pictures with other answers: other questions


def test_validation_data_without_answers_is_refused() -> None:
    with pytest.raises(CondsimError, match="no task of the validation data toy has answers and fits the method"):
        choice(task("b", right=2, metrics=())).measures(task("a", right=1))
    with pytest.raises(CondsimError, match=r"validation\.metric=recall@7: toy/one has recall@1, map"):
        choice(task("b", right=2), metric="recall@7").measures(task("a", right=1))
