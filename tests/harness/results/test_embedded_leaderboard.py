"""The committed leaderboard of the embedded benchmark."""

import csv
from pathlib import Path

PATH = Path(__file__).parents[3] / "results/embedded/leaderboard.csv"


def test_it_has_every_method_of_the_sweep_and_numbers_in_range() -> None:
    rows = list(csv.DictReader(PATH.read_text().splitlines()))
    assert len({row["method"] for row in rows}) == 12
    assert {row["benchmark"] for row in rows} == {"shapes"}
    for row in rows:
        for name in ("map", "recall@1"):
            if row[name]:
                assert 0 <= float(row[f"{name}_low"]) <= float(row[name]) <= float(row[f"{name}_high"]) <= 100
