"""How far a long piece of work is: a bar on a terminal, nothing anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

PATIENCE = 1.0
"""Seconds that a piece of work may take before its bar appears."""

_shown: Progress | None = None
_lock = Lock()


@contextmanager
def track(total: int, description: str, patience: float = PATIENCE) -> Iterator[Callable[[int], None]]:
    """``with track(len(rows), "encoding") as advance: ... advance(1)``: count, rate and remaining time on stderr.

    The bar appears once the work has taken ``patience`` seconds, only where stderr is a terminal, without colour where
    NO_COLOR is set. Pieces of work inside one another share one display. ``advance`` may be called from any thread.
    """
    bar = _Bar(total, description, time.monotonic() + patience)
    try:
        yield bar.advance
    finally:
        bar.close()


class _Bar:
    def __init__(self, total: int, description: str, due: float) -> None:
        self.total, self.description, self.due = total, description, due
        self.done = 0
        self.progress: Progress | None = None
        self.owner = False

    def advance(self, count: int = 1) -> None:
        with _lock:
            self.done += count
            if self.progress is None and time.monotonic() >= self.due:
                self._show()
            if self.progress is not None:
                self.progress.update(self.task, completed=self.done)

    def close(self) -> None:
        global _shown
        with _lock:
            if self.progress is None:
                return
            self.progress.remove_task(self.task)
            if self.owner:
                self.progress.stop()
                _shown = None

    def _show(self) -> None:
        global _shown
        self.due = float("inf")
        if _shown is None:
            _shown = _display()
            if _shown is None:
                return
            self.owner = True
            _shown.start()
        self.progress = _shown
        self.task = _shown.add_task(self.description, total=self.total, completed=self.done)


def _display() -> Progress | None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Task as Work
    from rich.text import Text

    console = Console(stderr=True)
    if not console.is_terminal:
        return None

    class Rate(ProgressColumn):
        def render(self, task: Work) -> Text:
            return Text(f"{task.speed:,.0f}/s" if task.speed else "")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)
