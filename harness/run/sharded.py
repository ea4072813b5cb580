"""Ranking of a gallery in parts: each worker keeps some of the parts, and none keeps the whole gallery."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from condsim.harness.backbone import ImageParts
from condsim.harness.engine.engine import Engine, divided
from condsim.harness.errors import CondsimError, NotApplicable
from condsim.harness.files.gallery_parts import Parts
from condsim.harness.method import Expands, Gallery, Method, Reranks, TrainFeatures, TwoSteps, prepared_scorer
from condsim.harness.ranking.candidates import CandidateLists
from condsim.harness.ranking.counting import Floats
from condsim.harness.ranking.engine import BUDGET, Grid, Ranking, queries_of, rank_shards
from condsim.harness.ranking.shards import Batch, HeldShards, Scan, Shard, Shards, joined, merged
from condsim.harness.run.two_steps import Reranked, expanded
from condsim.harness.task import ImageTable, Rows, Task


def rank_parts(
    task: Task,
    method: Method,
    images: ImageParts,
    gallery: Gallery,
    engine: Engine,
    *,
    top: int = 0,
    budget_bytes: int = BUDGET,
    progress: Callable[[int], None] | None = None,
) -> Ranking:
    """``rank_task`` for a gallery that is in ``images.parts``, on the workers of ``engine``: the same ranks for any
    number of workers.

    ``gallery``: that of the task, without items.

    Raises NotApplicable where the method needs the whole gallery at once.
    """
    require_sharded(method)
    parts = images.parts
    base = method.base if isinstance(method, TwoSteps) and not method.sharded else method
    settings = _Settings(parts, base, task.full_name, gallery)
    shares = divided(len(parts.files), max(1, min(len(parts.files), engine.workers)))
    held = engine.hold([partial(_PartShards, settings, which) for which in shares])
    try:
        statistics = _summed(held.all("statistics"))
        recorded = _Recorded(gallery)
        scorer = prepared_scorer(base, replace(recorded.gallery, statistics=statistics))
        held.all("prepare", statistics, recorded.answers)
        lists = CandidateLists.of(task)
        grid = Grid.of(task, lists, parts.width, True, budget_bytes, whole=False, parts=True)
        asking = Shard(scorer, 0, 0, torch.device("cpu"), task.full_name)
        shards: Shards = HeldShards(held)
        if base is not method and isinstance(method, Reranks):
            shards = Reranked(shards, method, images, replace(gallery, statistics=statistics), task)

        def side(which: Rows) -> Any:
            reference = images.gather(torch.from_numpy(task.reference[which]))
            queries = queries_of(task, which, reference, gallery.condition_features)
            if isinstance(shards, Reranked):
                shards.queries = queries
            if base is not method and isinstance(method, Expands):
                with held.batch():
                    queries = expanded(method, queries, images, shards, asking.query_side(queries), grid.chunk)
            return asking.query_side(queries)

        return rank_shards(task, lists, grid, shards, side, top=top, progress=progress)
    finally:
        held.release()


def require_sharded(method: Method) -> None:
    """Raises NotApplicable, with the reason, for a method that cannot rank a gallery in parts."""
    if method.sharded or (isinstance(method, TwoSteps) and method.in_two_steps):
        return
    if isinstance(method, TwoSteps) and not method.base.sharded:
        reason = "its base does not"
    elif method.needs_row:
        reason = "it looks up what it needs by the row of an image"
    elif not method.pointwise and not isinstance(method, TwoSteps):
        reason = "it scores the candidates of a query together"
    else:
        reason = "with these settings it needs the whole gallery at once (condsim.Method.sharded)"
    raise NotApplicable(f"the method does not rank a gallery in parts: {reason}")


def _summed(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The sums of the parts' statistics. Raises CondsimError for statistics that are not int64."""
    for name, value in (item for part in parts for item in part.items()):
        if value.dtype != torch.int64:
            raise CondsimError(
                f"the statistic {name!r} of the method is {value.dtype}: sums of floats depend on how a gallery is "
                "divided. Return int64, as condsim.methods.shared.sphere.direction_sum does"
            )
    return {name: torch.stack([part[name] for part in parts]).sum(dim=0) for name in parts[0]}


