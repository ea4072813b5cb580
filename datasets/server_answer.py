"""The answer of a benchmark's own server to a submission: its numbers under our names of metrics.

CIRR's server shows its numbers on a page, CIRCO's sends them by e-mail. So they are read as JSON, ``{"recall@1":
33.6}``, and as lines of text, ``mAP@5: 9.35`` (as CIRCO's published evaluation prints them).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator
from typing import Any, Literal

from condsim.harness.errors import CondsimError

Unit = Literal["percent", "fraction"]
_NAME = re.compile(r"(?:(?:group|subset)_?)?(?:recall|r|map)(?:_?(?:subset|sub|group|s))?(?:@|_?at_?)([0-9]+)")
_LINE = re.compile(r"[\s\"'*|-]*(?P<name>[^:=|]+?)[\"'*]*\s*[:=|]\s*(?P<value>[-+]?[0-9]+(?:\.[0-9]+)?)\s*%?[\s,|*]*")


def read_answer(
    text: str, metrics: Collection[str], where: str, unit: Unit | None = None
) -> tuple[dict[str, float], list[str]]:
    """Metric -> fraction, and the names that are no metric of the task.

    ``metrics``: those that the task's other splits have. ``unit``: of the numbers; None: percent if one is above 1.
    Raises CondsimError where no metric is in ``text``, where one has two values, for a value outside of its range, and
    where the unit is not clear.
    """
    values: dict[str, float] = {}
    others: list[str] = []
    for name, value in _pairs(text, where):
        metric = _metric(name, metrics)
        if metric is None:
            others.append(name)
        elif values.setdefault(metric, value) != value:
            raise CondsimError(f"{where}: {metric} has two values, {values[metric]:g} and {value:g}")
    if not values:
        found = f"; found {', '.join(others[:5])}" if others else ""
        expected = f"expected lines such as 'recall@1: 33.6', or JSON, with {', '.join(metrics)}"
        raise CondsimError(f"{where}: {expected}{found}")
    if unit is None and max(values.values()) <= 1:
        raise CondsimError(f"{where}: no value is above 1: say with unit=percent or unit=fraction what they are")
    most = 1.0 if unit == "fraction" else 100.0
    for metric, value in values.items():
        if not 0 <= value <= most:
            raise CondsimError(f"{where}: {metric} is {value:g}, expected a number from 0 to {most:g}")
    return {metric: value / most for metric, value in values.items()}, others


def _pairs(text: str, where: str) -> Iterator[tuple[str, float]]:
    try:
        yield from _numbers(json.loads(text), where)
    except (json.JSONDecodeError, RecursionError):
        for line in text.splitlines():
            if found := _LINE.fullmatch(line):
                yield found["name"], float(found["value"])


def _numbers(value: Any, where: str, name: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a JSON value with the name before it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, where, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner, where, name)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise CondsimError(f"{where}: {name} is {value}, not a number")
        yield name, float(value)
    elif isinstance(value, str) and re.fullmatch(r"\s*[0-9]+(\.[0-9]+)?\s*%?\s*", value):
        yield name, float(value.strip().rstrip("% "))


def _metric(name: str, metrics: Collection[str]) -> str | None:
    """``Recall_subset@1``, ``R_s@1``, ``group_recall_at1`` as subset_recall@1; a recall as target_recall@5 where the
    task has that alone; None for another name."""
    plain = re.sub(r"[\s-]+", "_", name.strip().lower())
    found = _NAME.fullmatch(plain)
    if found is None:
        return None
    family = "map" if "map" in plain else "recall"
    in_set = re.search("group|sub|r_?s@|_s@", plain)
    wanted = [f"subset_{family}@{found[1]}"] if in_set else [f"{family}@{found[1]}", f"target_{family}@{found[1]}"]
    return next((metric for metric in wanted if metric in metrics), None)
