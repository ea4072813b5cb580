"""The benchmark that a command's settings choose: its tasks, and its queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from condsim.harness.configs import make_once
from condsim.harness.fewer_queries import restrict
from condsim.harness.task import Benchmark
from condsim.harness.wordings import reworded


def chosen_benchmark(
    config: Mapping[str, Any], tasks: Sequence[str] | None, queries_from: str | None, wording: str | None = None
) -> Benchmark:
    """The benchmark of ``config`` with ``tasks`` (None: all) and the queries that the file ``queries_from`` lists,
    its conditions in another ``wording`` (``harness.wordings``)."""
    benchmark: Benchmark = make_once(config, "benchmark").select(tasks and list(tasks))
    benchmark = restrict(benchmark, queries_from) if queries_from else benchmark
    return reworded(benchmark, wording) if wording else benchmark