@dataclass
class _Answers:
    """What ``prepare`` read of texts and training data where the backbone is, for workers that have none."""

    features: list[Tensor]
    row: dict[str, int] = field(default_factory=dict)
    """Text -> its row in ``features``, one after another."""
    train: TrainFeatures | None = None

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        return torch.cat(self.features)[[self.row[text] for text in texts]]

    def train_features(self) -> TrainFeatures:
        assert self.train is not None
        return self.train


class _Recorded:
    """A gallery whose answers are kept."""

    def __init__(self, gallery: Gallery) -> None:
        self.answers = _Answers([gallery.features])
        self._gallery = gallery
        self.gallery = replace(gallery, encode_texts=self._encode_texts, train=self._train)

    def _encode_texts(self, texts: Sequence[str]) -> Tensor:
        features = self._gallery.encode_texts(texts)
        start = sum(map(len, self.answers.features))
        self.answers.features.append(features)
        self.answers.row.update(zip(texts, range(start, start + len(texts)), strict=True))
        return features

    def _train(self) -> TrainFeatures:
        self.answers.train = self._gallery.train()
        return self.answers.train


@dataclass(frozen=True)
class _Settings:
    """What a worker has to know to make its shards; small, because it travels by pickle."""

    parts: Parts
    method: Method
    task: str
    gallery: Gallery

    def __getstate__(self) -> dict[str, Any]:
        nothing: dict[str, Any] = {
            "encode_texts": None, "train": None, "encode_images": None, "encode_jointly": None,
            "encode_texts_with": None,
        }  # fmt: skip
        return self.__dict__ | {"gallery": replace(self.gallery, **nothing)}


class _PartShards:
    """Some parts of a gallery, in the memory of one worker (mapped, where the method reads mapped features)."""

    def __init__(self, settings: _Settings, which: range) -> None:
        self._settings = settings
        self._shards: list[Shard] = []
        parts, gallery = settings.parts, settings.gallery
        self._starts = [parts.starts[part] for part in which]
        self._galleries: list[Gallery] = []
        for part, start in zip(which, self._starts, strict=True):
            features = parts.features(part)
            names = parts.names[start : start + len(features)]
            self._galleries.append(
                replace(
                    gallery,
                    features=features if settings.method.reads_mapped else features.float(),
                    table=ImageTable(parts.folder, names),
                    rows=np.arange(len(features)),
                )
            )

    def statistics(self) -> dict[str, Tensor]:
        return _summed([self._settings.method.statistics(gallery) for gallery in self._galleries])

    def prepare(self, statistics: Mapping[str, Tensor], answers: _Answers) -> None:
        method, width = self._settings.method, self._settings.parts.width
        given = {
            "statistics": statistics,
            "encode_texts": answers.encode_texts,
            "train": answers.train_features,
            "encode_texts_with": lambda texts, vectors: _of_queries(texts, width),
            "encode_jointly": lambda rows, texts: _of_queries(texts, width),
        }
        self._shards = []
        for start, gallery in zip(self._starts, self._galleries, strict=True):
            scorer = prepared_scorer(method, replace(gallery, **given))  # type: ignore[arg-type]
            stop = start + len(gallery.features)
            self._shards.append(Shard(scorer, start, stop, gallery.features.device, self._settings.task))

    def listed(self, batch: Batch) -> tuple[Rows, Floats]:
        return joined([shard.listed(batch) for shard in self._shards])

    def scan(self, thresholds: Floats) -> Scan:
        return merged([shard.scan(thresholds) for shard in self._shards])


def _of_queries(texts: Sequence[str], width: int) -> Tensor:
    if len(texts):
        raise CondsimError(
            "a sharded method encodes queries in TwoSided.query_side, where the backbone is, not in score"
        )
    return torch.zeros(0, width)
