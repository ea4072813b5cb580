"""A published table beside what was measured: differences, verdicts and the correlation with other scores."""

from __future__ import annotations

import csv
import io

import pytest

from condsim.harness.results.published import Reported
from condsim.harness.results.reproduction import (
    Compared,
    compared,
    comparison_table,
    correlation_table,
    published_cells,
    summary,
    to_csv,
)
from condsim.harness.run.record import Measurement

PUBLISHED = {
    ("toy", "few", "one", "tiny"): [Reported("Paper", "Table 1", {"recall@1": 16.7, "recall@2": 30.0})],
    ("toy", "few", "two", "tiny"): [Reported("Paper", "Table 1", {"recall@1": 50.0}), Reported("Else", "", {"map": 1})],
    ("toy", "few", "three", "tiny"): [Reported("Paper", "Table 2", {"recall@1": 50.0})],
}  # fmt: skip
MEASURED = {
    ("one", "tiny"): {
        ("toy", "few", "recall@1"): Measurement(1 / 6, 0.1, 0.2),
        ("toy", "few", "recall@2"): Measurement(1 / 3, 0.3, 0.4),
    }
}


@pytest.fixture
def cells() -> list[Compared]:
    found = published_cells(PUBLISHED, "Paper", ["Table 1"], ["toy"])
    return compared(found, MEASURED, {("two", "tiny"): "needs a file"}, tolerance=0.1)


def test_each_cell_of_the_table_has_its_verdict(cells: list[Compared]) -> None:
    assert [(cell.cell.method, cell.cell.metric, cell.verdict) for cell in cells] == [
        ("one", "recall@1", "agrees"), ("one", "recall@2", "differs"), ("two", "recall@1", "not run"),
    ]  # fmt: skip
    assert cells[0].difference == pytest.approx(100 / 6 - 16.7)
    assert cells[2].why == "needs a file"
    assert summary(cells).startswith("1 agree within 0.1 points, 1 differ, 1 not run. ")


@pytest.mark.parametrize(("ours", "verdict"), [(0.501, "agrees"), (0.499, "agrees"), (0.5012, "differs")])
def test_the_tolerance_is_in_points_and_includes_its_ends(ours: float, verdict: str) -> None:
    (cell,) = published_cells(PUBLISHED, "Paper", ["Table 2"], ["toy"])
    assert Compared(cell, Measurement(ours), tolerance=0.1).verdict == verdict


def test_the_table_and_the_csv_have_every_cell(cells: list[Compared]) -> None:
    table = comparison_table("title", cells)
    assert table.rows[0][3:] == ("16.7", "16.7", "[10.0, 20.0]", "-0.0", "agrees")
    assert table.rows[1][0] == ""  # the method's name once
    rows = list(csv.DictReader(io.StringIO(to_csv(cells))))
    assert [row["verdict"] for row in rows] == ["agrees", "differs", "not run"]
    assert float(rows[1]["difference"]) == pytest.approx(100 / 3 - 30, abs=1e-3)


@pytest.mark.slow  # scipy.stats takes seconds to import
def test_a_perfect_line_has_correlation_one_and_three_points_have_no_interval() -> None:
    line = {f"model {x}": (float(x), 10 + x / 10) for x in (50, 60, 70, 80)}
    caption = correlation_table("title", line).caption
    assert caption.startswith("Correlation 1.00 [1.00, 1.00] over 4 backbones")
    assert "+1.0 here" in caption
    assert "needs four" in correlation_table("title", dict(list(line.items())[:3])).caption
