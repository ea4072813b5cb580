"""The spread over seeds and over wordings: only of runs that differ in nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest

from builders import make_tasks, write_run
from condsim.harness import cli
from condsim.harness.results.results import Results
from condsim.harness.results.sweeps import find_sweeps
from condsim.harness.task import Benchmark
from condsim.harness.variants.wordings import reworded

TRAINED: dict[str, Any] = {"seed": 0, "steps": 100, "triplets": 500, "sources": "mined"}


def trained(results: Path, number: int, method: str = "combiner", **training: object) -> str:
    """A run with a checkpoint of its own, trained with these settings."""
    focus, _ = make_tasks(results.parent / "pictures", 40)
    settings = {"checkpoint": f"content:{number}"}
    return write_run(results, focus, method, 0.5 + 0.3 * number, settings, number, training=TRAINED | training).run


def test_runs_that_differ_in_the_seed_are_one_row_of_the_spread(tmp_path: Path) -> None:
    results = tmp_path / "results"
    runs = {trained(results, number, seed=number) for number in range(3)}
    trained(results, 3, seed=0, steps=200)  # another training, of which there is one seed
    trained(results, 4, method="other", seed=0)
    (spread,) = Results(results).leaderboard().spreads
    values = [entry.metrics["recall@1"].value for entry in Results(results).leaderboard().entries if entry.run in runs]
    assert (spread.over, spread.method, set(spread.runs)) == ("seeds", "combiner", runs)
    assert spread.settings == ""
    assert spread.mean == pytest.approx(sum(values) / 3)
    assert spread.deviation == pytest.approx(stdev(values))


def test_runs_in_other_words_are_compared_on_the_same_queries_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    focus, _ = make_tasks(tmp_path / "pictures", 40)
    fewer, _ = make_tasks(tmp_path / "pictures", 39)
    tasks = [reworded(Benchmark("toy", (focus,)), wording).tasks[0] for wording in ("{}", "the {}", "same {}")]
    for number, task in enumerate([*tasks, reworded(Benchmark("toy", (fewer,)), "a {}").tasks[0]]):
        write_run(results, task, "clay", 0.5 + number, {}, 0)
    (spread,) = Results(results).leaderboard().spreads
    assert (spread.over, len(spread.values)) == ("wordings", 3)
    assert cli.main(["leaderboard", "--results", str(results)]) == 0
    out = capsys.readouterr().out
    assert "Spread over seeds and wordings" in out
    row = next(line for line in out.splitlines() if "3 wordings" in line)
    cells = [cell.strip() for cell in row.split("|")][1:-1]
    low, high = 100 * min(spread.values), 100 * max(spread.values)
    assert cells[:4] == ["toy/focus", "clay", "3 wordings", "recall@1"]
    assert cells[-2:] == [f"{low:.1f}", f"{high:.1f}"]


def test_seeds_are_one_row_of_a_comparison_and_no_rivals(tmp_path: Path) -> None:
    results = tmp_path / "results"
    for number in range(3):
        trained(results, number, seed=number)
        trained(results, 5 + number, seed=number, steps=200)
    focus, _ = make_tasks(results.parent / "pictures", 40)
    for number, wording in enumerate(("{}", "the {}")):
        write_run(results, reworded(Benchmark("toy", (focus,)), wording).tasks[0], "clay", 0.5 + number, {}, 0)
    folder = Results(results)
    group = folder.question_sets[-1] if folder.question_sets[0].runs[0].record.variant else folder.question_sets[0]
    comparison = folder.compare("toy/focus", "recall@2", question_set=group.id)
    first, second = "combiner steps=100, 3 seeds", "combiner steps=200, 3 seeds"
    assert set(comparison.comparison.runs) == {first, second, "clay"}
    assert len(comparison.comparison.pairs) == 3
    hits = [run.values("recall@2").mean() for run in group.runs if run.record.training.get("steps") == 100]
    value = comparison.comparison.intervals[comparison.comparison.runs.index(first)].value
    assert value == pytest.approx(sum(hits) / 3)
    assert comparison.spreads[first] == f"{100 * stdev(hits):.1f} (3 seeds)"
    assert comparison.spreads["clay"].endswith("(2 wordings)")
    assert "Spread: standard deviation" in comparison.table().caption
    tested = folder.compare("toy/focus", question_set=group.id).comparison
    board = folder.leaderboard().of_runs({run.run for run in group.runs})
    letters = dict(zip(tested.runs, tested.letters, strict=True))
    for run in group.runs:
        name = f"combiner steps={run.record.training['steps']}, 3 seeds" if run.record.training else "clay"
        (entry,) = board.of_runs({run.run}).entries
        assert (entry.letters, entry.standing == "best") == (letters[name], name == tested.runs[0])
    (table, *_) = board.by()
    assert "Seeds of one training are one run" in table.caption
    alone = [run.label for run in group.runs if run.record.method == "combiner"]
    assert set(folder.compare("toy/focus", None, alone, group.id).comparison.runs) == set(alone)


def test_without_repeated_runs_there_is_no_spread(results_folder: Path) -> None:
    assert Results(results_folder).leaderboard().spreads == ()


def test_a_spread_is_shown_only_where_all_of_its_runs_are(tmp_path: Path) -> None:
    results = tmp_path / "results"
    first, second = (trained(results, number, seed=number) for number in range(2))
    board = Results(results).leaderboard()
    assert len(board.of_runs({first, second}).spreads) == 1
    assert board.of_runs({first}).spreads == ()


def test_a_training_setting_with_several_values_is_a_learning_curve_of_the_mean_over_seeds(tmp_path: Path) -> None:
    results = tmp_path / "results"
    values: dict[int, list[float]] = {10: [], 100: [], 1000: []}
    for number, triplets in enumerate((10, 100, 1000, 10)):
        trained(results, number, triplets=triplets, seed=number // 3)  # two seeds of 10 triplets
        trained(results, 10 + number, triplets=triplets, seed=number // 3, steps=200)
    for run in Results(results).runs:
        if run.record.training["steps"] == 100:
            values[run.record.training["triplets"]].append(run.record.metrics["recall@1"].value)
    curves = find_sweeps(Results(results).question_sets)
    assert [(curve.setting, curve.fixed) for curve in curves] == [
        ("training.triplets", "steps=100"), ("training.triplets", "steps=200")
    ]  # fmt: skip
    curve = curves[0]
    assert {x: point.value for x, point in curve.lines["focus"]} == pytest.approx(
        {x: sum(of_seeds) / len(of_seeds) for x, of_seeds in values.items()}
    )
    assert sorted(curve.seeds["focus"]) == sorted((10, value) for value in values[10])
    assert curve.title.endswith("steps=100, mean over seeds, tiny")


@pytest.mark.usefixtures("no_charts")
def test_the_report_has_the_table(tmp_path: Path) -> None:
    results = tmp_path / "results"
    for number in range(2):
        trained(results, number, seed=number)
    assert cli.main(["report", f"results={results}"]) == 0
    assert "Spread over seeds and wordings" in (results / "report.html").read_text(encoding="utf-8")


def test_equal_records_but_for_the_training_are_read(tmp_path: Path) -> None:
    trained(tmp_path / "results", 0, seed=3)
    (run,) = Results(tmp_path / "results").runs
    assert run.record.training == TRAINED | {"seed": 3}
    assert replace(run.record, training={}).run == run.run
