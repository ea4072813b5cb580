"""The committed leaderboard of the embedded benchmark."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import condsim

PATH = Path(__file__).parents[3] / "results/embedded/leaderboard.csv"

TASKS = (
    "focus_attribute",
    "change_object",
    "cirr",
    "circo",
    "fashioniq_dress",
    "domains_source_outline",
    "labelled_color",
)
"""One of each family: a machine without stored features encodes 8,000 pictures instead of 20,000."""


def test_it_has_every_method_of_the_sweep_and_numbers_in_range() -> None:
    rows = list(csv.DictReader(PATH.read_text().splitlines()))
    assert len({row["method"] for row in rows}) == 26
    assert {row["benchmark"] for row in rows} == {"shapes"}
    for row in rows:
        for name in ("map", "recall@1"):
            if row[name]:
                assert 0 <= float(row[f"{name}_low"]) <= float(row[name]) <= float(row[f"{name}_high"]) <= 100


@pytest.mark.slow
def test_the_embedded_benchmark_still_gives_its_numbers(tmp_path: Path) -> None:
    committed = {(row["task"], row["method"]): row for row in csv.DictReader(PATH.read_text().splitlines())}
    board = condsim.bench(
        "-m", "method=image_only,image_plus_text,clay,crl", f"tasks=[{','.join(TASKS)}]",
        "statistics.resamples=100", f"results={tmp_path}",
    )  # fmt: skip
    compared = 0
    for entry in board.entries:
        row = committed[entry.task, entry.method]
        for name, measurement in entry.metrics.items():
            # One of 600 queries whose candidates score within rounding may change: the processors' last bits differ.
            assert abs(100 * measurement.value - float(row[name])) < 0.4, (entry.task, entry.method, name)
            compared += 1
    assert compared == 80
