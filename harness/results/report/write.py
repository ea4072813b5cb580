"""The report: one self-contained HTML file, a pure function of the results folder (and of the pictures it names)."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from condsim.harness.errors import CondsimError
from condsim.harness.results.collection import TaskRuns, runs_by_task
from condsim.harness.results.leaderboard import read_leaderboard
from condsim.harness.results.report.page import context
from condsim.harness.results.report.queries import queries_page


@dataclass(frozen=True)
class ReportSettings:
    """What `conf/report.yaml` chooses."""

    title: str = "Conditional image similarity"
    budget_mb: float = 20.0
    """Size of the whole file, in millions of bytes."""
    queries: int = 60
    """Queries shown of each task, at most."""
    top: int = 6
    """Candidates shown of each run."""
    thumbnail: int = 128
    """Pixels of a picture's longer side."""
    benchmarks: Sequence[str] | None = None


def write_report(results: Path, path: Path, settings: ReportSettings | None = None) -> dict[str, Any]:
    """Write the report of all records under ``results`` to ``path``, whole or not at all. What it holds, in numbers."""
    settings = settings or ReportSettings()
    rows = read_leaderboard(results)
    groups = runs_by_task(results)
    if settings.benchmarks is not None:
        rows = [row for row in rows if row["benchmark"] in settings.benchmarks]
        groups = [group for group in groups if group.benchmark in settings.benchmarks]
    if not groups:
        of = "" if settings.benchmarks is None else f" of {', '.join(settings.benchmarks)}"
        raise CondsimError(f"there are no records{of} under {results / 'runs'}: run `condsim bench` first")
    page, facts = render(groups, rows, settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}-{os.getpid()}")
    scratch.write_text(page, encoding="utf-8")
    os.replace(scratch, path)
    return facts


def render(
    groups: Sequence[TaskRuns], rows: Sequence[dict[str, Any]], settings: ReportSettings
) -> tuple[str, dict[str, Any]]:
    """The page, and what it holds in numbers."""
    parts = files("condsim.harness.results.report")
    script = parts.joinpath("report.js").read_text(encoding="utf-8")
    facts: dict[str, Any] = context(groups, rows)
    budget = int(settings.budget_mb * 1e6)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["breakable"] = breakable
    template = environment.from_string(parts.joinpath("template.html").read_text(encoding="utf-8"))
    page = {
        "title": settings.title,
        "css": Markup(parts.joinpath("report.css").read_text(encoding="utf-8")),
        "script": Markup(script),
        "script_hash": "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **facts,
    }
    bare = len(template.render(**page, **_shown({"tasks": [], "pictures": [], "missing": 0, "full": False})).encode())
    queries = queries_page(groups, max(0, budget - bare - 10_000), settings.queries, settings.top, settings.thumbnail)
    shown = _shown(queries)
    return template.render(**page, **shown), {"records": facts["records"], **shown, "data": None}


def embedded_json(data: Any) -> Markup:
    """JSON that may stand inside a <script> element whatever strings it holds: no letter of it can end the element."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def breakable(name: str) -> Markup:
    """A name that a narrow column may break behind its underscores."""
    return Markup("_<wbr>").join(name.split("_"))


def _shown(queries: dict[str, Any]) -> dict[str, Any]:
    return {
        "data": embedded_json(queries),
        "shown_queries": sum(len(task["queries"]) for task in queries["tasks"]),
        "total_queries": sum(task["total"] for task in queries["tasks"]),
        "full": queries["full"],
        "missing_pictures": queries["missing"],
        "total_pictures": len(queries["pictures"]),
    }
