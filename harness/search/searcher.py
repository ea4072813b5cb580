"""Queries without ground truth: methods prepared for a set of pictures, ranked by the engine of the benchmarks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import torch
from torch import Tensor

from condsim.harness.backbone import Backbone, ImageParts
from condsim.harness.condition_features import condition_features
from condsim.harness.encoding import encode_images, encode_texts, jointly, pseudo_words
from condsim.harness.engine.engine import Engine
from condsim.harness.engine.local import LocalEngine
from condsim.harness.errors import NotApplicable
from condsim.harness.files.gallery_parts import Parts
from condsim.harness.method import Explains, Gallery, Method, Queries, Scorer, TrainFeatures, prepared_scorer
from condsim.harness.ranking.engine import Ranking, rank_task
from condsim.harness.ranking.gallery import make_gallery
from condsim.harness.run.isolation import isolated
from condsim.harness.run.read_only import read_only
from condsim.harness.run.sharded import rank_parts
from condsim.harness.search.matches import Matches
from condsim.harness.search.pictures import Pictures, encode_readable
from condsim.harness.task import Condition, ImageTable, Ragged, Rows, Task, TrainSplit

_KEPT_BYTES = 2 << 30
"""Of prepared scorers, each of which may hold a copy of all features."""
_FEWEST_KEPT = 3
_MOST_KEPT = 64


@dataclass(frozen=True)
class Query:
    """A picture, a condition, or both."""

    picture: ImageTable | None = None
    """One row."""
    row: int = -1
    """The picture's row in the image table; -1: it is not one of the pictures that are searched."""
    features: Tensor | None = None
    """[D] raw features of a picture that is not in the table."""
    condition: Condition = ()

    @property
    def name(self) -> str | None:
        """The picture as the results show it: its path, or the key of a crop."""
        if self.picture is None:
            return None
        return str(self.picture.path(0)) if self.picture.box(0) is None else self.picture.keys[0]


_Key = tuple[int, tuple[Condition, ...], bool, bool]
"""The method's id, the conditions, whether a query has no picture, whether a query has no condition."""


class _Search(Task):
    """Queries without ground truth. Messages of methods name their task by ``full_name``."""

    @property
    def full_name(self) -> str:
        return "this search"


@dataclass(frozen=True)
class _Prepared:
    method: Method
    scorer: Scorer
    condition_features: Tensor


