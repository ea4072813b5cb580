"""`condsim compare`: methods from best to worst with intervals and letters, clusters as the task has them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from condsim.harness.commands.compare import comparison_tables, main
from condsim.harness.errors import CondsimError
from condsim.harness.results.collection import runs_by_task
from condsim.harness.results.table import Cell
from condsim.harness.statistics.compare import compare


def test_the_table_is_the_comparison_of_the_records_ranks(
    results_folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["--results", str(results_folder), "--task", "toy/focus", "--latex", str(tmp_path / "t.tex")]) == 0
    (group,) = (group for group in runs_by_task(results_folder) if group.name == "focus")
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


def test_clusters_widen_the_interval(tmp_path: Path, results_maker: Callable[..., Path]) -> None:
    """Every cluster twice the same query: half the information, so the interval is that of half the queries."""
    results = results_maker(tmp_path / "results", queries=40, methods=(("one", 1.0, {}), ("two", 0.5, {})), clusters=4)
    (group,) = (group for group in runs_by_task(results) if group.name == "focus")
    assert group.clusters is not None
    assert len(np.unique(group.clusters)) == 4
    (table,) = comparison_tables(group)
    assert "4 clusters" in table.title


def test_pairs_metrics_and_runs_can_be_chosen(results_folder: Path) -> None:
    (group,) = (group for group in runs_by_task(results_folder) if group.name == "focus")
    standing, pairs = comparison_tables(group, "recall@5", ["clay", "text_only"], pairs=True)
    assert len(standing.rows) == 5
    assert len(pairs.rows) == 10
    for row in pairs.rows:
        difference = row[2]
        assert isinstance(difference, Cell)
        assert difference.value >= 0
        assert 0 < float(str(row[4])) <= float(str(row[5])) <= 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--task", "toy/focuss"], "toy/focus"),
        (["--task", "toy/focus", "--metric", "recal@1"], "recall@1"),
        (["--task", "toy/focus", "--runs", "klay"], "clay"),
    ],
)
def test_a_mistyped_name_is_answered_with_the_nearest(results_folder: Path, arguments: list[str], told: str) -> None:
    with pytest.raises(CondsimError, match=told):
        main(["--results", str(results_folder), *arguments])


def test_clustered_queries_are_not_compared_as_if_independent(
    tmp_path: Path, results_maker: Callable[..., Path]
) -> None:
    results = results_maker(tmp_path / "results", queries=20, methods=(("one", 1.0, {}), ("two", 0.5, {})), clusters=4)
    next((results / "runs/toy/focus").glob("task-*.npz")).unlink()
    with pytest.raises(CondsimError, match="20 queries come in 4 clusters"):
        main(["--results", str(results), "--task", "toy/focus"])


def test_damaged_runs_are_left_out(tmp_path: Path, results_maker: Callable[..., Path]) -> None:
    results = results_maker(tmp_path / "results", queries=20, methods=(("one", 1.0, {}), ("two", 0.5, {})))

    def methods_after_damage(method: str, file: str) -> list[str]:
        (folder,) = (results / "runs/toy/focus").glob(f"{method}-*")
        (folder / file).write_bytes(b"nothing")
        return [run.record.method for group in runs_by_task(results) if group.name == "focus" for run in group.runs]

    assert methods_after_damage("one", "ranks.npz") == ["two"]
    assert methods_after_damage("two", "top.npy") == []
    assert [group.name for group in runs_by_task(results)] == ["find"]


def test_runs_on_other_queries_are_not_paired(tmp_path: Path, results_maker: Callable[..., Path]) -> None:
    results = results_maker(tmp_path / "results", queries=20, methods=(("old", 1.0, {}),))
    later = (("new", 1.0, {}), ("newer", 0.0, {}))
    results_maker(tmp_path / "results", queries=30, methods=later, seed=5, created="2026-02-01T00:00:00+00:00")
    (group,) = (group for group in runs_by_task(results) if group.name == "focus")
    assert {run.record.method for run in group.runs} == {"new", "newer"}
    assert group.stale == 1
