"""Tables as text: fitted to a terminal without losing a number, names as text."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from condsim.harness.results import formats
from condsim.harness.results.percent import interval_text
from condsim.harness.results.table import Cell, Column, RunName, Table, transposed
from condsim.harness.run.record import Measurement


def table(columns: int, rows: int = 3) -> Table:
    head = (Column("method", number=False), *(Column(f"focus_attribute_{i}", "recall@1") for i in range(columns)))
    body: Any = tuple(
        (RunName(f"neighborhood_rerank_{r}"), *(Cell(Measurement((r + i) / 100, 0.0, 1.0)) for i in range(columns)))
        for r in range(rows)
    )
    return Table("shapes", head, body, "caption")


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("columns", [1, 5, 17])
def test_on_a_terminal_every_line_fits_and_every_number_is_shown(
    width: int, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.StringIO()
    monkeypatch.setattr(formats, "console", Console(file=out, width=width, force_terminal=True, soft_wrap=True))
    monkeypatch.delenv("NO_COLOR", raising=False)
    formats.print_tables([table(columns)])
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in out.getvalue().splitlines()]
    assert max(map(len, lines)) <= width
    numbers = [word for line in lines for word in line.split() if re.fullmatch(r"\d+\.0", word)]
    assert sorted(numbers) == sorted(f"{r + i}.0" for r in range(3) for i in range(columns))
    assert sum(line.lstrip().startswith("neighborhood_rerank_0 ") for line in lines) >= 1
    assert lines[-1] == "caption"


def test_blocks_leave_out_rows_without_a_number_and_seconds_alone() -> None:
    full = table(9)
    sparse = tuple(row if r else (*row[:4], *("" for _ in row[4:])) for r, row in enumerate(full.rows))
    head = (*full.head, Column("seconds"))
    parts = formats.fitted(Table("t", head, tuple((*row, "0.10") for row in sparse), "caption"), 80)
    assert [part.title for part in parts] == ["t", *["t (continued)"] * (len(parts) - 1)]
    assert [part.caption for part in parts] == [*[""] * (len(parts) - 1), "caption"]
    assert [column.name for part in parts for column in part.head[1:]][:9] == [c.name for c in full.head[1:]]
    assert all(len(part.head) > 2 or part.head[1].name != "seconds" for part in parts)


def test_transposing_keeps_every_cell() -> None:
    one = table(4)
    other = transposed(one)
    assert [str(column) for column in other.head[1:]] == [str(row[0]) for row in one.rows]
    for i, row in enumerate(other.rows):
        assert row[0] == str(one.head[i + 1])
        assert row[1:] == tuple(line[i + 1] for line in one.rows)


@pytest.mark.parametrize("down", ["methods", "tasks"])
def test_latex_underlines_the_second_best_of_each_task_and_names_methods(down: str) -> None:
    values = {"clay": (0.5, 0.2), "product": (0.7, 0.1), "slerp": (0.5, 0.3)}
    rows: Any = tuple(
        (
            RunName(method),
            *(Cell(Measurement(value), value, value == best) for value, best in zip(row, (0.7, 0.3), strict=True)),
        )
        for method, row in values.items()
    )
    head = (Column("method", number=False), Column("color", "map"), Column("shape", "map"))
    one = Table("t", head, rows)
    (named,) = formats.renamed([one if down == "methods" else transposed(one)], {"clay": "CLAY"})
    latex = formats.to_latex([named])
    assert latex.count(r"\textbf{70.0}") == latex.count(r"\textbf{30.0}") == 1
    assert latex.count(r"\underline{50.0}") == 2  # two methods share the second place
    assert latex.count(r"\underline{20.0}") == 1
    assert latex.count(r"\underline") == 3
    assert "CLAY" in latex
    assert "clay" not in latex


@pytest.mark.parametrize(
    ("measurement", "text"),
    [
        (Measurement(0.5, 0.4, 0.6), "±10.0"),
        (Measurement(1.0, 0.9, 1.0), "[90.0, 100.0]"),
        (Measurement(0.5), ""),
    ],
)
def test_an_interval_is_half_its_width_or_its_ends(measurement: Measurement, text: str) -> None:
    assert interval_text(measurement) == text


def test_control_characters_of_names_are_escapes_in_every_format() -> None:
    hostile = Table("a\x1b[2Jb", (Column("x\x07", number=False), Column("y")), (("n\x1bm", Cell(Measurement(0.5))),))
    for text in (formats.to_markdown([hostile]), formats.to_latex([hostile])):
        assert not {"\x1b", "\x07"} & set(text)
