"""CSV files: byte for byte what they were for a fixed set of records, and safe to open in a spreadsheet."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from builders import make_record
from condsim.harness.results.leaderboard import Leaderboard, make_leaderboard
from condsim.harness.results.published import read_published
from condsim.harness.results.stored_run import StoredRun
from condsim.harness.run.record import Measurement, Record

EXPECTED = Path(__file__).parent / "expected"
PUBLISHED = """paper,table,benchmark,task,method,backbone,metric,value
A Paper,Table 1,toy,one,clay,tiny,recall@1,47.5
Another,Table 2,toy,one,clay,tiny,map,99.0
"""
HEADLINES = {
    "average": [["one", "recall@1"], ["two", "recall@1"]],
    "both": [["one", "recall@1"], ["one", "map"]],
}
LETTERS = {"run-one-clay-": "a", "run-one-clay-5": "ab", "run-one-image_only-": "b", "run-two-clay-": "a"}


def record(task: str, method: str, values: dict[str, tuple[float, float, float, float | None]], rank: int | None = None,
           queries: int = 40, **settings: object) -> Record:  # fmt: skip
    all_settings = dict(settings) if rank is None else {"rank": rank, **settings}
    return make_record(
        run=f"run-{task}-{method}-{'' if rank is None else rank}",
        task=task,
        method=method,
        settings=all_settings,
        config={"fingerprint": f"{task}-fingerprint", "method_config": {"_target_": method, **all_settings}},
        queries=queries,
        clusters=queries,
        metrics={name: Measurement(*value) for name, value in values.items()},
        seconds={"encode": 1.5, "prepare": 0.25, "score": 0.0625},
        versions={"condsim": "0.1.0"},
        headlines=HEADLINES,
        created="2026-01-01T00:00:00+00:00",
    )


def fixed_records() -> list[Record]:
    third = 1 / 3
    return [
        record("one", "clay", {"map": (0.5, 0.4, 0.6, None), "recall@1": (third, 0.25, 0.4123456, 0.1)}),
        record("two", "clay", {"recall@1": (0.123456789, 0.1, 0.15, 1 / 7), "recall@10": (1, 1, 1, None)}, queries=30),
        record("one", "clay", {"map": (0.45, 0.35, 0.55, None), "recall@1": (0.3, 0.2, 0.4, 0.1)}, rank=5, centre=True),
        record("one", "image_only", {"map": (0.2, 0.1, 0.3, None), "recall@1": (0.1, 0.05, 0.15, 0.1)}),
    ]


def board(records: list[Record], published: Path | None = None) -> Leaderboard:
    return make_leaderboard([StoredRun(Path(r.run), r) for r in records], LETTERS, read_published(published))


def test_the_files_of_fixed_records_stay_as_they_are(tmp_path: Path) -> None:
    """``expected/`` was written by the version before the typed read side."""
    (tmp_path / "published.csv").write_text(PUBLISHED)
    leaderboard = board(fixed_records(), tmp_path / "published.csv")
    assert leaderboard.to_csv() == (EXPECTED / "wide.csv").read_text()
    assert leaderboard.to_long_csv() == (EXPECTED / "long.csv").read_text()


def test_columns_are_percent_with_intervals_and_settings() -> None:
    table = list(csv.DictReader(io.StringIO(board(fixed_records()).to_csv())))
    assert [row["settings"] for row in table[:2]] == ["centre=true rank=5", ""]
    assert (float(table[1]["map"]), float(table[1]["map_low"]), float(table[1]["map_high"])) == (50, 40, 60)
    header = list(table[0])
    assert header.index("recall@1") < header.index("recall@10") < header.index("seconds") < header.index("run")


def test_a_question_set_column_only_where_a_task_has_several() -> None:
    first = fixed_records()[0]
    other = replace(first, run="other", config={**first.config, "fingerprint": "0123456789abcdef"})
    assert "question_set" not in board([first]).to_csv()
    for text in (board([first, other]).to_csv(), board([first, other]).to_long_csv()):
        rows = list(csv.DictReader(io.StringIO(text)))
        assert {row["question_set"] for row in rows if row["task"] == "one"} == {"01234567", "one-fing"}


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_is_a_formula(start: str) -> None:
    formula = f"{start}cmd|' /C calc'!A0"
    hostile = replace(
        fixed_records()[0], benchmark=formula, task=formula, method=formula, backbone=formula, settings={formula: 1}
    )
    for text in (board([hostile]).to_csv(), board([hostile]).to_long_csv()):
        rows = list(csv.reader(io.StringIO(text, newline="")))
        assert {len(row) for row in rows} == {len(rows[0])}
        assert not [cell for row in rows for cell in row if cell[:1] in set("=+-@\t\r")]
        assert rows[1][:4] == 4 * [
            formula.replace("\t", r"\t").replace("\r", r"\r") if start.isspace() else f"'{formula}"
        ]


def test_negative_numbers_stay_numbers(tmp_path: Path) -> None:
    (tmp_path / "published.csv").write_text(PUBLISHED)
    rows = list(csv.DictReader(io.StringIO(board(fixed_records(), tmp_path / "published.csv").to_csv())))
    assert [row["map_difference"] for row in rows if row["map_difference"]] == ["-49.0"]
