"""On a GPU: the engine's ranks and the encoder's features are those of the processor. Skipped where there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from builders import image_table, make_tasks
from condsim.harness.errors import CondsimError
from condsim.harness.features.open_clip.backbone import OpenClip
from condsim.harness.method import Queries
from condsim.harness.ranking.engine import Ranking, rank_task
from condsim.harness.task import Ragged, Task
from encoders import tiny_clip

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

ITEMS, QUERIES, WIDTH, TOP = 3000, 40, 8, 12


def whole_numbers(rows: int, seed: int) -> Tensor:
    """[rows, WIDTH] small whole numbers: every product is exact on every device, and many scores are tied."""
    return torch.randint(-3, 4, (rows, WIDTH), generator=torch.Generator().manual_seed(seed)).float()


def make_task(metrics: tuple[str, ...], own_lists: bool) -> Task:
    rng = np.random.default_rng(0)
    reference = rng.integers(0, ITEMS, QUERIES)
    relevant = [rng.choice(np.delete(np.arange(ITEMS), row), 5, replace=False) for row in reference]
    task = Task(
        "bench", "toy", image_table(ITEMS), (("color",),), np.zeros(QUERIES, np.int64), reference,
        Ragged.of(relevant), metrics, gallery=np.arange(ITEMS), excluded=Ragged.of(reference[:, None]),
        subset=Ragged.of([np.r_[row, rng.choice(ITEMS, 6)] for row in relevant]),
    )  # fmt: skip
    if not own_lists:
        return task
    lists = Ragged.of([np.r_[row, rng.integers(0, ITEMS, 5 + i), row[:1]] for i, row in enumerate(relevant)])
    return replace(task, gallery=None, excluded=None, subset=None, candidates=lists)


def ranked(task: Task, device: str, budget: int) -> Ranking:
    items, texts = whole_numbers(ITEMS, 1).to(device), whole_numbers(1, 2).to(device)

    def score(queries: Queries, rows: Tensor | None = None) -> Tensor:
        query = queries.reference + queries.text
        if rows is not None and rows.ndim == 2:
            return (items[rows.clamp(min=0)] * query[:, None]).sum(dim=2)
        return query @ (items if rows is None else items[rows]).T

    return rank_task(task, score, items, texts, top=TOP, budget_bytes=budget)


@pytest.mark.parametrize("budget", [1 << 28, 1 << 16])
@pytest.mark.parametrize("own_lists", [False, True])
@pytest.mark.parametrize("metrics", [("recall@1", "recall@5"), ("map",), ()])
def test_ranks_and_best_items_are_those_of_the_processor(
    metrics: tuple[str, ...], own_lists: bool, budget: int
) -> None:
    task = make_task(metrics, own_lists)
    expected, found = ranked(task, "cpu", 1 << 28), ranked(task, "cuda", budget)
    for ranks, others in ((found.ranks, expected.ranks), (found.subset_ranks, expected.subset_ranks)):
        for part in ("offsets", "above", "relevant", "irrelevant", "total", "candidates"):
            np.testing.assert_array_equal(getattr(ranks, part, None), getattr(others, part, None))
    np.testing.assert_array_equal(found.top, expected.top)
    np.testing.assert_array_equal(found.top_scores, expected.top_scores)
    np.testing.assert_array_equal(found.subset_top, expected.subset_top)


@pytest.mark.parametrize("budget", [1 << 28, 1 << 16])
def test_a_score_that_is_not_finite_is_refused(budget: int) -> None:
    task = make_task(("recall@1",), own_lists=False)
    items = whole_numbers(ITEMS, 1).cuda()
    items[7] = torch.nan

    def score(queries: Queries, rows: Tensor | None = None) -> Tensor:
        return torch.ones_like(queries.reference) @ (items if rows is None else items[rows]).T

    with pytest.raises(CondsimError, match=r"scored 7\.jpg with nan"):
        rank_task(task, score, torch.ones_like(items), items[:1], budget_bytes=budget)


def encoder(folder: Path, device: str) -> OpenClip:
    return OpenClip(
        "tiny", model_config=folder / "tiny.json", weights=folder / "weights.safetensors", device=device, batch_size=7,
        mean=0.5, std=0.5, cache_dir=folder / device,
    )  # fmt: skip


def test_features_are_those_of_the_processor_in_the_order_of_the_table(tmp_path: Path) -> None:
    tiny_clip(tmp_path, "tiny")
    table = make_tasks(tmp_path / "pictures", 2)[0].images
    texts = [f"a {word}" for word in ("red circle", "blue square", "white cross")] * 5
    expected, found = encoder(tmp_path, "cpu"), encoder(tmp_path, "cuda")
    for features, others in (
        (found.encode_images(table), expected.encode_images(table)),
        (found.encode_texts(texts), expected.encode_texts(texts)),
    ):
        torch.testing.assert_close(features, others, atol=1e-4 * float(others.abs().max()), rtol=0)
