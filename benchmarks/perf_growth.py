"""How time and memory grow with the gallery, N = 1e4 ... 1e7: rows here, a plot by ``python benchmarks --publish``."""

from __future__ import annotations

import tempfile
from pathlib import Path

import worker
from measuring import SCALE, Row, memory
from problems import write_features

QUERIES, WIDTH = 256, 256
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
SERIES = {
    "image only, memory-mapped float16": ("image_only", False, 10_000_000),
    "image only, float32 in memory": ("image_only", True, 1_000_000),
    "CLAY, a new condition, float32 in memory": ("clay", True, 1_000_000),
}
"""Label -> method, whether in memory, and the largest gallery (what is in memory three times is 30 GB)."""


def measure() -> list[Row]:
    rows = []
    for items in SIZES:
        if items > SIZES[-1] * SCALE and items > SIZES[0]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "gallery.npy"
            write_features(path, items, WIDTH)
            for label, (method, in_memory, most) in SERIES.items():
                if items > most:
                    continue
                measured = worker.run(
                    "search_named", path=str(path), queries=QUERIES, method=method, in_memory=in_memory
                )
                what = f"{label}: {QUERIES} queries, N = {items:,}, D = {WIDTH}"
                row = memory(what, "", int(measured["peak"]), None, measured["seconds"])
                rows.append(row | {"series": label, "items": items})
    return rows


def plot(rows: list[Row], path: Path) -> None:
    """Time and memory over N, log-log, side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (time_axis, memory_axis) = pyplot.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    for marker, label in zip("osD^", SERIES, strict=False):
        points = [row for row in rows if row["series"] == label]
        for axis, key in ((time_axis, "seconds"), (memory_axis, "peak_gib")):
            axis.plot([row["items"] for row in points], [row[key] for row in points], marker=marker, label=label)
    memory_axis.axhline(
        1.5,
        color="0.5",
        linestyle=":",
        label="1.5 GiB: bound for the search itself (here the items' names are held too)",
    )
    time_axis.set_ylabel(f"seconds for {QUERIES} queries, 10 best each")
    memory_axis.set_ylabel("peak resident memory of the process (GiB)")
    for axis in (time_axis, memory_axis):
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel(f"gallery items N (D = {WIDTH})")
        axis.grid(alpha=0.3)
    memory_axis.set_yticks([1, 2, 4, 8], ["1", "2", "4", "8"])
    memory_axis.minorticks_off()
    figure.legend(*memory_axis.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
