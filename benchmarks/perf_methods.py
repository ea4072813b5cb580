"""Speed of the training-free methods: against the straightforward computation, in one run, single thread."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from measuring import Row, gain, in_turn
from problems import gallery_of
from scipy.optimize import linear_sum_assignment

from condsim.harness.method import Gallery, Queries, TrainFeatures
from condsim.harness.one_vector import inner_products, unit
from condsim.methods.clay import Clay
from condsim.methods.inner_product import ImageOnly
from condsim.methods.neighborhood_rerank import NeighborhoodRerank
from condsim.methods.shared.sphere import direction_sum, log_map, mean_direction, rotate

WIDTH, ITEMS, PHRASES, SHORTLIST, NEIGHBORS = 512, 10_000, 1_000, 100, 10


def measure() -> list[Row]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [*rerank(), clay_condition(), clay_lists()]
    finally:
        torch.set_num_threads(threads)


def rerank() -> list[Row]:
    """The similarity of a query's neighbourhood to those of K = 100 candidates, k = 10 each."""
    gallery = random_gallery()
    queries = random_queries(gallery, 50)
    method = NeighborhoodRerank(ImageOnly(), shortlist=SHORTLIST, neighbors=NEIGHBORS)
    scorer: Any = method.prepare(gallery)
    scores = ImageOnly().prepare(gallery)(queries)
    best = scores.topk(SHORTLIST, dim=1).indices
    bank, own = scorer.sets.bank, scorer.sets.of(queries, "both", NEIGHBORS)
    others = scorer.sets.items[best]

    def batched() -> None:
        scorer.alikeness(own, others)

    def whole() -> None:
        scorer.rerank(scores, torch.arange(ITEMS).expand(len(queries), -1), own)

    def loop(bank: Any, own: Any, others: Any) -> None:
        for query in range(5):
            mine = bank[own[query]]
            for members in others[query]:
                cost = 1 - mine @ bank[members].T
                rows, columns = linear_sum_assignment(np.asarray(cost))
                (1 - cost[rows, columns]).mean()

    tensors = bank, own, others
    costs = 1 - scorer.similarities(own, others).reshape(-1, NEIGHBORS, NEIGHBORS).double().numpy()

    def assignments_alone() -> None:
        for cost in costs:
            linear_sum_assignment(cost)

    ours, torch_loop, numpy_loop, alone, reranked = in_turn(
        batched,
        partial(loop, *tensors),
        partial(loop, *(tensor.numpy() for tensor in tensors)),
        assignments_alone,
        whole,
        repeats=5,
    )
    ours, alone, reranked = ([seconds / 50 for seconds in times] for times in (ours, alone, reranked))
    torch_loop, numpy_loop = ([seconds / 5 for seconds in times] for times in (torch_loop, numpy_loop))
    what = f"matching of a query with K = {SHORTLIST} candidates, k = {NEIGHBORS}, 1 thread"
    return [
        gain(what, "a loop over candidates, torch", ours, torch_loop, 10),
        gain(what, "a loop over candidates, numpy", ours, numpy_loop),
        gain(what, "scipy's assignments alone", ours, alone),
        gain(f"re-rank of a query in {ITEMS:,} items", "scipy's assignments alone", reranked, alone),
    ]


def clay_condition() -> Row:
    """A new condition on a gallery of 10,000, ten queries, once its prompts' features are there."""
    gallery = random_gallery()
    queries = random_queries(gallery, 10)
    method = Clay()
    scorer: Any = method.prepare(gallery)
    texts = scorer.texts
    directions, mean_image = unit(gallery.features.double()), mean_direction(direction_sum(gallery.features))

    def folded() -> None:
        scorer.subspaces.cache_clear()
        scorer.whole.cache_clear()
        scorer(queries)

    def as_written() -> None:
        (subspace,) = method.subspaces(("color",), texts)

        def mapped(x: torch.Tensor) -> torch.Tensor:
            return unit(log_map(rotate(x, mean_image, subspace.base), subspace.base) @ subspace.basis)

        mapped(unit(queries.reference.double())) @ mapped(directions).T

    what = f"CLAY, one condition, {ITEMS:,} items, log map and rotation folded"
    return gain(what, "rotation and log map of the whole gallery", *in_turn(folded, as_written), 1)


def clay_lists() -> Row:
    """GeneCIS's form: lists of 15 candidates, 40 queries per condition."""
    gallery = random_gallery()
    queries = random_queries(gallery, 40)
    rows = torch.randint(ITEMS, (40, 15), generator=torch.Generator().manual_seed(1))
    scorer: Any = Clay().prepare(gallery)
    scorer(queries, rows)
    items = unit(gallery.features)
    references = unit(queries.reference)
    times = in_turn(lambda: scorer(queries, rows), lambda: inner_products(references, items, rows))
    return gain("CLAY on 40 lists of 15 candidates, its subspace known", "inner products of the lists", *times)


def random_gallery() -> Gallery:
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(WIDTH, generator=generator) + torch.randn(ITEMS, WIDTH, generator=generator)
    gallery = gallery_of(features)
    train = TrainFeatures(features, gallery.table, tuple(f"phrase {i}" for i in range(PHRASES)))
    return replace(gallery, train=lambda: train)


def random_queries(gallery: Gallery, n: int) -> Queries:
    condition = torch.zeros(n, dtype=torch.int64)
    return Queries(gallery.features[:n], gallery.condition_features[condition], condition, torch.arange(n))
