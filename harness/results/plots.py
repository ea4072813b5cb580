"""The figures as files for papers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg

from condsim.harness.files.paths import safe_name
from condsim.harness.results.figures import STYLE, figures
from condsim.harness.results.output import written
from condsim.harness.results.question_set import QuestionSet


def write_plots(
    groups: Sequence[QuestionSet], folder: Path, formats: Sequence[str] = ("png", "svg"), notes: list[str] | None = None
) -> list[Path]:
    """Write every figure in every format into ``folder``; the same records give the same SVG files.

    ``groups``: one question set per task. ``notes`` names runs that cannot be read. Raises CondsimError where a file
    cannot be written.
    """
    paths = []
    with mpl.rc_context(STYLE):
        for form in formats:  # a new figure per format: its layout would depend on the format drawn before
            for name, figure in figures(groups, [] if notes is None else notes):
                FigureCanvasAgg(figure)
                path = folder / f"{safe_name(name)}.{form}"
                with written(path) as scratch:
                    figure.savefig(scratch, metadata={"Date": None} if form == "svg" else None)
                paths.append(path)
    return paths
