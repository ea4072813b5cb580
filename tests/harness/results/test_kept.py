"""Results that are kept in a file: those of this time, computed once, and never where something was wrong."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from condsim.harness.results.kept import kept_in


def test_a_result_is_computed_once_and_kept_while_it_is_used(tmp_path: Path) -> None:
    file, notes, computed = tmp_path / "kept.json", list[str](), list[Any]()

    def twice(value: Any) -> dict[str, Any]:
        computed.append(value)
        return {"twice": 2 * value}

    def results(*inputs: Any) -> list[Any]:
        computed.clear()
        with kept_in(file, notes) as remember:
            return [remember(x, partial(twice, x)) for x in inputs]

    assert results(1, 0.1) == results(1, 0.1) == [{"twice": 2}, {"twice": 0.2}]
    assert computed == []
    assert (results(1), computed) == ([{"twice": 2}], [])
    assert (results(0.1), computed) == ([{"twice": 0.2}], [0.1])
    file.write_text(file.read_text().replace("0.2", "0.3"))
    assert (results(0.1), computed) == ([{"twice": 0.2}], [0.1])


def test_a_problem_is_reported_every_time(tmp_path: Path) -> None:
    notes: list[str] = []
    for _ in range(2):
        with kept_in(tmp_path / "kept.json", notes) as remember:
            remember("run", lambda: notes.append("left out: a file is missing"))
    assert len(notes) == 2
