"""Search in a prepared index: a new condition against one product, a query under a known condition against faiss."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path

import torch
from measuring import Row, cost, gain, in_turn, scaled, skipped
from problems import Held

from condsim.harness.one_vector import unit
from condsim.harness.search.pictures import Pictures
from condsim.harness.search.searcher import Query, Searcher
from condsim.harness.task import ImageTable
from condsim.methods.clay import Clay

ITEMS, WIDTH, RANK, TOP = scaled(1_000_000, 10_000), 512, 50, 20


class AnyValues:
    """Sixty values for every condition."""

    def missing(self, conditions: Sequence[str]) -> list[str]:
        return []

    def values(self, condition: str) -> tuple[str, ...]:
        return tuple(f"{condition} {i}" for i in range(60))

    def how_to_add(self, conditions: Sequence[str]) -> str:
        return ""


def measure() -> list[Row]:
    torch.manual_seed(0)
    features = torch.randn(WIDTH) + torch.randn(ITEMS, WIDTH)
    table = ImageTable(Path(), ("",) * ITEMS)
    searcher = Searcher(Held({}, WIDTH), Pictures(table, features, {}))
    method = Clay(rank=RANK, phrases=AnyValues())
    return [new_condition(searcher, method), *known_condition(searcher, method)]


def new_condition(searcher: Searcher, method: Clay) -> Row:
    """The whole first search: values, SVD, coordinates of all items, ranking."""
    features, basis, number = searcher.pictures.features, torch.randn(WIDTH, RANK), count()

    def ours() -> None:
        searcher.search(method, [Query(row=0, condition=(f"condition {next(number)}",))], TOP)

    def product() -> torch.Tensor:
        return features @ basis

    ours()
    what = f"the first search under a new CLAY condition, {ITEMS:,} x {WIDTH}, k = {RANK}, {TOP} best"
    against = f"one [N, D] x [D, k] product, {torch.get_num_threads()} threads"
    return cost(what, against, *in_turn(ours, product), 1.3)


def known_condition(searcher: Searcher, method: Clay) -> list[Row]:
    try:
        import faiss
    except ImportError:
        return [skipped("search under a known condition", "faiss-cpu is not installed: pip install 'condsim[perf]'")]
    threads = torch.get_num_threads()
    faiss.omp_set_num_threads(threads)
    flat, vectors = faiss.IndexFlatIP(WIDTH), unit(searcher.pictures.features).numpy()
    flat.add(vectors)
    rows = []
    for queries, aim in ((1, 6), (16, None)):
        batch = [Query(row=i * (ITEMS // queries), condition=("color",)) for i in range(queries)]
        own = vectors[[query.row for query in batch]]
        times = in_turn(
            lambda batch=batch: searcher.search(method, batch, TOP),
            # faiss finds the query's own picture too: one place more.
            lambda own=own: flat.search(own, TOP + 1),
        )
        what = f"a search under a known CLAY condition, {queries} queries, {ITEMS:,} items, {TOP} best"
        against = f"faiss-cpu {faiss.__version__} IndexFlatIP on the full features, {threads} threads"
        rows.append(gain(what, against, *times, aim))
    return rows
