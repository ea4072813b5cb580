"""Domain conversion, as in MiniDomainNet: the same shape in another drawing style."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from condsim.datasets.domain_conversion import Dataset, Domain
from condsim.datasets.shapes.world import SHAPES, TEXTURES, Scenes, Split, allowed_combinations, place, sample_scenes

DOMAINS = (
    Domain("filled", "filled", "solid"), Domain("outline", "outline", "outlined"),
    Domain("hatched", "hatched", "striped"),
)  # fmt: skip
"""The word of a domain is the texture of its objects, which the backbone knows."""
FOLDER = "domains"
DATASET = Dataset(
    (FOLDER,), ("database_files.csv",), DOMAINS, (5, 10), ("query_files.csv",),
)  # fmt: skip


@dataclass(frozen=True)
class Drawings:
    """n scenes with one object each, their domains as the lists name them, and their classes."""

    scenes: Scenes
    domains: list[str]
    shapes: list[str]


def sample_drawings(rng: np.random.Generator, each: int, split: Split) -> Drawings:
    """``each`` scenes of every shape in every domain. Color, size, background and pattern are random."""
    kinds = [(domain, shape) for domain in DOMAINS for shape in SHAPES for _ in range(each)]
    base = sample_scenes(rng, len(kinds), split, (1,))
    arrays = {name: getattr(base, name).copy() for name in ("shape", "color", "texture", "size")}
    allowed = allowed_combinations(split)
    for row, (domain, shape) in enumerate(kinds):
        s, t = SHAPES.index(shape), TEXTURES.index(domain.word)
        arrays["shape"][row, 0], arrays["texture"][row, 0] = s, t
        arrays["color"][row, 0] = rng.choice(np.flatnonzero(allowed[s, :, t]))
    scenes = place(rng, base.count, **arrays, background=base.background, pattern=base.pattern)
    return Drawings(scenes, [domain.listed for domain, _ in kinds], [shape for _, shape in kinds])
