"""Progress of long work: a bar on a terminal, nothing anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 1.0
"""Seconds of work before its bar appears."""


@contextmanager
def track(total: int, description: str, patience: float = PATIENCE) -> Iterator[Callable[[int], None]]:
    """``with track(len(rows), "encoding") as advance: ... advance(1)``: count, rate and remaining time on stderr.

    The bar appears after ``patience`` seconds, only if stderr is a terminal. Bars of nested work appear below one
    another. ``advance`` may be called from any thread.
    """
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        monitor_interval = 0  # no thread that stays behind

    with Bar(
        total=total, desc=description, delay=patience, disable=None, leave=False, unit="", dynamic_ncols=True
    ) as bar:

        def advance(count: int = 1) -> None:
            with Bar.get_lock():
                bar.update(count)

        yield advance
