"""On a GPU, or a pretended one: the engine's ranks and the encoder's features are those of the processor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
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
from condsim.harness.one_vector import inner_products
from condsim.harness.ranking.engine import Ranking, rank_task
from condsim.harness.task import Ragged, Task
from encoders import tiny_clip
from pretend_gpu import DEVICE, PretendGpu

pytestmark = pytest.mark.slow

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
on_each = pytest.mark.parametrize("device", ["pretended", pytest.param("cuda", marks=needs_gpu)])

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


def ranked(task: Task, device: torch.device, budget: int) -> Ranking:
    items, texts = whole_numbers(len(task.images), 1).to(device), whole_numbers(1, 2).to(device)

    def score(queries: Queries, rows: Tensor | None = None) -> Tensor:
        return inner_products(queries.reference + queries.text, items, rows)

    return rank_task(task, score, items, texts, top=TOP, budget_bytes=budget)


@contextmanager
def gpu(device: str) -> Iterator[torch.device]:
    with PretendGpu() if device == "pretended" else nullcontext():
        yield DEVICE if device == "pretended" else torch.device(device)


@on_each
@pytest.mark.parametrize("budget", [1 << 28, 1 << 16])
@pytest.mark.parametrize("own_lists", [False, True])
@pytest.mark.parametrize("metrics", [("recall@1", "recall@5"), ("map",), ()])
def test_ranks_and_best_items_are_those_of_the_processor(
    metrics: tuple[str, ...], own_lists: bool, budget: int, device: str
) -> None:
    task = make_task(metrics, own_lists)
    expected = ranked(task, torch.device("cpu"), 1 << 28)
    with gpu(device) as there:
        found = ranked(task, there, budget)
    for ranks, others in ((found.ranks, expected.ranks), (found.subset_ranks, expected.subset_ranks)):
        for part in ("offsets", "above", "relevant", "irrelevant", "total", "candidates"):
            np.testing.assert_array_equal(getattr(ranks, part, None), getattr(others, part, None))
    np.testing.assert_array_equal(found.top, expected.top)
    np.testing.assert_array_equal(found.top_scores, expected.top_scores)
    np.testing.assert_array_equal(found.subset_top, expected.subset_top)


@on_each
@pytest.mark.parametrize("budget", [1 << 28, 1 << 16])
def test_a_score_that_is_not_finite_is_refused(budget: int, device: str) -> None:
    task = make_task(("recall@1",), own_lists=False)
    values = whole_numbers(ITEMS, 1)
    values[7] = torch.nan
    with gpu(device) as there:
        items = values.to(there)

        def score(queries: Queries, rows: Tensor | None = None) -> Tensor:
            return inner_products(torch.ones_like(queries.reference), items, rows)

        with pytest.raises(CondsimError, match=r"scored 7\.jpg with nan"):
            rank_task(task, score, torch.ones_like(items), items[:1], budget_bytes=budget)


def test_scores_stay_on_the_gpu() -> None:
    """In a gallery in chunks only the best of each chunk and the counts are read by the processor."""
    chunk, budget = 256, 1 << 15
    copied = []
    for chunks in (4, 8):
        items = chunk * chunks
        task = Task(
            "bench", "toy", image_table(items), (("color",),), np.zeros(QUERIES, np.int64), np.arange(QUERIES),
            Ragged.of([[row + QUERIES] for row in range(QUERIES)]), ("recall@1",), gallery=np.arange(items),
        )  # fmt: skip
        with PretendGpu() as pretended:
            ranked(task, DEVICE, budget)
        copied.append(pretended.copied["to the CPU"])
    of_a_chunk = (copied[1] - copied[0]) / 4
    assert of_a_chunk < QUERIES * chunk / 20


def encoder(folder: Path, device: str) -> OpenClip:
    return OpenClip(
        "tiny", model_config=folder / "tiny.json", weights=folder / "weights.safetensors", device=device, batch_size=7,
        mean=0.5, std=0.5, cache_dir=folder / device,
    )  # fmt: skip


@needs_gpu
def test_features_are_those_of_the_processor_in_the_order_of_the_table(tmp_path: Path) -> None:
    tiny_clip(tmp_path, "tiny")
    table = make_tasks(tmp_path / "pictures", 2, pictures=True)[0].images
    texts = [f"a {word}" for word in ("red circle", "blue square", "white cross")] * 5
    expected, found = encoder(tmp_path, "cpu"), encoder(tmp_path, "cuda")
    for features, others in (
        (found.encode_images(table), expected.encode_images(table)),
        (found.encode_texts(texts), expected.encode_texts(texts)),
    ):
        torch.testing.assert_close(features, others, atol=1e-4 * float(others.abs().max()), rtol=0)
