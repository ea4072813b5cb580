"""CLAY on a large gallery: a new condition against one product, queries of a known one against faiss."""

from __future__ import annotations

from typing import Any

import torch
from measuring import Row, cost, gain, in_turn, scaled, skipped
from problems import gallery_of, search

from condsim.harness.one_vector import unit
from condsim.harness.ranking.engine import rank_task
from condsim.methods.clay import Clay

ITEMS, WIDTH, QUERIES, TOP = scaled(1_000_000, 10_000), 512, (1, 16, 256), 10


def measure() -> list[Row]:
    torch.manual_seed(0)
    gallery = gallery_of(torch.randn(WIDTH) + torch.randn(ITEMS, WIDTH))
    scorer: Any = Clay().prepare(gallery)
    return [condition(scorer), *known_condition(scorer, gallery.features)]


def condition(scorer: Any) -> Row:
    """From the prompts' features to every item's coordinates, with the gallery's log map known."""

    def ours() -> None:
        scorer.subspaces.cache_clear()
        scorer.whole.cache_clear()
        scorer.whole(0)

    ours()
    basis = scorer.subspaces(0)[0].basis.contiguous()

    def product() -> torch.Tensor:
        return scorer.points @ basis

    what = f"a new CLAY condition, {ITEMS:,} x {WIDTH}, k = {basis.shape[1]}: SVD, coordinates, unit vectors"
    times = in_turn(ours, product)
    return cost(what, f"one [N, D] x [D, k] product, {torch.get_num_threads()} threads", *times, 1.3)


def known_condition(scorer: Any, features: torch.Tensor) -> list[Row]:
    """One query, a few (faiss has other code for fewer than twenty), and a batch."""
    try:
        import faiss
    except ImportError:
        return [
            skipped("CLAY, queries of a known condition", "faiss-cpu is not installed: pip install 'condsim[perf]'")
        ]
    threads = torch.get_num_threads()
    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatIP(WIDTH)
    index.add(unit(features).numpy())
    texts, rows = torch.zeros(1, WIDTH), []
    for queries in QUERIES:
        task = search(("",) * ITEMS, queries, "color")
        own = unit(features[torch.from_numpy(task.reference)]).numpy()
        times = in_turn(
            lambda task=task: rank_task(task, scorer, features, texts, top=TOP),
            # faiss ranks the query's own image too: one place more.
            lambda own=own: index.search(own, TOP + 1),
        )
        what = f"CLAY, {queries} queries of a known condition, {ITEMS:,} items, {TOP} best, as the engine ranks"
        against = f"faiss-cpu {faiss.__version__} IndexFlatIP on the full features, {threads} threads"
        rows.append(gain(what, against, *times, 5))
    return rows
