"""Plots as files: which there are, what they show, and that the same records give the same files."""

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from builders import make_results
from condsim.harness.commands.plot import main
from condsim.harness.errors import CondsimError
from condsim.harness.results.figures import figures, task_bars
from condsim.harness.results.plots import write_plots
from condsim.harness.results.results import Results

NAMES = ["toy-tasks", "toy-clay-tiny-by-rank", "toy-cost", "toy-find-conditions", "toy-focus-conditions"]


@pytest.mark.slow
def test_every_plot_in_both_formats_and_byte_for_byte_again(results_folder: Path, tmp_path: Path) -> None:
    groups = Results(results_folder).chosen()
    written = write_plots(groups, tmp_path / "one")
    assert [path.name for path in written] == [f"{name}.{form}" for form in ("png", "svg") for name in NAMES]
    for path in written:
        if path.suffix == ".png":
            assert min(Image.open(path).size) > 200
        else:
            assert path.read_text().rstrip().endswith("</svg>")
    for path in write_plots(groups, tmp_path / "two", ["svg"]):
        assert path.read_bytes() == (tmp_path / "one" / path.name).read_bytes()


def test_bars_and_curves_show_the_records_numbers(results_folder: Path) -> None:
    groups = Results(results_folder).chosen()
    for axes, group in zip(task_bars(groups).axes, groups, strict=True):
        shown = [bar.get_width() for bar in axes.patches]  # type: ignore[attr-defined]
        values = sorted(100 * run.record.metrics["recall@1"].value for run in group.runs)
        assert shown == pytest.approx(values)
    curves = dict(figures(groups, []))["toy-clay-tiny-by-rank"].axes[0].lines
    assert [line.get_label() for line in curves] == ["find", "focus"]
    for line, group in zip(curves, groups, strict=True):
        expected = {run.record.settings["rank"]: 100 * run.record.metrics["recall@1"].value for run in group.runs
                    if run.record.method == "clay"}  # fmt: skip
        points = zip(line.get_xdata(), line.get_ydata(), strict=True)  # type: ignore[arg-type]
        assert {int(x): y for x, y in points} == pytest.approx(expected)  # type: ignore[arg-type]


def test_a_filter_chooses_runs_and_the_metric(results_folder: Path) -> None:
    results = Results(results_folder)
    (group,) = results.chosen(task="focus", method="clay", metric="recall@5")
    assert {run.record.method for run in group.runs} == {"clay"}
    assert group.headline == "recall@5"
    with pytest.raises(CondsimError, match="one metric"):
        results.chosen(metric=["recall@1", "recall@5"])
    with pytest.raises(CondsimError, match="png"):
        main(["--results", str(results_folder), "--formats", "pngg"])


@pytest.mark.filterwarnings("error::UserWarning")
def test_names_with_markup_are_letters_and_long_ones_leave_room_for_the_drawing(tmp_path: Path) -> None:
    hostile = r"$\frac{1}$ </text><script>"
    long = {"checkpoint": "results/checkpoints/query_adaptive-e47406ed1e15.safetensors", "feedforward": 8}
    swept: list[tuple[str, float, dict[str, Any]]] = [(hostile, 0.5 * rank, {"rank": rank}) for rank in (1, 2, 3)]
    methods = (*swept, ("trained", 0.5, long))
    results = make_results(tmp_path / "results", queries=10, methods=methods)
    written = write_plots(Results(results).chosen(), tmp_path / "plots", ["svg"])
    assert {path.parent for path in written} == {tmp_path / "plots"}
    for path in written:
        drawing = path.read_text()
        assert "<script" not in drawing
        widths = re.findall(r'<svg [^>]*\bwidth="([\d.]+)pt"', drawing)
        assert [float(width) < 1000 for width in widths] == [True]
