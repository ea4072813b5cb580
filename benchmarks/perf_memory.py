"""Peak resident memory, each job in a process of its own: interpreter, imports and pages of mapped files included."""

from __future__ import annotations

import tempfile
from pathlib import Path

import worker
from measuring import Row, memory, scaled
from problems import MIT_STATES, write_features

ITEMS, WIDTH = scaled(10_000_000, 10_000), 256


def measure() -> list[Row]:
    return [*mit_states(), *mapped()]


def mit_states() -> list[Row]:
    """The whole task, with recall alone and with the measure that needs every relevant image's place."""
    queries, items, width = MIT_STATES
    queries = scaled(queries)
    rows = []
    for metrics, top in ((["recall@1", "recall@5", "recall@10"], 10), (["map"], 10)):
        measured = worker.run("mit_states", queries=queries, metrics=metrics, top=top)
        what = f"MIT-States size, {', '.join(metrics)}: {queries:,} x {items:,} x {width}, 25 relevant"
        rows.append(_row(what, measured, 2.0))
    return rows


def mapped() -> list[Row]:
    """Search over a float16 file of 5 GB at full size, with few and with many queries."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gallery.npy"
        write_features(path, ITEMS, WIDTH)
        size = f"{ITEMS:,} x {WIDTH} float16 ({path.stat().st_size / 1e9:.2g} GB)"
        for queries in (1, 6, 64, 1024):
            measured = worker.run("search", path=str(path), queries=queries)
            rows.append(
                _row(f"search over a memory-mapped gallery, {size}, {queries:,} queries, 10 best", measured, 1.5)
            )
        measured = worker.run("search_named", path=str(path), queries=64, method="image_only", in_memory=False)
        what = f"the same as a run, with {ITEMS:,} names in memory as Python strings, 64 queries"
        rows.append(_row(what, measured, None))
    return rows


def _row(what: str, measured: dict[str, float], aim: float | None) -> Row:
    anonymous = measured["anonymous"] / 2**30
    against = f"without pages of files: {anonymous:.2f} GiB"
    return memory(what, against, int(measured["peak"]), aim, measured["seconds"], anonymous_gib=anonymous)
