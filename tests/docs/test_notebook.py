"""The notebook of the docs runs from its first cell to its last."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs/notebooks/condsim.ipynb"
SHOW_LAST = """
import ast

def run(source, scope):
    *body, last = ast.parse(source).body
    exec(compile(ast.Module(body, []), "cell", "exec"), scope)
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), "cell", "eval"), scope)
    exec(compile(ast.Module([last], []), "cell", "exec"), scope)
"""


@pytest.mark.slow
def test_every_cell_runs(tmp_path: Path) -> None:
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] for cell in cells), "clear the outputs before you commit the notebook"
    lines = [SHOW_LAST, "scope = {}"]
    lines += [f"print('OUT', repr(run({''.join(cell['source'])!r}, scope)))" for cell in cells]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=tmp_path,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    out = [line.removeprefix("OUT ") for line in done.stdout.splitlines() if line.startswith("OUT ")]
    assert len(out) >= len(cells) - 1
    assert "OUT ('clay', 0." in done.stdout
    assert "array([1.])" in done.stdout, "the hand-made task ranks its relevant image first"
    assert (tmp_path / "results/report.html").stat().st_size > 10_000
