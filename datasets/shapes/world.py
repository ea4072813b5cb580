"""The scenes of the world: vocabulary, the split of attribute combinations, and seeded sampling.

A scene has 1 to 4 objects of distinct shapes on a patterned background. The (shape, colour, texture) of an object
decides its split, so no training or validation scene has the combination of an object of a test scene.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "pentagon", "hexagon", "cross", "heart", "ring", "crescent")
COLORS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown", "lime")
TEXTURES = ("solid", "striped", "dotted", "checkered", "outlined")
SIZES = ("small", "large")
BACKGROUNDS = ("black", "gray", "white", "beige", "navy")
PATTERNS = ("plain", "gridded", "speckled", "wavy")
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "shape": SHAPES,
    "color": COLORS,
    "texture": TEXTURES,
    "size": SIZES,
    "background": BACKGROUNDS,
    "pattern": PATTERNS,
}
MAX_OBJECTS = 4

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

# Radii in units of the canvas side. A single object may fill the canvas; objects that share it get half a side each.
RADII_ALONE = {"small": (0.17, 0.20), "large": (0.29, 0.35)}
RADII_TOGETHER = {"small": (0.12, 0.14), "large": (0.19, 0.225)}


@functools.cache
def allowed_combinations(split: Split) -> np.ndarray:
    """Boolean [shape, colour, texture]: the objects that a split may draw. The three splits do not overlap.

    A Latin-square rule, not random, so every value is trained equally often: 27 / 4 / 19 of a shape's 50 combinations
    are for training / validation / test. One colour of each shape is a test colour with every texture (an unseen pair);
    the other test combinations are unseen triples of pairs that training has. At least six shapes are trained per
    colour and texture, so the colour and texture of an object say little about its shape.
    """
    s, c, t = np.ogrid[: len(SHAPES), : len(COLORS), : len(TEXTURES)]
    residue = (3 * s + c + 2 * t) % 10
    owner = np.where(
        residue < 3, SPLITS.index("test"), np.where(residue == 3, SPLITS.index("val"), SPLITS.index("train"))
    )
    owner = np.where(unseen_pairs()[:, :, None], SPLITS.index("test"), owner)
    return np.asarray(owner == SPLITS.index(split))


def unseen_pairs() -> np.ndarray:
    """Boolean [shape, colour]: pairs of the test split only, one colour per shape and one shape per colour."""
    s, c = np.ogrid[: len(SHAPES), : len(COLORS)]
    return np.asarray(c == (s + 1) % len(COLORS))


@dataclass(frozen=True)
class Scenes:
    """A batch of n scenes as arrays; the values of object slots from `count` on are not used.

    Integers index the vocabularies above: shape, color, texture, size [n, 4]; background, pattern, count [n].
    x, y (centre), radius [n, 4] are fractions of the canvas side, y downwards; angle [n, 4] is in radians.
    nuisance [n, 4, 8] and ground [n, 8] in [0, 1) set everything that has no name (phases, shades, noise).
    """

    count: np.ndarray
    shape: np.ndarray
    color: np.ndarray
    texture: np.ndarray
    size: np.ndarray
    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    angle: np.ndarray
    background: np.ndarray
    pattern: np.ndarray
    nuisance: np.ndarray
    ground: np.ndarray

    def __len__(self) -> int:
        return len(self.count)

    def take(self, rows: np.ndarray | slice) -> Scenes:
        """The scenes at `rows`, copied."""
        return Scenes(**{f.name: np.array(getattr(self, f.name)[rows]) for f in dataclasses.fields(self)})

    def replace(self, **arrays: np.ndarray) -> Scenes:
        """The same scenes with the named arrays replaced."""
        return dataclasses.replace(self, **arrays)

    @property
    def present(self) -> np.ndarray:
        """Boolean [n, 4]: which object slots are drawn."""
        return np.arange(MAX_OBJECTS)[None] < self.count[:, None]


def concatenate(parts: list[Scenes]) -> Scenes:
    """The batches ``parts`` as one."""
    return Scenes(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in dataclasses.fields(Scenes)})


def sample_scenes(rng: np.random.Generator, n: int, split: Split, counts: tuple[int, ...] = (1, 2, 3, 4)) -> Scenes:
    """Draw n scenes of a split; the number of objects is uniform over `counts`."""
    shape = rng.random((n, len(SHAPES))).argsort(axis=1)[:, :MAX_OBJECTS]  # distinct, so that a noun names one object
    color, texture = draw_color_texture(rng, shape, split)
    count = rng.choice(np.array(counts), size=n)
    size = rng.integers(len(SIZES), size=(n, MAX_OBJECTS))
    return place(rng, count, shape, color, texture, size,
                 rng.integers(len(BACKGROUNDS), size=n), rng.integers(len(PATTERNS), size=n))  # fmt: skip


def draw_color_texture(rng: np.random.Generator, shape: np.ndarray, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Colour and texture for an index array of shapes, uniform over the combinations of the split."""
    allowed = allowed_combinations(split).reshape(len(SHAPES), -1)
    table = np.stack([np.flatnonzero(row) for row in allowed])  # equally many for every shape, by the Latin square
    cell = table[shape, rng.integers(table.shape[1], size=shape.shape)]
    return cell // len(TEXTURES), cell % len(TEXTURES)


