"""The report: one self-contained HTML file, a pure function of the results folder (and of the pictures it names)."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from condsim.harness.errors import CondsimError, did_you_mean
from condsim.harness.names import escaped
from condsim.harness.results.entry import Entry
from condsim.harness.results.kept import kept_in
from condsim.harness.results.output import write_text
from condsim.harness.results.question_set import QuestionSet, older_sets
from condsim.harness.results.report.page import context
from condsim.harness.results.report.queries import Pictures, queries_page
from condsim.harness.results.report.thumbnails import thumbnails_of
from condsim.harness.results.table import Cell

REPORT_FILE = "report.json"
"""Beside the records: the parts of the last report that are made of records alone, charts among them."""


@dataclass(frozen=True)
class ReportSettings:
    """The settings of `conf/report.yaml`."""

    title: str = "Conditional image similarity"
    budget_mb: float = 20.0
    """Size of the whole file, in millions of bytes."""
    queries: int = 60
    """Queries shown per task, at most."""
    top: int = 6
    """Candidates shown per run."""
    thumbnail: int = 128
    """Pixels of a picture's longer side."""
    benchmarks: Sequence[str] | None = None


def write_report(
    groups: Sequence[QuestionSet], entries: Sequence[Entry], path: Path, settings: ReportSettings, notes: list[str]
) -> dict[str, Any]:
    """Write the report of these runs to ``path``, whole or not at all. Returns what it holds, in numbers.

    ``notes``: what was left out so far; the page lists it, with what is left out here. Raises CondsimError for a
    benchmark without records and where the file cannot be written.
    """
    if settings.benchmarks is not None:
        known = {group.benchmark for group in groups}
        for name in settings.benchmarks:
            if name not in known:
                raise CondsimError(f"there are no records of benchmark {name!r}. {did_you_mean(name, known)}")
        groups = [group for group in groups if group.benchmark in settings.benchmarks]
        entries = [entry for entry in entries if entry.benchmark in settings.benchmarks]
    shown_groups = [group for group in groups if group.is_newest]
    with kept_in(groups[0].folder.parents[1] / REPORT_FILE, notes) as remember:
        page = context(groups, entries, notes, remember) | {"older": older_sets(groups, shown_groups)}
        notes += [group.task_fault for group in shown_groups if group.task_fault]
        render = _renderer(settings.title, page)
        nothing: dict[str, Any] = {"tasks": [], "pictures": [], "missing": 0, "full": False}
        bare = len(render(left_out=notes, **_shown(nothing)).encode())
        room = int(settings.budget_mb * 1e6) - bare - 10_000
        pictures = Pictures(max(0, room), settings.thumbnail, thumbnails_of(path))
        shown = _shown(queries_page(shown_groups, pictures, settings.queries, settings.top, notes, remember))
    notes[:] = dict.fromkeys(notes)
    write_text(path, render(left_out=[_without_folders(note) for note in notes], **shown))
    return {"records": page["records"], **shown, "data": None}


def _renderer(title: str, page: Mapping[str, Any]) -> Callable[..., str]:
    """The function that makes the HTML of ``page`` and of what it is called with."""
    return partial(_template().render, title=title, **page)


@cache
def _template() -> Template:
    parts = files("condsim.harness.results.report")
    script, css, html = (
        parts.joinpath(name).read_text(encoding="utf-8") for name in ("report.js", "report.css", "template.html")
    )
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["breakable"] = breakable
    environment.tests["cell"] = lambda item: isinstance(item, Cell)
    script_hash = "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    fixed = {"css": Markup(css), "script": Markup(script), "script_hash": script_hash}
    return environment.from_string(html, globals=fixed)


def embedded_json(data: Any) -> Markup:
    """JSON that is safe inside a <script> element: whatever its strings are, no letter of it ends the element."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def _without_folders(note: str) -> str:
    """``note`` without the folders of this machine: a report is for others."""
    return escaped(re.sub(r"\S*/runs/", "runs/", note))


def breakable(name: str) -> Markup:
    """A name that a narrow column may break after its underscores."""
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
