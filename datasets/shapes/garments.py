"""Composed retrieval with two captions, as in FashionIQ: the same object in another color or another texture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from condsim.datasets.shapes.world import (
    BACKGROUNDS,
    COLORS,
    SHAPES,
    SIZES,
    TEXTURES,
    Scenes,
    Split,
    allowed_combinations,
    place,
    sample_scenes,
)

CATEGORIES: Mapping[str, tuple[str, ...]] = {"dress": SHAPES[:3], "shirt": SHAPES[3:6], "toptee": SHAPES[6:9]}
"""FashionIQ's categories -> their shapes."""


@dataclass(frozen=True)
class Garments:
    """The gallery of one category, and queries as (row of the reference, row of the target, two captions)."""

    scenes: Scenes
    queries: list[tuple[int, int, tuple[str, str]]]


def sample_garments(rng: np.random.Generator, category: str, images: int, queries: int, split: Split) -> Garments:
    """At most ``images`` scenes with one object, and at most ``queries`` queries, each with another reference.

    The target differs from the reference in its color or in its texture alone, which both captions name. No two scenes
    have the same shape, color, texture, size and background, so no other scene is a positive. Many scenes of another
    shape or background have the named value, so the captions alone do not find the target.
    """
    shapes = np.array([SHAPES.index(shape) for shape in CATEGORIES[category]])
    objects = np.argwhere(allowed_combinations(split)[shapes])
    objects[:, 0] = shapes[objects[:, 0]]
    settings = np.argwhere(np.ones((len(SIZES), len(BACKGROUNDS)), dtype=bool))
    every = np.concatenate([np.repeat(objects, len(settings), 0), np.tile(settings, (len(objects), 1))], axis=1)
    kinds = every[rng.permutation(len(every))[:images]]
    shape, color, texture, size, background = kinds.T
    base = sample_scenes(rng, len(kinds), split, (1,))
    arrays = {name: getattr(base, name).copy() for name in ("shape", "color", "texture", "size")}
    for name, column in (("shape", shape), ("color", color), ("texture", texture), ("size", size)):
        arrays[name][:, 0] = column
    scenes = place(rng, base.count, **arrays, background=background, pattern=base.pattern)
    drawn: list[tuple[int, int, tuple[str, str]]] = []
    for reference in rng.permutation(len(kinds)):
        same = (shape == shape[reference]) & (size == size[reference]) & (background == background[reference])
        other = (color != color[reference]) ^ (texture != texture[reference])
        targets = np.flatnonzero(same & other)
        if len(targets) and len(drawn) < queries:
            target = int(rng.choice(targets))
            recolored = color[target] != color[reference]
            value = COLORS[color[target]] if recolored else TEXTURES[texture[target]]
            captions = f"it is {value}", f"the {'color' if recolored else 'texture'} is {value}"
            drawn.append((int(reference), target, captions if rng.random() < 0.5 else captions[::-1]))
    return Garments(scenes, drawn)
