"""What every measurement shares: both sides in turn, the median of the ratios, rows with aim and result.

The environment's CONDSIM_PERF_SCALE (1: full size) makes the problems smaller, to try the scripts out.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

Row = dict[str, Any]
Job = Callable[[], object]

SCALE = float(os.environ.get("CONDSIM_PERF_SCALE", "1"))
LEAST = 1.0
"""Seconds that a measurement lasts: a shorter job is repeated, because its first time after another job is spent
on loading code and data into the caches again."""
REPEATS = int(os.environ.get("CONDSIM_PERF_REPEATS", "7" if SCALE == 1 else "3"))


def scaled(full: int, least: int = 1) -> int:
    """``full`` at this run's scale."""
    return max(least, round(full * SCALE))


def in_turn(*jobs: Job, repeats: int = REPEATS, warm: bool = True) -> list[list[float]]:
    """Seconds [jobs][repeats]: the jobs one after the other, again and again, so that all meet the same machine."""
    calls = [max(1, math.ceil(LEAST / min(timed(job), timed(job)))) for job in jobs] if warm else [1] * len(jobs)
    times: list[list[float]] = [[] for _ in jobs]
    for turn in range(repeats):
        for i in range(len(jobs)) if turn % 2 == 0 else reversed(range(len(jobs))):
            times[i].append(timed(jobs[i], calls[i]))
    return times


def timed(job: Job, calls: int = 1) -> float:
    """Seconds, the mean of the calls."""
    started = time.perf_counter()
    for _ in range(calls):
        job()
    return (time.perf_counter() - started) / calls


def cost(what: str, against: str, ours: list[float], theirs: list[float], aim: float | None = None) -> Row:
    """Our time divided by the baseline's: the aim is at most ``aim``."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return _row(what, against, ours, theirs, ratios, "" if aim is None else f"<= {aim:g}", None, aim)


def gain(what: str, against: str, ours: list[float], theirs: list[float], aim: float | None = None) -> Row:
    """The baseline's time divided by ours: the aim is at least ``aim``."""
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return _row(what, against, ours, theirs, ratios, "" if aim is None else f">= {aim:g}", aim, None)


def within(what: str, seconds: list[float], aim: float) -> Row:
    """Seconds against an absolute bound: the ratio is their share of it."""
    shares = [s / aim for s in seconds]
    return _row(what, "an absolute bound", seconds, [aim] * len(seconds), shares, f"<= {aim:g} s", None, 1.0)


def memory(what: str, against: str, peak: int, aim_gib: float | None, seconds: float, **more: Any) -> Row:
    """Peak resident memory in bytes against a bound in GiB (None: shown only)."""
    gib = peak / 2**30
    row = {"what": what, "against": against, "seconds": seconds, "peak_gib": gib, "aim": "", "met": None, **more}
    return row if aim_gib is None else row | {"aim": f"< {aim_gib:g} GiB", "met": gib < aim_gib}


def skipped(what: str, why: str) -> Row:
    """A row that cannot be measured here."""
    return {"what": what, "against": why, "aim": "", "met": None}


def _row(
    what: str,
    against: str,
    ours: list[float],
    theirs: list[float],
    ratios: list[float],
    aim: str,
    least: float | None,
    most: float | None,
) -> Row:
    ratio = statistics.median(ratios)
    met = None if least is None and most is None else (least or 0.0) <= ratio <= (most or float("inf"))
    return {
        "what": what,
        "against": against,
        "seconds": statistics.median(ours),
        "baseline_seconds": statistics.median(theirs),
        "ratio": ratio,
        "ratios": [min(ratios), max(ratios)],
        "aim": aim,
        "met": met,
    }
