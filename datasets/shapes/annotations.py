"""Annotations of scenes: instances and bags of categories, from which templates are built, and label columns."""

from __future__ import annotations

import numpy as np

from condsim.datasets.shapes.render import instance_boxes
from condsim.datasets.shapes.world import ATTRIBUTES, BACKGROUNDS, PATTERNS, SHAPES, Scenes
from condsim.datasets.templates import Instance


def attribute_types(kinds: tuple[str, ...] = ("color", "texture", "background", "pattern")) -> dict[str, str]:
    """Attribute value -> its type, for ``kinds``. Size is not a type here: a crop grows with its box and hides it."""
    return {value: kind for kind in kinds for value in ATTRIBUTES[kind]}


def instances_by_shape(scenes: Scenes, image_ids: list[str], canvas: int) -> list[Instance]:
    """One instance per object; category: its shape; attributes: colour, texture, background, pattern."""
    return _instances(scenes, image_ids, canvas, "shape")


def instances_by_color(scenes: Scenes, image_ids: list[str], canvas: int) -> list[Instance]:
    """One instance per object; category: its colour; attribute: its shape (for the condition "shape")."""
    return _instances(scenes, image_ids, canvas, "color")


def _instances(scenes: Scenes, image_ids: list[str], canvas: int, category: str) -> list[Instance]:
    boxes = instance_boxes(scenes) * canvas
    result = []
    for i in range(len(scenes)):
        for k in range(int(scenes.count[i])):
            values = {name: ATTRIBUTES[name][getattr(scenes, name)[i, k]] for name in ("shape", "color", "texture")}
            values |= {"background": BACKGROUNDS[scenes.background[i]], "pattern": PATTERNS[scenes.pattern[i]]}
            named = values.pop(category)
            others = {v for kind, own in values.items() for v in ATTRIBUTES[kind] if v != own}
            item = {"image_id": image_ids[i], "instance_bbox": [round(float(v), 2) for v in boxes[i, k]]}
            result.append(Instance(item, image_ids[i], named, frozenset(values.values()), frozenset(others)))
    return result


def scene_bags(scenes: Scenes, image_ids: list[int]) -> dict[int, frozenset[str]]:
    """Image id -> its categories: its shapes, and its background (a stuff category, as in COCO)."""
    bags = {}
    for i, image in enumerate(image_ids):
        shapes = {SHAPES[s] for s in scenes.shape[i, : scenes.count[i]]}
        bags[image] = frozenset(shapes | {f"{BACKGROUNDS[scenes.background[i]]} background"})
    return bags


def label_rows(scenes: Scenes) -> dict[str, np.ndarray]:
    """The columns shape, color, texture, size, background, pattern [n] of scenes with one object, as words."""
    columns = {}
    for name, values in ATTRIBUTES.items():
        index = getattr(scenes, name)
        columns[name] = np.array(values)[index if index.ndim == 1 else index[:, 0]]
    return columns