class Searcher:
    """Pictures that are searched, and the methods that were prepared for them, one scorer per method and conditions.

    A score may depend on the other conditions that a method was prepared for, so it is prepared for those of one search
    alone. ``Method.with_conditions`` makes a new condition cheap.
    """

    def __init__(
        self,
        backbone: Backbone,
        pictures: Pictures,
        train: TrainSplit | None = None,
        engine: Engine | None = None,
    ) -> None:
        """``engine``: whose workers rank pictures whose features are in parts; None: this process."""
        self.backbone = backbone
        self.engine = engine or LocalEngine()
        self.pictures = pictures
        self.train = train
        self.rows = np.arange(len(pictures.table))
        self.written = False
        """A method has written into the features: they have to be read again."""
        kept = _KEPT_BYTES // max(1, pictures.features.nbytes)
        self._kept = min(_MOST_KEPT, max(_FEWEST_KEPT, kept))
        self._prepared: OrderedDict[_Key, _Prepared] = OrderedDict()

    def search(self, method: Method, queries: Sequence[Query], k: int, *, why: bool = False, name: str = "") -> Matches:
        """The ``k`` best pictures for every query, without the query's own picture.

        ``name``: the method's, as it is shown. Raises NotApplicable where the method does not apply to these queries,
        and CondsimError where it fails.
        """
        conditions = tuple(dict.fromkeys(query.condition for query in queries if query.condition))
        task = self._task(queries, conditions)
        k = min(k, len(self.rows))
        if self.pictures.parts is not None:
            with isolated(), read_only(type(method).__name__, self.backbone):
                ranking = self._rank_parts(self.pictures.parts, method, task, queries, k)
            return self._matches(queries, ranking, None, name or type(method).__name__)
        features = torch.stack([self._reference(query) for query in queries])
        outside = np.array([query.features is not None for query in queries])
        label = type(method).__name__
        if outside.any() and method.needs_row:
            raise NotApplicable(
                f"{label} looks the query picture up in its table of pictures, so it has to be one of the pictures "
                "that are searched"
            )
        # To `Method.check`, a picture from elsewhere is a reference like any other.
        reference = np.where(outside, 0, task.reference)
        key = (id(method), conditions, bool((reference < 0).any()), bool((task.condition < 0).any()))
        with isolated():
            try:
                with read_only(label, self.backbone) as watch:
                    if key not in self._prepared:  # a kept scorer was watched when it first scored
                        watch.add("gallery.features", self.pictures.features)
                        self._prepare(key, method, replace(task, reference=reference))
                    self._prepared.move_to_end(key)
                    prepared = self._prepared[key]
                    ranking = rank_task(
                        task, prepared.scorer, self.pictures.features, prepared.condition_features,
                        references=features, pointwise=method.pointwise, top=k,
                    )  # fmt: skip
                    assert ranking.top is not None
                    reasons = self._why(prepared, task, features, ranking.top) if why else None
            except BaseException:
                self.written = watch.changed() is not None
                raise
        return self._matches(queries, ranking, reasons, name or label)

    def _matches(
        self, queries: Sequence[Query], ranking: Ranking, reasons: list[list[str]] | None, name: str
    ) -> Matches:
        assert ranking.top is not None
        assert ranking.top_scores is not None
        return Matches(
            self.pictures.table,
            tuple((query.name, query.condition) for query in queries),
            tuple(query.picture for query in queries),
            ranking.top,
            ranking.top_scores,
            reasons,
            name,
            self.backbone.name,
        )

    def _rank_parts(self, parts: Parts, method: Method, task: Task, queries: Sequence[Query], k: int) -> Ranking:
        """The ``k`` best of each query. Query pictures from elsewhere are rows of the image table after the parts."""
        outside = [query for query in queries if query.features is not None]
        others = [query.features.float().cpu() for query in outside if query.features is not None]
        row = count(len(parts))
        task = replace(
            task,
            images=replace(task.images, names=parts.names + [query.name or "" for query in outside]),
            reference=np.array([query.row if query.features is None else next(row) for query in queries]),
            gallery=range(len(parts)),
        )
        method.check(task)
        images = ImageParts(parts, torch.stack(others) if others else torch.zeros(0, parts.width))
        return rank_parts(task, method, images, self._gallery(method, task, None), self.engine, top=k)

    def _task(self, queries: Sequence[Query], conditions: tuple[Condition, ...]) -> Task:
        place = {condition: i for i, condition in enumerate(conditions)}
        own = [[query.row] if query.row >= 0 else [] for query in queries]
        return _Search(
            "pictures",
            "search",
            self.pictures.table,
            conditions,
            np.array([place.get(query.condition, -1) for query in queries]),
            np.array([query.row for query in queries]),
            Ragged.of([] for _ in queries),
            (),
            gallery=self.rows,
            excluded=Ragged.of(own),
        )

    def _reference(self, query: Query) -> Tensor:
        features = self.pictures.features
        if query.features is not None:
            return query.features.to(features)
        return features[query.row] if query.row >= 0 else torch.zeros_like(features[0])

    def _prepare(self, key: _Key, method: Method, task: Task) -> None:
        """Keep the scorer for the task's conditions, made from one for other conditions if possible."""
        method.check(task)
        gallery = self._gallery(method, task, self.pictures.features)
        earlier = next((prepared.scorer for prepared in self._prepared.values() if prepared.method is method), None)
        scorer = None if earlier is None else method.with_conditions(earlier, gallery)
        if scorer is None:
            scorer = prepared_scorer(method, gallery)
        self._prepared[key] = _Prepared(method, scorer, gallery.condition_features)
        while len(self._prepared) > self._kept:
            self._prepared.popitem(last=False)

    def _gallery(self, method: Method, task: Task, features: Tensor | None) -> Gallery:
        if method.needs_text:
            texts = condition_features(task, self._encode_texts)
        else:
            texts = torch.zeros(len(task.conditions), self.backbone.width, device=self.backbone.device)
        return make_gallery(
            task,
            features,
            texts,
            lambda names: self._encode_texts(names).clone(),
            lambda: self._train_features(method),
            encode_images=lambda table: encode_images(self.backbone, table).clone(),
            encode_texts_with=pseudo_words(self.backbone),
            encode_jointly=jointly(self.backbone, task),
        )

    def _why(self, prepared: _Prepared, task: Task, references: Tensor, top: Rows) -> list[list[str]] | None:
        """One text per entry of ``top``; None where the method explains nothing."""
        if not isinstance(prepared.scorer, Explains):
            return None
        device = self.backbone.device
        condition = torch.from_numpy(task.condition).to(device)
        text = torch.zeros_like(references)
        if len(task.conditions):
            text = prepared.condition_features[condition.clamp(min=0)].to(references) * (condition >= 0)[:, None]
        queries = Queries(references, text, condition, torch.from_numpy(task.reference).to(device))
        with torch.no_grad():
            reasons = prepared.scorer.why(queries, torch.from_numpy(np.maximum(top, 0)).to(device))
        return reasons if any(map(any, reasons)) else None

    def _train_features(self, method: Method) -> TrainFeatures:
        if self.train is None:
            raise NotApplicable(
                f"{type(method).__name__} with these settings looks things up in a training split: name its pictures "
                "with --train FOLDER (train=FOLDER in Python), or choose other settings or another method"
            )
        pictures = encode_readable(self.train.images, self.backbone)
        return TrainFeatures(pictures.features, pictures.table, self.train.phrases)

    def _encode_texts(self, texts: Sequence[str]) -> Tensor:
        return encode_texts(self.backbone, texts)
