"""A re-ranker on a gallery in parts whose scores are full of ties: counts and best items agree with each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from condsim.harness.backbone import ImageParts
from condsim.harness.engine.local import LocalEngine
from condsim.harness.files.gallery_parts import write_parts
from condsim.harness.method import Gallery, TrainFeatures
from condsim.harness.run.sharded import rank_parts
from condsim.harness.task import ImageTable, Ragged, Task
from condsim.methods.inner_product import ImageOnly
from condsim.methods.neighborhood_rerank import NeighborhoodRerank

ITEMS, QUERIES, WIDTH = 48, 9, 4


class Workers(LocalEngine):
    def __init__(self, workers: int) -> None:
        self.workers = workers


@pytest.mark.parametrize("shortlist", [7, 60])
def test_ranks_are_those_of_the_scores_for_any_number_of_workers(
    shortlist: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("files.gallery_parts", "ranking.engine"):
        monkeypatch.setattr(f"condsim.harness.{module}.GRAIN", 16)
    rng = np.random.default_rng(0)
    features = rng.integers(0, 2, (ITEMS, WIDTH)).astype(np.float32)
    features[:, 0] = 1
    table = ImageTable(tmp_path, tuple(map(str, range(ITEMS))))
    written = write_parts(tmp_path / "gallery", [(table.names, features)], dtype="float32", rows_per_part=16)
    task = Task(
        "bench", "toy", table, (("color",),), np.zeros(QUERIES, np.int64), rng.integers(0, ITEMS, QUERIES),
        Ragged.of([rng.choice(24, 3, replace=False) for _ in range(QUERIES)]), ("recall@1", "map"),
        gallery=range(ITEMS), excluded=Ragged.of([[24 + rng.integers(24)] for _ in range(QUERIES)]),
    )  # fmt: skip
    train = TrainFeatures(torch.randn(30, WIDTH, generator=torch.Generator().manual_seed(0)), table, ())
    gallery = Gallery(
        torch.zeros(0, WIDTH), task.conditions, torch.ones(1, WIDTH), lambda texts: torch.ones(len(texts), WIDTH),
        lambda: train, ImageTable(tmp_path, ()), np.arange(0),
    )  # fmt: skip
    method = NeighborhoodRerank(ImageOnly(), "images", shortlist=shortlist, neighbors=3, around="reference")
    images = ImageParts(written, torch.zeros(0, WIDTH))
    one, three = (
        rank_parts(task, method, images, gallery, Workers(number), top=ITEMS, budget_bytes=640) for number in (1, 3)
    )
    assert one.top is not None
    assert one.top_scores is not None
    np.testing.assert_array_equal(one.top, three.top)
    np.testing.assert_array_equal(one.ranks.above, three.ranks.above)
    for query in range(QUERIES):
        score = dict(zip(one.top[query, :-1].tolist(), one.top_scores[query, :-1].tolist(), strict=True))
        assert len(score) == ITEMS - 1, "all but the excluded item, each once"
        scores = np.array(list(score.values()))
        groups = sorted({score[int(item)] for item in task.relevant[query]}, reverse=True)
        here = slice(one.ranks.offsets[query], one.ranks.offsets[query + 1])
        assert one.ranks.above[here].tolist() == [(scores > limit).sum() for limit in groups]
        same = one.ranks.relevant[here] + one.ranks.irrelevant[here]
        assert same.tolist() == [(scores == limit).sum() for limit in groups]
