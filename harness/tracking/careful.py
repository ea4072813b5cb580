"""The base class of the trackers. A tracker that fails never fails a run."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from condsim.harness.errors import first_line
from condsim.harness.run.record import Record
from condsim.harness.terminal.console import console

if TYPE_CHECKING:
    from condsim.harness.results.leaderboard import Leaderboard


class CarefulTracker(ABC):
    """Reports the runs of one command as one group. The first failure prints one warning and ends the reporting."""

    def __init__(self, results: str | Path, group: str | None = None) -> None:
        self.results = Path(results)
        self.group = group or f"bench-{datetime.now():%Y-%m-%d-%H%M%S}-{os.getpid()}"
        self.runs: list[str] = []
        self.failed = False

    def log(self, record: Record) -> None:
        self.runs.append(record.run)
        self._attempt(lambda: self.report_run(record))

    def log_step(self, name: str, step: int, values: Mapping[str, float]) -> None:
        self._attempt(lambda: self.report_step(name, step, values))

    def finish(self) -> None:
        if self.runs:
            with TemporaryDirectory(prefix="condsim-plots-") as folder:
                self._attempt(lambda: self.report_group(*self._summary(Path(folder))))
        self._attempt(self.close)

    @abstractmethod
    def report_run(self, record: Record) -> None:
        """May raise anything."""

    @abstractmethod
    def report_group(self, leaderboard: Leaderboard, plots: list[Path]) -> None:
        """Report the group's part of the leaderboard, and its plots (PNG files). May raise anything."""

    @abstractmethod
    def report_step(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """May raise anything."""

    def close(self) -> None:  # noqa: B027  # most have nothing to close
        """Called after the last report."""

    def _summary(self, folder: Path) -> tuple[Leaderboard, list[Path]]:
        from condsim.harness.results.results import Results  # read again by the command: these are small files

        results, runs = Results(self.results), set(self.runs)
        plots = results.plots(folder, ["png"], runs=runs) if find_spec("matplotlib") else []  # the extra condsim[plot]
        return results.leaderboard().of_runs(runs), plots

    def _attempt(self, report: Callable[[], None]) -> None:
        if self.failed:
            return
        try:
            report()
        except Exception as error:  # a service or a disk may raise anything; the records are safe
            self.failed = True
            line = f"{type(self).__name__} failed and is off for the rest of this command: {first_line(error)}"
            console.print(line, style="yellow")


def metric_numbers(record: Record) -> dict[str, float]:
    """Metrics with the ends of their intervals, as fractions, and seconds: ``recall@1/low``, ``seconds/score``."""
    numbers: dict[str, float] = {}
    for name, metric in record.metrics.items():
        low, high = metric.ends
        numbers |= {name: metric.value, f"{name}/low": low, f"{name}/high": high}
    return numbers | {f"seconds/{stage}": value for stage, value in record.seconds.items()}
