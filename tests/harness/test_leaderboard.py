"""The leaderboard is a pure function of records: fixed order, percent, newest of equals, headline means."""

import csv
import io
import random
from pathlib import Path

import pytest

from condsim.harness.leaderboard import leaderboard_rows, to_csv, write_leaderboard
from condsim.harness.record import MetricValue, Record, write_record


def record(
    task: str = "one", method: str = "clay", value: float = 0.5, rank: int | None = None, **more: object
) -> Record:
    settings = {} if rank is None else {"rank": rank}
    parts: dict[str, object] = {
        "run": f"{task}-{method}-{rank}",
        "benchmark": "toy",
        "task": task,
        "method": method,
        "backbone": "tiny",
        "settings": settings,
        "config": {"method_config": settings},
        "queries": 4,
        "clusters": 4,
        "cluster_name": "query",
        "metrics": {"recall@1": MetricValue(value, value - 0.1, value + 0.1), "recall@10": MetricValue(1, 1, 1)},
        "seconds": {"score": 0.1},
        "versions": {},
    }
    return Record(**{**parts, **more})  # type: ignore[arg-type]


def test_rows_do_not_depend_on_the_order_of_records() -> None:
    records = [record(t, m, rank=r) for t in ("one", "two") for m in ("clay", "image_only") for r in (2, 10, 5)]
    expected = to_csv(leaderboard_rows(records))
    for seed in range(5):
        random.Random(seed).shuffle(records)
        assert to_csv(leaderboard_rows(records)) == expected
    ranks = [row["rank"] for row in leaderboard_rows(records) if (row["task"], row["method"]) == ("one", "clay")]
    assert ranks == [2, 5, 10]


def test_columns_are_percent_with_intervals_and_settings() -> None:
    table = list(csv.DictReader(io.StringIO(to_csv(leaderboard_rows([record(rank=5), record(method="image_only")])))))
    assert [row["settings"] for row in table] == ["rank=5", ""]
    assert [float(row["recall@1"]) for row in table] == [50, 50]
    assert [(float(row["recall@1_low"]), float(row["recall@1_high"])) for row in table] == [(40, 60), (40, 60)]
    header = list(table[0])
    assert header.index("recall@1") < header.index("recall@10") < header.index("seconds") < header.index("run")


def test_the_newest_of_equal_records_counts() -> None:
    old = record(value=0.2, created="2026-01-01", run="zz")
    new = record(value=0.3, created="2026-02-01", run="aa")
    assert [row["recall@1"] for row in leaderboard_rows([new, old])] == [30]


def test_a_headline_is_the_mean_and_absent_while_a_task_is_missing() -> None:
    headlines = {"average": [["one", "recall@1"], ["two", "recall@1"]]}
    one, two = record("one", value=0.2, headlines=headlines), record("two", value=0.6, headlines=headlines)
    assert [row["task"] for row in leaderboard_rows([one])] == ["one"]
    average = [row for row in leaderboard_rows([one, two]) if row["task"] == "average"]
    assert [row["recall@1"] for row in average] == [pytest.approx(40)]


def test_a_corrupt_record_is_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_record(tmp_path / "runs/toy/one/clay-a", record())
    (tmp_path / "runs/toy/one/clay-b").mkdir()
    (tmp_path / "runs/toy/one/clay-b/record.json").write_text("{")
    rows = write_leaderboard(tmp_path)
    assert len(rows) == 1
    assert (tmp_path / "leaderboard.csv").read_text() == to_csv(rows)
    assert "clay-b/record.json" in capsys.readouterr().out
