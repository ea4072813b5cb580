"""The bootstrap against a loop over resamples."""

from __future__ import annotations

import numpy as np
from measuring import Row, gain, in_turn, scaled

from condsim.harness.statistics.compare import compare
from condsim.harness.statistics.intervals import mean_intervals

QUERIES, RUNS, RESAMPLES = 8032, 20, scaled(10_000, 1000)
LOOPED = RESAMPLES // 50


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

    plain, clustered, ours, ours_clustered, compared = in_turn(
        loop,
        clustered_loop,
        lambda: mean_intervals(values, resamples=RESAMPLES),
        lambda: mean_intervals(values, clusters, resamples=RESAMPLES),
        lambda: compare({str(i): column for i, column in enumerate(values.T)}, clusters, resamples=RESAMPLES),
        repeats=3,
    )
    plain, clustered = ([seconds * RESAMPLES / LOOPED for seconds in times] for times in (plain, clustered))
    size = f"{RESAMPLES:,} resamples x {QUERIES:,} queries x {RUNS} runs"
    scale = f"(timed over {LOOPED} and scaled)"
    by_cluster = f"a loop over resamples of clusters {scale}"
    return [
        gain(f"bootstrap, {size}", f"a loop over resamples {scale}", ours, plain, 20),
        gain(f"bootstrap by cluster, {size}", by_cluster, ours_clustered, clustered, 20),
        gain(f"comparison of all pairs of {RUNS} runs, intervals included", by_cluster, compared, clustered),
    ]
