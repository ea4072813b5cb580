"""`make perf`: run every measurement of this folder and print one table. Ratios are of times taken in one run.

A measurement is a module `perf_<name>.py` with ``measure() -> list of rows``; a row says ``what`` took ``seconds``,
``against`` what took ``baseline_seconds``, the ``ratio`` and the ``aim``. `make perf ONLY=ranking` runs one of them.
"""

from __future__ import annotations

import argparse
import json
import platform
from datetime import UTC, datetime
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from rich.table import Table

from condsim.harness.console import console

FOLDER = Path(__file__).parent


def measure(path: Path) -> list[dict[str, Any]]:
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.measure())


def main() -> None:
    known = {path.stem.removeprefix("perf_"): path for path in sorted(FOLDER.glob("perf_*.py"))}
    parser = argparse.ArgumentParser("make perf", description=__doc__.split("\n")[0])
    parser.add_argument("only", nargs="*", choices=[*known, []], help="which measurements (default: all)")
    parser.add_argument("--output", type=Path, default=Path("results/perf.json"))
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in options.only or known:
        console.print(f"measuring {name} ...")
        rows += [{"measurement": name, **row} for row in measure(known[name])]
    table = Table("what", "against", "seconds", "baseline", "ratio", "aim")
    for row in rows:
        numbers = (f"{row[key]:.4g}" for key in ("seconds", "baseline_seconds", "ratio"))
        table.add_row(str(row["what"]), str(row["against"]), *numbers, str(row["aim"]))
    console.print(table)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    about = {"machine": platform.machine(), "created": datetime.now(UTC).isoformat(timespec="seconds"), "rows": rows}
    options.output.write_text(json.dumps(about, indent=1) + "\n")
    console.print(f"{options.output} written")


if __name__ == "__main__":
    main()
