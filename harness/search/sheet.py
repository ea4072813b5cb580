"""A contact sheet of search results: HTML with the pictures inside, for a file of its own or for a notebook."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined

from condsim.harness.names import escaped
from condsim.harness.results.report.thumbnails import thumbnail_uri

if TYPE_CHECKING:
    from condsim.harness.search.matches import Matches


def sheet(matches: Matches, thumbnail: int, page: bool = True) -> str:
    """A whole page that needs no other file and no network; with ``page`` false only what is in it."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(
        files("condsim.harness.search").joinpath("sheet.html").read_text(encoding="utf-8")
    )
    return template.render(
        page=page,
        side=thumbnail,
        method=matches.method,
        backbone=matches.backbone,
        queries=[_query(matches, query, thumbnail) for query in range(len(matches.queries))],
    )


def _query(matches: Matches, query: int, thumbnail: int) -> dict[str, Any]:
    picture, condition = matches.queries[query]
    rows = [row for row in matches.rows[query].tolist() if row >= 0]
    found = [
        {
            "rank": match.rank,
            "score": f"{match.score:.4f}",
            "name": escaped(matches.table.keys[row]),
            "why": escaped(match.why),
            "uri": thumbnail_uri(matches.table, row, thumbnail),
        }
        for row, match in zip(rows, matches.of(query), strict=True)
    ]
    own = None
    if picture is not None:
        table = matches.pictures[query]
        own = {"name": escaped(Path(picture).name), "uri": table and thumbnail_uri(table, 0, thumbnail)}
    return {"picture": own, "condition": escaped(" + ".join(condition)), "found": found}
