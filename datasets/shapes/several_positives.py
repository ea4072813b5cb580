"""Composed retrieval with several positives, as in CIRCO: an edited scene, and its objects at other positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from condsim.datasets.shapes.captions import article
from condsim.datasets.shapes.edits import MEMBERS, place_again, sample_sets
from condsim.datasets.shapes.world import SHAPES, Scenes, Split, concatenate

MOST_VIEWS = 4
_ASPECTS = {"add": ["addition", "cardinality"], "remove": ["negation", "cardinality"]}


@dataclass(frozen=True)
class SeveralPositives:
    """Scenes with their image ids, and queries in CIRCO's keys."""

    scenes: Scenes
    ids: list[int]
    queries: list[dict[str, Any]]


def sample_several_positives(rng: np.random.Generator, sets: int, split: Split) -> SeveralPositives:
    """Five queries per set: each leads by one edit from the set's first scene to another of its scenes.

    The positives of a query are that scene (its target) and up to three more pictures of its objects at other
    positions. No two scenes of the sets show the same objects and background, so no other scene is a positive.
    """
    edited = sample_sets(rng, sets, split)
    scenes = [edited.scenes.take(slice(i, i + 1)) for i in range(len(edited.scenes))]
    views: dict[int, list[int]] = {}
    for i in range(len(edited.scenes)):
        if i % MEMBERS:
            more = int(rng.integers(MOST_VIEWS))
            views[i] = [i, *range(len(scenes), len(scenes) + more)]
            scenes += [place_again(rng, scenes[i]) for _ in range(more)]
    ids = [int(number) for number in rng.permutation(10 * len(scenes))[: len(scenes)]]
    queries: list[dict[str, Any]] = []
    for target, positives in views.items():
        reference = target - target % MEMBERS
        queries.append({
            "reference_img_id": ids[reference],
            "target_img_id": ids[target],
            "relative_caption": edited.to[target],
            "shared_concept": _in_common(scenes[reference], scenes[target]),
            "gt_img_ids": [ids[row] for row in positives],
            "id": len(queries),
            "semantic_aspects": _ASPECTS.get(edited.to[target].split()[0], ["compare_change"]),
        })  # fmt: skip
    return SeveralPositives(concatenate(scenes), ids, queries)


def _in_common(one: Scenes, other: Scenes) -> str:
    """The first shape that is in both scenes. They differ in at most one object."""
    shapes, others = (scene.shape[0, : int(scene.count[0])] for scene in (one, other))
    shared = [shape for shape in shapes if shape in others]
    return article(SHAPES[shared[0]]) if shared else "a scene"
