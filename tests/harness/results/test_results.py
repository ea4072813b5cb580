"""A results folder from a notebook: damage is named and leaves out one run, foreign names are never paths."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import condsim
from builders import Methods, make_results
from condsim.harness.errors import CondsimError
from condsim.harness.results.figures import figures
from condsim.harness.results.question_set import group_runs
from condsim.harness.results.results import Results
from condsim.harness.results.significance import significance_letters
from condsim.harness.results.stored_run import StoredRun

METHODS: Methods = (("one", 1.0, {}), ("two", 0.5, {}), ("three", 0.0, {}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_results(tmp_path / "results", queries=20, methods=METHODS)


@pytest.fixture
def one_plot(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Results.plots` draws the first one only."""
    monkeypatch.setattr(
        "condsim.harness.results.plots.figures", lambda groups, notes: islice(figures(groups, notes), 1)
    )


@pytest.mark.usefixtures("no_charts")
def test_the_public_names_read_a_folder(results_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: path.touch())
    results = condsim.Results(results_folder)
    board = results.leaderboard()
    assert isinstance(board, condsim.Leaderboard)
    best = board.best("toy/focus")
    assert isinstance(best, condsim.Entry)
    assert isinstance(best.headline, condsim.Measurement)
    comparison = results.compare("toy/focus")
    assert comparison.comparison.runs[0].startswith(best.method)
    assert comparison.to_latex().count(r"\toprule") == 1
    assert results.report(tmp_path / "report.html", queries=1)["records"] == 14
    assert len(results.plots(tmp_path / "plots", ["svg"], method="clay")) == 5
    assert results.notes == []


def test_a_measurement_is_the_same_object_from_the_record_to_the_entry(results_folder: Path) -> None:
    results = Results(results_folder)
    records = {run.run: run.record for run in results.runs}
    for entry in results.leaderboard().entries:
        if not entry.is_mean:
            assert all(entry.metrics[name] is metric for name, metric in records[entry.run].metrics.items())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ranks.npz", "top.npy", "record.json"])
@pytest.mark.usefixtures("no_charts", "one_plot")
def test_a_damaged_file_leaves_out_its_run_only_everywhere(folder: Path, tmp_path: Path, name: str) -> None:
    (damaged,) = (folder / "runs/toy/focus").glob("two-*")
    data = (damaged / name).read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(data), 3):
        (damaged / name).write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        results = Results(folder)
        methods = {entry.method for entry in results.leaderboard().select(task="focus").entries}
        assert methods == {"one", "three"}
        assert {run.split()[0] for run in results.compare("toy/focus").comparison.runs} == {"one", "three"}
        assert len(results.leaderboard().select(task="find").entries) == 3
        (note,) = results.notes
        assert str(damaged) in note
    results.report(tmp_path / "report.html", queries=2)
    page = (tmp_path / "report.html").read_text()
    assert f"runs/toy/focus/{damaged.name}" in page
    assert str(tmp_path) not in page
    assert results.plots(tmp_path / "plots", ["svg"])


@pytest.mark.slow
@pytest.mark.usefixtures("no_charts", "one_plot")
def test_a_damaged_task_file_is_named_and_the_rest_is_shown(folder: Path, tmp_path: Path) -> None:
    (path,) = (folder / "runs/toy/focus").glob("task-*.npz")
    (other,) = (folder / "runs/toy/find").glob("task-*.npz")
    for data, reason in ((b"nothing", "not a task file"), (other.read_bytes(), "another task")):
        path.write_bytes(data)
        results = Results(folder)
        assert len(results.leaderboard().select(task="focus").entries) == 3
        results.report(tmp_path / "report.html", queries=2)
        assert reason in " ".join(results.notes)
        page = (tmp_path / "report.html").read_text()
        assert "toy/focus" in page
        assert reason in page
        assert {path.name for path in results.plots(tmp_path / reason, ["svg"])} >= {"toy-tasks.svg"}


def test_names_in_a_record_are_never_paths(folder: Path, tmp_path: Path) -> None:
    runs = [
        StoredRun(run.folder, replace(run.record, benchmark="../../../outside", task=str(tmp_path / "absolute")))
        for run in Results(folder).runs
        if run.record.task == "focus"
    ]
    before = set(tmp_path.rglob("*"))
    notes: list[str] = []
    letters = significance_letters(group_runs(runs), notes)
    assert set(letters) == {run.run for run in runs}
    assert set(tmp_path.rglob("*")) - before == {folder / "runs/toy/focus/letters.json"}


def test_a_folder_that_cannot_be_written_is_shown_and_is_one_message(folder: Path) -> None:
    (folder / "leaderboard.csv").mkdir()
    results = Results(folder)
    assert len(results.leaderboard()) > 0
    with pytest.raises(CondsimError, match=r"leaderboard\.csv cannot be written"):
        results.write_leaderboard()
    assert not [name for name in os.listdir(folder) if name.startswith(".")]


def test_nothing_to_read_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(CondsimError, match="run `condsim bench` first"):
        Results(tmp_path).compare("toy/focus")
    assert len(Results(tmp_path).leaderboard()) == 0


def test_the_first_metric_of_the_benchmark_is_shown_and_tested(tmp_path: Path) -> None:
    made = make_results(
        tmp_path / "results", 20, METHODS, change=lambda task: replace(task, metrics=("recall@5", "recall@1"))
    )
    results = Results(made)
    board = results.leaderboard()
    assert results.compare("toy/focus").metric == "recall@5"
    head = map(str, board.select(task="focus").tables()[0].head)
    assert [column for column in head if "@" in column] == ["recall@5", "recall@1"]
    best = board.best("toy/focus")
    assert best.headline is best.metrics["recall@5"]
    assert all(entry.letters for entry in board.select(task="focus", metric="recall@5").entries)
    assert not any(entry.letters for entry in board.select(task="focus", metric="recall@1").entries)
