"""`make perf`: run the measurements of this folder and print one table. Ratios are of times taken in one run.

A measurement is a module `perf_<name>.py` with ``measure() -> list of rows`` (``measuring``). `make perf ONLY=ranking`
runs one of them, and the others' last rows are kept beside it; `python benchmarks --publish` writes the tables of
docs/speed.md and the growth plot from what is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from measuring import SCALE, Row
from rich.table import Table

from condsim.harness.terminal.console import console

FOLDER = Path(__file__).parent
DOCS = FOLDER.parent / "docs"
BEGIN, END = "<!-- rows: written by `python benchmarks --publish` -->", "<!-- end of rows -->"
TITLES = {
    "encoding": "Encoding",
    "ranking": "Ranking",
    "clay": "CLAY on a large gallery",
    "search": "Search in a prepared index",
    "query_adaptive": "Query-adaptive transforms",
    "methods": "Other methods",
    "statistics": "Statistics",
    "start": "Start-up",
    "sweep": "Sweeps",
    "engine": "Several workers",
    "memory": "Memory",
    "gpu": "On a GPU",
}


def main() -> None:
    known = sorted(path.stem.removeprefix("perf_") for path in FOLDER.glob("perf_*.py"))
    parser = argparse.ArgumentParser("make perf", description=__doc__.split("\n")[0])
    parser.add_argument("only", nargs="*", choices=[*known, []], help="which measurements (default: all)")
    parser.add_argument("--output", type=Path, default=Path("results/perf.json"))
    parser.add_argument("--publish", action="store_true", help="measure nothing; write docs/speed.md and its plot")
    options = parser.parse_args()
    kept: dict[str, Any] = json.loads(options.output.read_text()) if options.output.exists() else {}
    kept = kept.get("measurements", {})
    if options.publish:
        publish(kept)
        return
    names, failed = options.only or known, []
    options.output.parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        console.print(f"measuring {name} ...")
        try:
            kept[name] = measured(name)
        except subprocess.CalledProcessError:
            failed.append(name)
            continue
        options.output.write_text(json.dumps({"measurements": kept}, indent=1) + "\n")
    rows = [row for name in names if name not in failed for row in kept[name]["rows"]]
    table = Table("what", "against", "result", "aim", "met")
    for row in rows:
        table.add_row(row["what"], row["against"], result(row), row["aim"], met(row))
    console.print(table)
    console.print(f"{options.output} written")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def measured(name: str) -> dict[str, Any]:
    """The rows of one measurement in a process of its own: it inherits no memory and no threads."""
    import torch  # `--help` and `--publish` need none

    started = time.perf_counter()
    code = f"import json, perf_{name}; print(json.dumps(perf_{name}.measure()))"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(FOLDER), os.environ.get("PYTHONPATH")))),
    }
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True, env=environment)
    rows: list[Row] = json.loads(done.stdout.splitlines()[-1])
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "took": round(time.perf_counter() - started, 1),
        "scale": SCALE,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "rows": rows,
    }


def result(row: Row) -> str:
    """The measured number: a ratio with its two times, or a peak."""
    if "ratio" in row:
        low, high = row["ratios"]
        times = f"{shown(row['seconds'])} : {shown(row['baseline_seconds'])}"
        return f"{row['ratio']:.3g} ({low:.3g} to {high:.3g}; {times})"
    if "peak_gib" in row:
        return f"{row['peak_gib']:.2f} GiB ({shown(row['seconds'])})"
    return "not measured"


def shown(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 0.1 else f"{seconds * 1e3:.3g} ms"


def met(row: Row) -> str:
    return {True: "yes", False: "no", None: ""}[row["met"]]


def publish(kept: dict[str, Any]) -> None:
    """Write the kept rows as tables into docs/speed.md, and the growth plot beside it. Other tables there stay."""
    page = DOCS / "speed.md"
    before, rest = page.read_text().split(BEGIN)
    old, after = rest.split(END)
    there = dict(section.split("\n", 1) for section in old.split("### ")[1:])
    parts = []
    for name, title in TITLES.items():
        if name not in kept:
            parts += [f"### {title}", there[title].rstrip("\n"), ""] if title in there else []
            continue
        measured = kept[name]
        reduced = "" if measured["scale"] == 1 else f", at a scale of {measured['scale']:g}"
        parts += [
            f"### {title}",
            "",
            f"{measured['cores']} cores, torch {measured['torch']}, {measured['created'][:10]}{reduced}",
            "",
        ]
        parts += ["| what | against | result | aim | met |", "|---|---|---|---|---|"]
        for row in measured["rows"]:
            parts.append("| " + " | ".join((row["what"], row["against"], result(row), row["aim"], met(row))) + " |")
        parts.append("")
    page.write_text(before + BEGIN + "\n\n" + "\n".join(parts) + END + after)
    console.print(f"{page} written")
    if "growth" in kept:
        plot = import_module("perf_growth").plot
        plot(kept["growth"]["rows"], DOCS / "speed-growth.png")
        console.print(f"{DOCS / 'speed-growth.png'} written")


if __name__ == "__main__":
    main()
