"""The charts of a report: drawn once, because drawing takes half of the time of a report."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files

from markupsafe import Markup

from condsim.harness.files.hashing import content_digest
from condsim.harness.results.kept import Remember

DRAWN_BY = ("figures.py", "report/inline_svg.py")
"""The code in harness/results that a chart depends on."""


def chart(drawing: str, content: object, name: str, remember: Remember) -> Markup:
    """The drawing of :mod:`condsim.harness.results.figures` with this name; without matplotlib, what it needs."""
    drawn_with = _drawn_with()
    if drawn_with is None:
        return Markup("<p class=\"facts\">The chart needs matplotlib: pip install 'condsim[plot]'.</p>")
    return Markup(remember([drawn_with, drawing, repr(content), name], lambda: _drawn(drawing, content, name)))


@cache
def _drawn_with() -> str | None:
    """What a drawing depends on beside its content; None without matplotlib, the extra condsim[plot]."""
    try:
        release = version("matplotlib")
    except PackageNotFoundError:
        return None
    code = b"".join(files("condsim.harness.results").joinpath(name).read_bytes() for name in DRAWN_BY)
    return f"matplotlib {release}, {content_digest(code)}"


def _drawn(drawing: str, content: object, name: str) -> str:
    from condsim.harness.results import figures
    from condsim.harness.results.report.inline_svg import inline_svg

    return inline_svg(lambda: getattr(figures, drawing)(content), name)