def place(
    rng: np.random.Generator,
    count: np.ndarray,
    shape: np.ndarray,
    color: np.ndarray,
    texture: np.ndarray,
    size: np.ndarray,
    background: np.ndarray,
    pattern: np.ndarray,
) -> Scenes:
    """Draw what the attributes leave open: positions, radii, rotation, shades, noise.

    Objects that share a canvas are in different quarters of it and never touch.
    """
    n = len(count)
    alone = (count == 1)[:, None]
    low, high = _radius_range(size, alone)
    radius = low + (high - low) * rng.random((n, MAX_OBJECTS))
    cell = rng.random((n, 4)).argsort(axis=1)
    shift = rng.uniform(-1, 1, size=(2, n, MAX_OBJECTS))
    slack_together = 0.24 - radius
    slack_alone = np.minimum(0.49 - radius, 0.22)
    x = np.where(alone, 0.5 + shift[0] * slack_alone, 0.25 + 0.5 * (cell % 2) + shift[0] * slack_together)
    y = np.where(alone, 0.5 + shift[1] * slack_alone, 0.25 + 0.5 * (cell // 2) + shift[1] * slack_together)
    return Scenes(
        count=count, shape=shape, color=color, texture=texture, size=size, x=x, y=y, radius=radius,
        angle=rng.uniform(-0.35, 0.35, size=(n, MAX_OBJECTS)), background=background, pattern=pattern,
        nuisance=rng.random((n, MAX_OBJECTS, 8)), ground=rng.random((n, 8)),
    )  # fmt: skip


def _radius_range(size: np.ndarray, alone: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ends = []
    for end in (0, 1):
        single = np.array([RADII_ALONE[s][end] for s in SIZES])[size]
        shared = np.array([RADII_TOGETHER[s][end] for s in SIZES])[size]
        ends.append(np.where(alone, single, shared))
    return ends[0], ends[1]


def resemble(rng: np.random.Generator, scenes: Scenes, group: int, split: Split) -> Scenes:
    """Give each `group` consecutive scenes the attributes of their first; only the shapes are drawn again.

    Pairs in such a batch do not differ in colour, texture, size or background, so a model has to read the shape.
    """
    n = len(scenes)
    anchor = np.arange(n) // group * group
    copied = {k: getattr(scenes, k)[anchor] for k in ("count", "color", "texture", "size", "background", "pattern")}
    allowed = allowed_combinations(split)
    shape = np.empty((n, MAX_OBJECTS), dtype=np.int64)
    free = np.ones((n, len(SHAPES)), dtype=bool)
    for k in range(MAX_OBJECTS):
        fits = np.asarray(allowed[:, copied["color"][:, k], copied["texture"][:, k]].T & free)
        # If earlier slots use all shapes that fit, take any free shape and draw its colour and texture.
        stuck = np.asarray(~fits.any(axis=1))
        shape[:, k] = np.where(fits | (stuck[:, None] & free), rng.random(fits.shape), -1).argmax(axis=1)
        free[np.arange(n), shape[:, k]] = False
        own = draw_color_texture(rng, shape[:, k], split)
        copied["color"][:, k] = np.where(stuck, own[0], copied["color"][:, k])
        copied["texture"][:, k] = np.where(stuck, own[1], copied["texture"][:, k])
    return place(rng, copied["count"], shape, copied["color"], copied["texture"], copied["size"],
                 copied["background"], copied["pattern"])  # fmt: skip
