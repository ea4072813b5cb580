"""On a GPU: images per second of ViT-B-32 and RN50x4 through the store, and search over 10,000,000 items."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from measuring import Row, cost, in_turn, scaled, skipped

ITEMS, WIDTH, QUERIES, TOP, BLOCK = scaled(10_000_000, 100_000), 256, 1024, 10, 1 << 20
PICTURES = scaled(8192, 256)


def measure() -> list[Row]:
    if not torch.cuda.is_available():
        return [skipped("encoding with ViT-B-32 and RN50x4, search over 10,000,000 items", "no GPU here")]
    return [*encoding(), search()]


def encoding() -> list[Row]:
    from perf_encoding import compare, draw

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = draw(folder / "jpg", PICTURES, (500, 375), "jpg")
        return [
            row
            for model in ("ViT-B-32", "RN50x4")
            for precision in ("fp32", "bf16")
            for row in compare(folder, model, None, pictures, "cuda", precision)
        ]


def search() -> Row:
    """The engine's ten best of each query against the product and ``topk`` alone, a block of the gallery at a time."""
    import problems

    from condsim.harness.ranking.engine import rank_task
    from condsim.methods.inner_product import ImageOnly

    features = torch.randn(ITEMS, WIDTH, device="cuda")
    task = problems.search(("",) * ITEMS, QUERIES)
    scorer = ImageOnly().prepare(problems.gallery_of(features))
    texts = torch.zeros(0, WIDTH, device="cuda")
    items = scorer.items  # type: ignore[attr-defined]
    queries = items[torch.from_numpy(task.reference).cuda()]

    def ours() -> None:
        rank_task(task, scorer, features, texts, top=TOP)
        torch.cuda.synchronize()

    def bare() -> None:
        best = [
            (queries @ items[start : start + BLOCK].T).topk(min(TOP + 1, ITEMS - start)).values
            for start in range(0, ITEMS, BLOCK)
        ]
        torch.cat(best, dim=1).topk(TOP + 1)
        torch.cuda.synchronize()

    what = f"search, {QUERIES:,} queries x {ITEMS:,} x {WIDTH} float32, {TOP} best, {torch.cuda.get_device_name()}"
    return cost(what, f"product and topk in blocks of {BLOCK:,}", *in_turn(ours, bare))
