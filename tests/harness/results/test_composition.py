"""The composition gap of runs, in `condsim compare` and on the report's page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from builders import make_results
from condsim.harness.commands.compare import main as compare_main
from condsim.harness.results.composition import run_gaps
from condsim.harness.results.results import Results
from condsim.harness.results.stored_run import StoredRun


def by_method(results: Results) -> dict[str, tuple[StoredRun, np.ndarray]]:
    group = results.question_set("toy/focus")
    return {run.record.method: (run, column) for run, column in group.values("recall@1", []).items()}


def test_the_gap_is_that_of_the_runs_on_the_same_queries(results_folder: Path) -> None:
    results = Results(results_folder)
    columns = by_method(results)
    (image, text, both) = (columns[name][1] for name in ("image_only", "text_only", "image_plus_text"))
    expected = (both - np.maximum(image, text)).mean()
    gaps = results.compare("toy/focus").gaps
    assert gaps["image_plus_text"].value == pytest.approx(expected)
    assert gaps["image_plus_text"].low <= expected <= gaps["image_plus_text"].high
    assert gaps.keys().isdisjoint({"image_only", "text_only"})
    assert gaps.keys() >= {"clay rank=1", "clay rank=32"}


def test_the_baselines_are_found_although_they_are_not_compared(results_folder: Path) -> None:
    results = Results(results_folder)
    of_all = results.compare("toy/focus").gaps
    assert results.compare("toy/focus", runs=["image_plus_text"]).gaps == {"image_plus_text": of_all["image_plus_text"]}


def test_the_baselines_are_those_of_the_same_backbone(results_folder: Path) -> None:
    results = Results(results_folder)
    group, columns = results.question_set("toy/focus"), by_method(results)
    (run, column) = columns["text_only"]
    elsewhere = StoredRun(run.folder, replace(run.record, backbone="another"))
    values = {columns[name][0]: columns[name][1] for name in ("image_only", "image_plus_text")}
    assert run_gaps(group, values | {elsewhere: column}) == {}
    assert [run.record.method for run in run_gaps(group, values | {run: column})] == ["image_plus_text"]


@pytest.mark.usefixtures("no_charts")
def test_the_command_and_the_page_show_it(
    results_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare_main(["--results", str(results_folder), "--task", "toy/focus"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "the value minus the better of image_only and text_only" in shown
    Results(results_folder).report(tmp_path / "report.html", queries=1)
    assert "the value minus the better of image_only and text_only" in (tmp_path / "report.html").read_text()


def test_without_both_baselines_nothing_is_said_of_a_gap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_results(tmp_path / "results", queries=20, methods=(("image_only", 0.5, {}), ("clay", 1.0, {})))
    assert compare_main(["--results", str(folder), "--task", "toy/focus"]) == 0
    assert "gap" not in capsys.readouterr().out
