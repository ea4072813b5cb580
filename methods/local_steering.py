"""Steer the query along the direction in which its own neighbourhood varies with the condition.

The idea is that of "Geometry-Aware CLIP Retrieval via Local Cross-Modal Alignment and Steering" (2026), whose equations
could not be read: everything here is this project's own reading. See docs/methods.md.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import partial

import torch

from condsim.harness.errors import CondsimError
from condsim.harness.method import Gallery, Method, Queries, Scorer
from condsim.harness.one_vector import unit
from condsim.harness.process.tensors import Tensor
from condsim.methods.shared.base_method import ChangedQueries, Wrapper
from condsim.methods.shared.checks import one_of

POOLS = ("train", "gallery")

_ELEMENTS_AT_ONCE = 1 << 23
"""Similarities between queries and pool at a time: 32 MiB."""


def local_directions(query: Tensor, contrast: Tensor, pool: Tensor, neighbors: int | None, ends: int) -> Tensor:
    """Unit directions [B, D], orthogonal to the unit ``query`` [B, D], from its low to its high neighbours.

    Of the ``neighbors`` rows of the unit ``pool`` [M, D] nearest to the query (None: all) the ``ends`` with the highest
    and those with the lowest inner product with ``contrast`` [B, D] are averaged; the direction is the difference of
    the two means. It is 0 where they do not differ.
    """
    nearest = (query @ pool.T).topk(len(pool) if neighbors is None else min(neighbors, len(pool)), dim=1).indices
    along = (contrast @ pool.T).gather(1, nearest)
    ends = max(1, min(ends, along.shape[1] // 2))
    means = [
        pool[nearest.gather(1, along.topk(ends, dim=1, largest=largest).indices)].mean(dim=1)
        for largest in (True, False)
    ]
    difference = means[0] - means[1]
    return unit(difference - (difference * query).sum(dim=1, keepdim=True) * query)


def steered(features: Tensor, direction: Tensor, theta: float) -> Tensor:
    """``features`` [B, D] turned by ``theta`` radians towards unit ``direction`` [B, D] orthogonal to them.

    Their lengths stay, and rows whose direction is 0 stay as they are.
    """
    turned = math.cos(theta) * features + math.sin(theta) * features.norm(dim=1, keepdim=True) * direction
    return torch.where(direction.any(dim=1, keepdim=True), turned, features)


class LocalSteering(Wrapper):
    """q' = cos(theta) q + sin(theta) v for the reference, then the base method. Candidates are unchanged. [ours]"""

    def __init__(
        self,
        base: Method | None = None,
        theta: float = 0.3,
        neighbors: int | None = 100,
        ends: int = 10,
        pool: str = "train",
        neutral: str = "a photo",
    ) -> None:
        one_of(POOLS, pool=pool)
        if not -math.pi <= theta <= math.pi:
            raise CondsimError(f"method.theta is an angle in radians between -pi and pi, not {theta}")
        if ends < 1 or (neighbors is not None and neighbors < 2 * ends):
            raise CondsimError(
                f"method.neighbors={neighbors} must be at least twice method.ends={ends}, which is 1 or more"
            )
        super().__init__(base)
        if not self.base.needs_reference:
            name = type(self.base).__name__
            raise CondsimError(f"local steering changes the reference, but its base {name} does not use it")
        self.theta = theta
        self.neighbors = neighbors
        self.ends = ends
        self.pool = pool
        self.neutral = neutral
        self.needs_condition = True
        self.needs_text = self.needs_text or theta != 0
        self.reads_train = self.reads_train or (theta != 0 and pool == "train")

    @property
    def sharded(self) -> bool:
        return self.base.sharded and (self.theta == 0 or self.pool == "train")

    def statistics(self, gallery: Gallery) -> Mapping[str, Tensor]:
        return self.base.statistics(gallery)

    def prepare(self, gallery: Gallery) -> Scorer:
        base = self.base.prepare(gallery)
        if self.theta == 0:
            return base
        images = gallery.train().images if self.pool == "train" else gallery.features
        pool = unit(images.to(gallery.features))
        if len(pool) < 2:
            raise CondsimError(f"local steering needs two images or more in its pool ({self.pool}), found {len(pool)}")
        texts = sorted({text for condition in gallery.conditions for text in condition})
        features = unit(gallery.encode_texts([*texts, self.neutral]).to(pool))
        contrast = dict(zip(texts, features[:-1] - features[-1], strict=True))
        steps = [[contrast[text] for text in condition] for condition in gallery.conditions]
        return ChangedQueries(base, partial(self.steered_queries, pool, steps))

    def steered_queries(self, pool: Tensor, steps: Sequence[Sequence[Tensor]], queries: Queries) -> Queries:
        """The queries with turned references; one step after another where a condition has several texts.

        ``steps``: for each condition the contrast [D] of each of its texts.
        """
        reference = queries.reference.clone()
        at_once = max(1, _ELEMENTS_AT_ONCE // len(pool))
        for condition in torch.unique(queries.condition).tolist():
            of_condition = (queries.condition == condition).nonzero()[:, 0]
            for start in range(0, len(of_condition), at_once):
                mine = of_condition[start : start + at_once]
                for contrast in steps[condition]:
                    query = unit(reference[mine])
                    direction = local_directions(query, contrast.expand_as(query), pool, self.neighbors, self.ends)
                    reference[mine] = steered(reference[mine], direction, self.theta)
        return dataclasses.replace(queries, reference=reference)
