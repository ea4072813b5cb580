"""Exact factored scores of query-adaptive transforms against scores by the transforms in full; a shortlist first."""

from __future__ import annotations

import torch
from measuring import Row, gain, in_turn, scaled
from problems import gallery_of
from torch import Tensor

from condsim.harness.method import Gallery, Method, Queries, Scorer
from condsim.harness.one_vector import unit
from condsim.harness.process.memory import all_freed_memory_kept
from condsim.methods.inner_product import ImageOnly
from condsim.methods.shared.low_rank import Factors, Transforms
from condsim.methods.two_stage import TwoStage, TwoStageScorer

ITEMS, WIDTH, RANK, QUERIES = scaled(100_000, 10_000), 512, 64, 4
SHORTLIST = 1000


def dense(transforms: Transforms, items: Tensor) -> Tensor:
    """T is formed for each query and applied to every item."""
    scores = []
    for query, transform in zip(unit(transforms.query), transforms.dense(), strict=True):
        moved = items @ transform.T
        scores.append((moved @ query) / moved.norm(dim=1))
    return torch.stack(scores)


def factored(transforms: Transforms, items: Tensor) -> Tensor:
    return Factors.of(transforms).cosines(items)


def measure() -> list[Row]:
    torch.manual_seed(0)
    items = unit(torch.randn(ITEMS, WIDTH))
    u, v = (torch.randn(QUERIES, WIDTH, RANK) for _ in range(2))
    u, v = (x / x.norm(dim=(1, 2), keepdim=True) for x in (u, v))
    query = torch.randn(QUERIES, WIDTH)
    rows = []
    for form, anchor, scale in (("T = U V^T (paper)", 0.0, 1.0), ("T = I + 0.8 U V^T (code)", 1.0, 0.8)):
        transforms = Transforms(query, u, v, anchor, scale)
        error = float((factored(transforms, items) - dense(transforms, items)).abs().max())
        with all_freed_memory_kept():  # as in a ranking
            times = in_turn(lambda t=transforms: factored(t, items), lambda t=transforms: dense(t, items))
        what = f"query-adaptive, {form}: {QUERIES} queries, N = {ITEMS:,}, D = {WIDTH}, r = {RANK}, factored"
        against = f"T computed in full and applied (largest difference {error:.0e}), {torch.get_num_threads()} threads"
        rows.append(gain(what, against, *times, 5))
    return [*rows, two_stage(items, query, transforms)]


class Transformed(Method):
    """Scores by given transforms, one for each query of the batch."""

    def __init__(self, transforms: Transforms) -> None:
        self.transforms = transforms

    def prepare(self, gallery: Gallery) -> Scorer:
        def score(queries: Queries, rows: Tensor | None = None) -> Tensor:
            t, which = self.transforms, queries.reference_row
            of_queries = Transforms(t.query[which], t.u[which], t.v[which], t.anchor, t.scale)
            return Factors.of(of_queries).cosines(gallery.features, rows)

        return score


def two_stage(items: Tensor, query: Tensor, transforms: Transforms) -> Row:
    """The base is the query's cosine with the items; the transforms differ from the identity by its norm."""
    size = WIDTH**0.5 / transforms.dense().sub(torch.eye(WIDTH)).norm(dim=(1, 2)).mean()
    final = Transformed(Transforms(query, transforms.u, transforms.v, 1.0, transforms.scale * float(size)))
    number = torch.arange(QUERIES)
    queries = Queries(query, torch.zeros_like(query), torch.full_like(number, -1), number, number)
    gallery = gallery_of(items)
    full = final.prepare(gallery)
    checked = TwoStage(ImageOnly(), final, SHORTLIST, check_every=1).prepare(gallery)
    checked(queries)
    assert isinstance(checked, TwoStageScorer)
    scorer = TwoStage(ImageOnly(), final, SHORTLIST, check_every=0).prepare(gallery)
    with all_freed_memory_kept():
        times = in_turn(lambda: scorer(queries), lambda: full(queries))
    recall = f"{checked.listed} of the {checked.wanted} best items of the full scan are in the shortlist"
    what = f"two_stage, {QUERIES} queries, N = {ITEMS:,}, D = {WIDTH}, r = {RANK}, shortlist of {SHORTLIST:,}: {recall}"
    return gain(what, f"the factored transforms on all items, {torch.get_num_threads()} threads", *times)
