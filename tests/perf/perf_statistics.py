"""The bootstrap against a loop over resamples. Ratios are ours / theirs, in one run."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from condsim.harness.statistics.compare import compare
from condsim.harness.statistics.intervals import mean_intervals

Row = dict[str, object]
QUERIES, RUNS, RESAMPLES, LOOPED = 8032, 20, 10_000, 200


def measure() -> list[Row]:
    rng = np.random.default_rng(0)
    values = (rng.random((QUERIES, RUNS)) < np.linspace(0.1, 0.3, RUNS)).astype(float)
    clusters = np.arange(QUERIES) // 2  # about as many queries share a reference
    members = [np.flatnonzero(clusters == cluster) for cluster in range(QUERIES // 2)]

    def loop() -> None:
        for _ in range(LOOPED):
            values[rng.integers(0, QUERIES, QUERIES)].mean(axis=0)

    def clustered_loop() -> None:
        for _ in range(LOOPED):
            drawn = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
            values[drawn].mean(axis=0)

    least = [float("inf")] * 5
    runs: list[Callable[[], object]] = [
        loop,
        clustered_loop,
        lambda: mean_intervals(values, resamples=RESAMPLES),
        lambda: mean_intervals(values, clusters, resamples=RESAMPLES),
        lambda: compare({str(i): column for i, column in enumerate(values.T)}, clusters, resamples=RESAMPLES),
    ]
    for _ in range(3):
        for i, run in enumerate(runs):
            started = time.perf_counter()
            run()
            least[i] = min(least[i], time.perf_counter() - started)
    plain, clustered = (seconds * RESAMPLES / LOOPED for seconds in least[:2])
    size = f"{RESAMPLES:,} resamples x {QUERIES:,} queries x {RUNS} runs"
    scaled = f"(timed over {LOOPED} and scaled)"
    return [
        row(f"bootstrap, {size}", f"a loop over resamples {scaled}", least[2], plain, 1 / 20),
        row(
            f"bootstrap by cluster, {size}", f"a loop over resamples of clusters {scaled}", least[3], clustered, 1 / 20
        ),
        row(f"comparison of all pairs of {RUNS} runs, intervals included", "the same loop", least[4], clustered, None),
    ]


def row(what: str, against: str, seconds: float, baseline: float, aim: float | None) -> Row:
    return {
        "what": what,
        "against": against,
        "seconds": seconds,
        "baseline_seconds": baseline,
        "ratio": seconds / baseline,
        "aim": aim,
    }


if __name__ == "__main__":
    for entry in measure():
        print(entry)
