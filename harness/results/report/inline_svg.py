"""A figure as SVG inside the page, in the colours of the page's style sheet, so that it follows the dark theme."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from condsim.harness.results.figures import COLORS, GRID, INK, SOFT, STYLE

_VARIABLES = {
    **{color: f"var(--c{i})" for i, color in enumerate(COLORS)},
    INK: "var(--ink)", SOFT: "var(--soft)", GRID: "var(--line)", "#ffffff": "none",
}  # fmt: skip
"""Colour of the figure -> variable of the style sheet."""


def inline_svg(draw: Callable[[], Figure], name: str) -> Markup:
    """The figure that ``draw`` makes, as an ``<svg>`` element without its title, which the page shows itself.

    ``name``: its description, different for each figure of a page. matplotlib escapes the texts. Identifiers that
    several figures of a page would share are removed.
    """
    out = io.StringIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = draw()
        FigureCanvasSVG(figure)
        for axes in figure.axes:
            axes.set_title("", loc="left")
        figure.savefig(out, format="svg", metadata=metadata, transparent=True)
    svg = out.getvalue()
    svg = svg[svg.index("<svg ") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"#([\w-]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", svg)
    svg = re.sub(r"#[0-9a-f]{6}\b", lambda match: _VARIABLES.get(match[0], match[0]), svg)
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg class="chart" role="img" viewBox="\1">', svg, count=1)
    return Markup(svg.replace("<svg ", str(Markup('<svg aria-label="{}" ').format(name)), 1))
