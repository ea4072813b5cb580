"""The notebooks of the docs run from their first cell to their last."""

from __future__ import annotations

import ast
import io
import json
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from running import as_new_process

NOTEBOOKS = Path(__file__).resolve().parents[2] / "docs/notebooks"


def run(source: str, scope: dict[str, Any]) -> object:
    """Run a cell in ``scope``, and give the value of its last line if that is an expression."""
    *body, last = ast.parse(source).body
    exec(compile(ast.Module(body, []), "cell", "exec"), scope)
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), "cell", "eval"), scope)
    exec(compile(ast.Module([last], []), "cell", "exec"), scope)
    return None


def outputs(name: str, folder: Path) -> str:
    """Run a notebook in ``folder``; what it prints, with "OUT " before the value of each cell."""
    content = json.loads((NOTEBOOKS / name).read_text(encoding="utf-8"))
    cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] for cell in cells), "clear the outputs before you commit the notebook"
    scope: dict[str, Any] = {"__name__": "__main__"}
    shown = io.StringIO()
    with as_new_process(folder, {"NO_COLOR": "1"}), redirect_stdout(shown):
        for cell in cells:
            print("OUT", repr(run("".join(cell["source"]), scope)))
    return shown.getvalue()


@pytest.mark.slow
def test_every_cell_runs(tmp_path: Path) -> None:
    shown = outputs("condsim.ipynb", tmp_path)
    assert "OUT ('clay', 0." in shown
    assert "array([1.])" in shown, "the hand-made task ranks its relevant image first"
    assert (tmp_path / "results/report.html").stat().st_size > 10_000


@pytest.mark.slow
def test_own_pictures_are_searched_and_measured(tmp_path: Path) -> None:
    shown = outputs("own-pictures.ipynb", tmp_path)
    (by_color,) = re.findall(r"^color \[(.*)\]$", shown, re.MULTILINE)
    (by_shape,) = re.findall(r"^shape \[(.*)\]$", shown, re.MULTILINE)
    assert by_color.count("red-") > by_shape.count("red-")
    assert by_shape.count("-circle") > by_color.count("-circle")
    assert "(query: blue" in shown
    assert "±" in shown
    assert (tmp_path / "sheet.html").stat().st_size > 1_000
