"""Binding: a text about two or three objects, and pictures in which one thing about these objects is wrong.

The Geometry paper claims that retrieval loses which attribute belongs to which object, and confuses similar objects
("pentagon vs. hexagon"). The task is ours. A text names the texture, colour and shape of every object; the textures of
a scene differ, and so do its colours. A query has one kind of distractor (``KINDS``):

- swapped attributes: two objects exchange their colours, their textures, or both;
- nearest shape: one object has another shape, one of the two whose outlines overlap most with its own;
- missing object: one object is not there.

All pictures of a query have its background; each draws its positions again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np

from condsim.datasets.shapes.captions import UNSAID, article, object_phrase
from condsim.datasets.shapes.edits import place_again
from condsim.datasets.shapes.world import (
    MAX_OBJECTS,
    SHAPES,
    Scenes,
    Split,
    allowed_combinations,
    concatenate,
    sample_scenes,
)

KINDS = ("swapped attributes", "nearest shape", "missing object")
COUNTS = (2, 3)
DISTRACTORS = 5
BATCH = 512
NEAREST = {
    "circle": ("hexagon", "pentagon"), "square": ("pentagon", "hexagon"), "triangle": ("star", "square"),
    "star": ("triangle", "square"), "pentagon": ("hexagon", "circle"), "hexagon": ("circle", "pentagon"),
    "cross": ("circle", "hexagon"), "heart": ("square", "pentagon"), "ring": ("circle", "hexagon"),
    "crescent": ("ring", "circle"),
}  # fmt: skip
"""Shape -> the two shapes whose filled outlines have the largest intersection over union with its own."""


@dataclass(frozen=True)
class BindingSample:
    """n queries, each with the 1 + ``DISTRACTORS`` scenes of its list, the target first.

    scenes [n (1 + DISTRACTORS)]; texts [n]; labels [n]: the kind of distractor and the number of objects.
    """

    scenes: Scenes
    texts: list[str]
    labels: list[list[str]]


def sample_binding(rng: np.random.Generator, queries: int, split: Split) -> BindingSample:
    """``queries`` of each kind of distractor and number of objects. Every object is one that ``split`` may draw.

    A query has at least two different wrong scenes. Fewer than ``DISTRACTORS`` are used several times, each time with
    other positions.
    """
    scenes: list[Scenes] = []
    texts: list[str] = []
    labels: list[list[str]] = []
    for count in COUNTS:
        for kind in KINDS:
            pairs = ((target, wrong_scenes(target, kind, split)) for target in _targets(rng, count, split))
            for target, wrong in islice((pair for pair in pairs if len(pair[1]) >= 2), queries):
                order = rng.permutation(len(wrong))
                scenes.append(target)
                for place in range(DISTRACTORS):
                    drawn = place_again(rng, wrong[order[place % len(wrong)]])
                    # Positions and sizes are those of a scene with all its objects: an object alone would be larger.
                    scenes.append(drawn.replace(count=drawn.count - 1) if kind == "missing object" else drawn)
                texts.append(scene_text(target))
                labels.append([kind, f"{count} objects"])
    return BindingSample(concatenate(scenes), texts, labels)


def part_phrases(scene: Scenes) -> list[str]:
    """The texture, colour and shape of each object of one scene: "striped red circle"."""
    columns = (scene.shape, scene.color, scene.texture)
    return [object_phrase([*(int(c[0, k]) for c in columns), UNSAID]) for k in range(int(scene.count[0]))]


def scene_text(scene: Scenes) -> str:
    """All objects of one scene: "a striped red circle, a solid blue star and a dotted pink ring"."""
    *first, last = map(article, part_phrases(scene))
    return f"{', '.join(first)} and {last}"


def _targets(rng: np.random.Generator, count: int, split: Split) -> Iterator[Scenes]:
    """Single scenes of ``count`` objects whose colours differ, and whose textures do."""
    while True:
        batch = sample_scenes(rng, BATCH, split, (count,))
        sorted_values = (np.sort(values[:, :count], axis=1) for values in (batch.color, batch.texture))
        differ = np.logical_and.reduce([(np.diff(values, axis=1) > 0).all(axis=1) for values in sorted_values])
        for row in np.flatnonzero(differ):
            yield batch.take(slice(row, row + 1))


def wrong_scenes(scene: Scenes, kind: str, split: Split) -> list[Scenes]:
    """Every scene that differs from ``scene`` in the way ``kind`` and has only objects that ``split`` may draw. Of a
    missing object the count is still that of ``scene``, and the object is the last one."""
    count = int(scene.count[0])
    if kind == "missing object":
        rest = range(count, MAX_OBJECTS)
        return [_reordered(scene, [*(k for k in range(count) if k != gone), gone, *rest]) for gone in range(count)]
    wrong = []
    if kind == "nearest shape":
        present = {SHAPES[shape] for shape in scene.shape[0, :count]}
        for k in range(count):
            for name in NEAREST[SHAPES[scene.shape[0, k]]]:
                if name not in present:
                    shape = scene.shape.copy()
                    shape[0, k] = SHAPES.index(name)
                    wrong.append(scene.replace(shape=shape))
    else:
        for pair in combinations(range(count), 2):
            for names in (("color",), ("texture",), ("color", "texture")):
                arrays = {name: getattr(scene, name).copy() for name in names}
                for array in arrays.values():
                    array[0, list(pair)] = array[0, list(pair[::-1])]
                wrong.append(scene.replace(**arrays))
    allowed = allowed_combinations(split)
    return [s for s in wrong if allowed[s.shape[0, :count], s.color[0, :count], s.texture[0, :count]].all()]


def _reordered(scene: Scenes, order: list[int]) -> Scenes:
    return scene.replace(**{f: getattr(scene, f)[:, order] for f in ("shape", "color", "texture", "size")})
