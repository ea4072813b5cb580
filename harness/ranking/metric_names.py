"""Metric names and their order. Does not import NumPy, because the leaderboard needs only this of the metrics."""

from __future__ import annotations

import re
from collections.abc import Iterable


def metric_order(name: str) -> tuple[bool, str, int]:
    """Sort key of metric names: recall@2 before recall@10, headline means last."""
    family, _, k = name.partition("@")
    return family == "mean", family, int(k) if re.fullmatch(r"\d+", k) else 0


def headline_metric(names: Iterable[str]) -> str | None:
    """The metric that represents a task where only one is shown and tested: the first one that its benchmark lists."""
    return next(iter(names), None)


def in_order(names: Iterable[str], headline: str | None) -> list[str]:
    """The headline metric first, the others by ``metric_order``."""
    return sorted(set(names), key=lambda name: (name != headline, metric_order(name)))
