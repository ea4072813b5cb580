"""The numbers of README.md and docs/results.md are those of the committed leaderboard of the embedded benchmark."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEADERBOARD = ROOT / "results/embedded/leaderboard.csv"


def cells(page: Path) -> Iterator[tuple[str, str, str, str]]:
    """(task, metric, method, text) of every filled cell of the tables whose first column is "task, metric"."""
    methods: list[str] = []
    for line in page.read_text(encoding="utf-8").splitlines():
        columns = [part.strip() for part in line.strip("|").split("|")] if line.startswith("|") else []
        if not columns:
            methods = []
        elif columns[0] == "task, metric":
            methods = columns[1:]
        elif methods and not set(columns[0]) <= set("- :"):
            task, metric = columns[0].split(" ")
            yield from ((task, metric, name, text) for name, text in zip(methods, columns[1:], strict=True) if text)


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_every_number_of_the_tables_is_in_the_committed_leaderboard(page: str) -> None:
    with LEADERBOARD.open(encoding="utf-8") as file:
        rows = {(row["task"], row["method"]): row for row in csv.DictReader(file) if not row["settings"]}
    shown = list(cells(ROOT / page))
    assert len(shown) > 30
    for task, metric, method, text in shown:
        row = rows[task, method]
        value, half = re.fullmatch(r"\**([0-9.]+)\**(?: ±([0-9.]+))?", text).groups()  # type: ignore[union-attr]
        assert value == f"{float(row[metric]):.1f}", (page, task, method)
        if half is not None:
            assert half == f"{(float(row[f'{metric}_high']) - float(row[f'{metric}_low'])) / 2:.1f}", (
                page,
                task,
                method,
            )
