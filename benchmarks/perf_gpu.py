"""On a GPU: images per second through the feature store, search over 10,000,000 items, CLAY, query-adaptive transforms.

Each against the bare operation, and against faiss on the GPU where it is installed. Under 150 seconds on one H100.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measuring import Row, cost, gain, in_turn, scaled, skipped
from torch import Tensor

from condsim.harness.files.hashing import RACY_NS
from condsim.harness.one_vector import unit
from condsim.harness.ranking.engine import rank_task
from condsim.harness.task import ImageTable
from condsim.methods.clay import Clay
from condsim.methods.inner_product import ImageOnly

PICTURES, DRAWN = scaled(8192, 256), 256
ITEMS, WIDTH, QUERIES, TOP = scaled(10_000_000, 100_000), 256, 1024, 10
CLAY_ITEMS, CLAY_WIDTH, CLAY_QUERIES = scaled(1_000_000, 10_000), 512, (1, 256)
ADAPTED_QUERIES, RANK = 16, 64
BLOCK = 1 << 20
WHAT = "encoding with ViT-B-32, search over 10,000,000 items, CLAY, query-adaptive transforms"


def measure() -> list[Row]:
    if not torch.cuda.is_available():
        return [skipped(WHAT, "no GPU here")]
    torch.manual_seed(0)
    rows = []
    for part in (encoding, search, clay, query_adaptive):
        rows += part()
        torch.cuda.empty_cache()
    return rows


def encoding() -> list[Row]:
    from perf_encoding import compare

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = pictures(folder / "jpg")
        return [
            row for precision in ("fp32", "bf16") for row in compare(folder, "ViT-B-32", None, table, "cuda", precision)
        ]


def pictures(folder: Path) -> ImageTable:
    """Files of different content: drawing takes longer than encoding, so a few pictures get different last bytes."""
    from perf_encoding import draw

    drawn = draw(folder / "drawn", DRAWN, (500, 375), "jpg")
    contents = [drawn.path(row).read_bytes() for row in range(DRAWN)]
    names = tuple(f"{i:05d}.jpg" for i in range(PICTURES))
    for i, name in enumerate(names):
        (folder / name).write_bytes(contents[i % DRAWN] + i.to_bytes(4, "little"))  # after the end of the JPEG
    time.sleep(2 * RACY_NS / 1e9)
    return ImageTable(folder, names)


def search() -> list[Row]:
    """The engine's ten best of each query against the product and ``topk`` alone, a block of the gallery at a time."""
    import problems

    features = torch.randn(ITEMS, WIDTH, device="cuda")
    task = problems.search(("",) * ITEMS, QUERIES)
    scorer: Any = ImageOnly().prepare(problems.gallery_of(features))
    queries = scorer.items[torch.from_numpy(task.reference).cuda()]
    texts = torch.zeros(0, WIDTH, device="cuda")
    ours = partial(rank_task, task, scorer, features, texts, top=TOP)
    what = f"search, {QUERIES:,} queries x {ITEMS:,} x {WIDTH} float32, {TOP} best, as the engine ranks, {_name()}"
    against = f"product and topk in blocks of {BLOCK:,}"
    rows = [cost(what, against, *_in_turn(ours, partial(best, queries, scorer.items)))]
    return rows + against_faiss(what, ours, queries, scorer.items)


def clay() -> list[Row]:
    """A new condition, and queries of a known one, with the gallery's log map on the GPU."""
    import problems

    features = torch.randn(CLAY_WIDTH, device="cuda") + torch.randn(CLAY_ITEMS, CLAY_WIDTH, device="cuda")
    scorer: Any = Clay().prepare(problems.gallery_of(features))
    texts = torch.zeros(1, CLAY_WIDTH, device="cuda")

    def new_condition() -> None:
        scorer.subspaces.cache_clear()
        scorer.whole.cache_clear()
        scorer.whole(0)

    basis = scorer.subspaces(0)[0].basis.contiguous()
    size = f"{CLAY_ITEMS:,} x {CLAY_WIDTH}, k = {basis.shape[1]}"
    what = f"a new CLAY condition, {size}: SVD, coordinates, unit vectors, {_name()}"
    rows = [cost(what, "one [N, D] x [D, k] product", *_in_turn(new_condition, lambda: scorer.points @ basis))]
    (coordinates,) = scorer.whole(0)
    items = unit(features)
    for count in CLAY_QUERIES:
        task = problems.search(("",) * CLAY_ITEMS, count, "color")
        own = torch.from_numpy(task.reference).cuda()
        ours = partial(rank_task, task, scorer, features, texts, top=TOP)
        what = f"CLAY, {count} queries of a known condition, {size}, {TOP} best, as the engine ranks, {_name()}"
        ranked, inside, full = _in_turn(
            ours, partial(best, coordinates[own], coordinates), partial(best, items[own], items)
        )
        rows += [
            cost(what, "product of the k coordinates and topk", ranked, inside),
            gain(what, "product of the full features and topk", ranked, full),
            *against_faiss(what, ours, items[own], items),
        ]
    return rows


def query_adaptive() -> list[Row]:
    """Scores of all items from the factors of each query's transform."""
    from perf_query_adaptive import dense, factored

    from condsim.methods.shared.low_rank import Transforms

    items = unit(torch.randn(CLAY_ITEMS, CLAY_WIDTH, device="cuda"))
    u, v = (torch.randn(ADAPTED_QUERIES, CLAY_WIDTH, RANK, device="cuda") for _ in range(2))
    u, v = (x / x.norm(dim=(1, 2), keepdim=True) for x in (u, v))
    transforms = Transforms(torch.randn(ADAPTED_QUERIES, CLAY_WIDTH, device="cuda"), u, v, 0.0, 1.0)

    def products() -> None:
        for query in v:
            query.T @ items.T

    ours, full, bare = _in_turn(partial(factored, transforms, items), partial(dense, transforms, items), products)
    what = (
        f"query-adaptive, T = U V^T (paper): {ADAPTED_QUERIES} queries, N = {CLAY_ITEMS:,}, D = {CLAY_WIDTH}, "
        f"r = {RANK}, factored, {_name()}"
    )
    return [
        gain(what, "T computed in full and applied", ours, full, 5),
        cost(what, "one [r, D] x [D, N] product per query", ours, bare),
    ]


def best(queries: Tensor, items: Tensor) -> Tensor:
    """The bare operation: the best scores by one product and ``topk`` per block. One more than the engine keeps, which
    leaves out the query's own image."""
    found = [(queries @ part.T).topk(min(TOP + 1, len(part))).values for part in torch.split(items, BLOCK)]
    return torch.cat(found, dim=1).topk(TOP + 1).values


def against_faiss(what: str, ours: Callable[[], object], queries: Tensor, items: Tensor) -> list[Row]:
    """One row where faiss for GPUs is installed."""
    try:
        import faiss
        import faiss.contrib.torch_utils  # knn_gpu then takes tensors

        resources = faiss.StandardGpuResources()
    except (ImportError, AttributeError):
        return []
    nearest = partial(faiss.knn_gpu, resources, queries, items, TOP + 1, metric=faiss.METRIC_INNER_PRODUCT)
    return [gain(what, f"faiss {faiss.__version__} knn_gpu", *_in_turn(ours, nearest))]


def _in_turn(*jobs: Callable[[], object]) -> list[list[float]]:
    def waiting(job: Callable[[], object]) -> None:
        job()
        torch.cuda.synchronize()

    return in_turn(*(partial(waiting, job) for job in jobs), repeats=3)


def _name() -> str:
    return torch.cuda.get_device_name()
