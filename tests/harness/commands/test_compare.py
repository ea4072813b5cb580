"""`condsim compare`: methods from best to worst with intervals and letters, clusters as the task has them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from builders import Methods, make_results
from condsim.datasets.grouping import label_lists
from condsim.harness.commands.compare import main
from condsim.harness.errors import CondsimError
from condsim.harness.results.results import Results
from condsim.harness.results.table import Cell
from condsim.harness.statistics.compare import compare
from condsim.harness.task import Task
from condsim.harness.variants.fewer_queries import take_queries


def test_the_table_is_the_comparison_of_the_records_ranks(
    results_folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["--results", str(results_folder), "--task", "toy/focus", "--latex", str(tmp_path / "t.tex")]) == 0
    group = Results(results_folder).question_set("toy/focus")
    values = {run.label: (run.ranks.rank <= 1).astype(float) for run in group.runs}
    assert group.task is not None
    expected = compare(values, group.task.clusters)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[0] for row in cells] == list(expected.runs)
    assert [row[3] for row in cells] == list(expected.letters)
    for row, interval in zip(cells, expected.intervals, strict=True):
        assert float(row[1].strip("*")) == pytest.approx(100 * interval.value, abs=0.051)
        assert row[2] == f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
    latex = (tmp_path / "t.tex").read_text()
    assert r"\textbf{" in latex
    assert latex.count(r" \\") == 1 + len(expected.runs)


def with_labels(task: Task) -> Task:
    """Label "even" for every second query, "first" for the first five, none for the others."""
    names = [["even"] * (i % 2 == 0) + ["first"] * (i < 5) for i in range(len(task))]
    return replace(task, labels=label_lists(names))


def test_labels_break_the_headline_metric_down_and_few_queries_are_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    methods: Methods = (("one", 1.0, {}), ("two", 0.0, {}))
    folder = make_results(tmp_path / "results", queries=80, methods=methods, change=with_labels)
    comparison = Results(folder).compare("toy/focus", "recall@5")
    means, labels = comparison.tables()
    assert [str(column) for column in labels.head] == ["run", "even (40)", "first (5†)"]
    assert "fewer than 30 queries" in labels.caption
    assert [row[0] for row in labels.rows] == [row[0] for row in means.rows]
    for run in Results(folder).question_set("toy/focus").runs:
        hit = run.ranks.rank <= 5
        (row,) = (row for row in labels.rows if row[0] == run.label)
        shown = [cell.measurement.value for cell in row[1:] if isinstance(cell, Cell)]
        assert shown == pytest.approx([hit[::2].mean(), hit[:5].mean()])
    assert main(["--results", str(folder), "--task", "toy/focus"]) == 0
    assert "even (40)" in capsys.readouterr().out


@pytest.mark.usefixtures("no_charts")
def test_a_list_of_queries_is_never_in_one_table_with_the_whole_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "results"
    make_results(folder, queries=20, methods=(("whole", 1.0, {}),), change=with_labels)

    def first_queries(task: Task) -> Task:
        return replace(take_queries(with_labels(task), np.arange(8)), variant="queries_from=few.txt")

    make_results(folder, queries=20, methods=(("part", 1.0, {}),), created="2026-02-01T00:00:00+00:00",
                  change=first_queries)  # fmt: skip
    assert main(["--results", str(folder), "--task", "toy/focus"]) == 0
    shown = capsys.readouterr()
    assert "queries_from=few.txt" in shown.out
    assert "even (4†)" in shown.out
    assert "| part" in shown.out
    assert "| whole" not in shown.out
    assert "not compared: toy/focus: 1 run on the other question set" in shown.err
    Results(folder).report(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    labels = page[page.index('id="labels"') : page.index('id="distractors"')]
    assert "queries_from=few.txt" in labels
    assert "part" in labels
    assert "whole" not in labels
    assert '<td class="n" data-value="4">4†</td>' in labels


def test_clusters_widen_the_interval(tmp_path: Path) -> None:
    """Every cluster twice the same query: half the information, so the interval is that of half the queries."""
    results = make_results(tmp_path / "results", queries=40, methods=(("one", 1.0, {}), ("two", 0.5, {})), clusters=4)
    opened = Results(results)
    clusters = opened.question_set("toy/focus").clusters
    assert clusters is not None
    assert len(np.unique(clusters)) == 4
    assert "4 clusters" in opened.compare("toy/focus").table().title


def test_pairs_metrics_and_runs_can_be_chosen(results_folder: Path) -> None:
    comparison = Results(results_folder).compare("focus", "recall@5", ["clay", "text_only"])
    means, pairs = comparison.tables(pairs=True)
    assert len(means.rows) == 5
    assert len(pairs.rows) == 10
    for row in pairs.rows:
        difference = row[2]
        assert isinstance(difference, Cell)
        assert difference.value >= 0
        assert 0 < float(str(row[4])) <= float(str(row[5])) <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "toy/focuss"], "toy/focus"),
        (["--task", "toy/focus", "--metric", "recal@1"], "recall@1"),
        (["--task", "toy/focus", "--runs", "klay"], "clay"),
    ],
)
def test_a_mistyped_name_is_answered_with_the_nearest(results_folder: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(CondsimError, match=message):
        main(["--results", str(results_folder), *arguments])


def test_clustered_queries_are_not_compared_as_if_independent(
    tmp_path: Path,
) -> None:
    results = make_results(tmp_path / "results", queries=20, methods=(("one", 1.0, {}), ("two", 0.5, {})), clusters=4)
    next((results / "runs/toy/focus").glob("task-*.npz")).unlink()
    with pytest.raises(CondsimError, match="20 queries come in 4 clusters"):
        main(["--results", str(results), "--task", "toy/focus"])


def test_a_damaged_run_is_named_and_the_others_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    methods: Methods = (("one", 1.0, {}), ("two", 0.5, {}), ("three", 0.0, {}))
    results = make_results(tmp_path / "results", queries=20, methods=methods)
    (folder,) = (results / "runs/toy/focus").glob("one-*")
    good = (folder / "ranks.npz").read_bytes()
    for damaged in (b"nothing", good[:-40], good[:200] + b"\xff" + good[201:]):
        (folder / "ranks.npz").write_bytes(damaged)
        assert main(["--results", str(results), "--task", "toy/focus"]) == 0
        shown = capsys.readouterr()
        assert "| one" not in shown.out
        assert "| two" in shown.out
        assert "ranks.npz" in shown.err
