"""The benchmark that a command's settings choose: its tasks, and its queries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from condsim.harness.configs import make_once
from condsim.harness.task import Benchmark
from condsim.harness.variants.fewer_queries import restrict
from condsim.harness.variants.wordings import reworded


def chosen_benchmark(settings: Mapping[str, Any]) -> Benchmark:
    """The benchmark of a command's settings: the chosen ``tasks`` (None: all), with the queries that the file
    ``queries_from`` lists, and with its conditions in another ``wording`` (``harness.variants.wordings``), if any."""
    benchmark: Benchmark = make_once(settings["benchmark"], "benchmark").select(settings["tasks"])
    if query_file := settings["queries_from"]:
        benchmark = restrict(benchmark, query_file)
    wording = settings.get("wording")
    return reworded(benchmark, wording) if wording else benchmark
