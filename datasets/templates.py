"""GeneCIS templates from annotations: the published construction rules (Vaze et al. 2023, appendix A.1) as a builder.

Attribute templates come from a table of instances with a category and positive and negative attributes, object
templates from images as bags of categories. A template holds a reference, a target, distractors and a condition in
the benchmark's format. The format has no field for the rule behind each distractor, so the rules are in a second list,
aligned with the templates.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Item = Mapping[str, Any]
Template = dict[str, Any]
Bags = Mapping[int, frozenset[str]]

SAME_CATEGORY = "same category, other attribute"
SAME_ATTRIBUTE = "same attribute, other category"
CLOSE_WITHOUT = "close scene, without the object"
FAR_WITH = "far scene, with the object"


@dataclass(frozen=True)
class Templates:
    """Templates in the benchmark's format and, aligned with them, the kind of each entry of each gallery."""

    templates: list[Template]
    kinds: list[list[str]]

    def __add__(self, other: Templates) -> Templates:
        return Templates(self.templates + other.templates, self.kinds + other.kinds)


@dataclass(frozen=True)
class Instance:
    """A row of an attribute table. An instance is no distractor for an attribute in neither set, which is unknown.

    image: the picture that shows it; a template never takes two instances of one picture.
    """

    item: Item
    image: Hashable
    category: str
    positive: frozenset[str]
    negative: frozenset[str]


def focus_attribute_templates(
    instances: Sequence[Instance],
    attribute_types: Mapping[str, str],
    per_condition: int,
    rng: np.random.Generator,
    distractors: int = 9,
) -> Templates:
    """Condition: an attribute type. Reference and target share the category and an attribute of that type; distractors
    share the category and are negative for the attribute.

    attribute_types: attribute -> type. per_condition: templates per type; fewer if the table is too small.
    """
    index = _AttributeIndex(instances)
    by_type = _attributes_by_type(attribute_types)
    result = Templates([], [])
    for condition, attributes in by_type.items():
        keys = [k for k in index.positive if k[1] in attributes and len(index.positive[k]) >= 2
                and len(index.negative[k]) >= distractors]  # fmt: skip

        def draw(keys: list[tuple[str, str]] = keys, condition: str = condition) -> tuple[Template, list[str]] | None:
            key = keys[rng.integers(len(keys))]
            chosen = _Chooser(instances, rng)
            reference, target = chosen.take(index.positive[key], 1), chosen.take(index.positive[key], 1)
            others = chosen.take(index.negative[key], distractors)
            if not (reference and target and others):
                return None
            return _template(instances, reference[0], target[0], others, condition), [SAME_CATEGORY] * distractors

        result += _collect(draw, per_condition if keys else 0)
    return result


def change_attribute_templates(
    instances: Sequence[Instance],
    attribute_types: Mapping[str, str],
    per_condition: int,
    rng: np.random.Generator,
    same_attribute: int = 9,
    same_category: int = 5,
) -> Templates:
    """Condition: an attribute. The target has it; the reference has its category and another attribute of its type.

    Distractors: `same_attribute` with the attribute and another category, `same_category` of the category without it.
    """
    index = _AttributeIndex(instances)
    by_type = _attributes_by_type(attribute_types)
    result = Templates([], [])
    for condition, kind in attribute_types.items():
        categories = [c for c, a in index.positive if a == condition and len(index.negative[c, a]) >= same_category]

        def draw(
            categories: list[str] = categories, condition: str = condition, kind: str = kind
        ) -> tuple[Template, list[str]] | None:
            category = categories[rng.integers(len(categories))]
            siblings = [a for a in by_type[kind] if a != condition and index.positive.get((category, a))]
            if not siblings:
                return None
            sibling = siblings[rng.integers(len(siblings))]
            lacking = set(index.negative[category, condition])
            chosen = _Chooser(instances, rng)
            reference = chosen.take([i for i in index.positive[category, sibling] if i in lacking], 1)
            target = chosen.take(index.positive[category, condition], 1)
            other_category = chosen.take(
                [i for i in index.holders[condition] if instances[i].category != category], same_attribute
            )
            own_category = chosen.take(index.negative[category, condition], same_category)
            if not (reference and target and other_category and own_category):
                return None
            kinds = [SAME_ATTRIBUTE] * same_attribute + [SAME_CATEGORY] * same_category
            return _template(instances, reference[0], target[0], other_category + own_category, condition), kinds

        result += _collect(draw, per_condition if categories else 0)
    return result


def object_templates(
    bags: Bags,
    count: int,
    rng: np.random.Generator,
    min_categories: int = 10,
    min_shared: int = 6,
    max_far: int = 2,
    close: int = 9,
    far: int = 5,
    *,
    change: bool,
) -> Templates:
    """Condition: an object that reference and target share; the target is any close image. With ``change``: an object
    that the target has and the reference lacks; the target is the closest image (a random one if several are).

    bags: image id -> its categories. Close: at least `min_shared` of the reference's categories, but not all. Far: at
    most `max_far` of them. Distractors: `close` close images without the object, `far` far images with it.
    """
    ids = sorted(bags)
    names = sorted(set().union(*bags.values()))
    holds = np.array([[c in bags[i] for c in names] for i in ids], dtype=bool)  # [images, categories]
    sizes = holds.sum(axis=1)
    references = np.flatnonzero(sizes >= min_categories)

    def draw() -> tuple[Template, list[str]] | None:
        reference = int(rng.choice(references))
        shared = (holds & holds[reference]).sum(axis=1)
        is_close = (shared >= min_shared) & (shared < sizes[reference])
        is_far = shared <= max_far
        is_close[reference] = is_far[reference] = False
        if not is_close.any():
            return None
        candidates = np.flatnonzero(is_close & (shared == shared[is_close].max()) if change else is_close)
        target = int(rng.choice(candidates))
        options = np.flatnonzero(holds[target] & (~holds[reference] if change else holds[reference]))
        if not len(options):
            return None
        condition = int(rng.choice(options))
        is_close[target] = False
        close_without = np.flatnonzero(is_close & ~holds[:, condition])
        far_with = np.flatnonzero(is_far & holds[:, condition])
        if len(close_without) < close or len(far_with) < far:
            return None
        others = [*rng.choice(close_without, close, replace=False), *rng.choice(far_with, far, replace=False)]
        template = {
            "reference": {"val_image_id": int(ids[reference])},
            "target": {"val_image_id": int(ids[target])},
            "gallery": [{"val_image_id": int(ids[i])} for i in others],
            "condition": names[condition],
        }
        return template, [CLOSE_WITHOUT] * close + [FAR_WITH] * far

    return _collect(draw, count if len(references) else 0)


def write_templates(folder: Path, task: str, templates: Templates, count: int, rng: np.random.Generator) -> None:
    """Write ``<task>.json`` and ``<task>.kinds.json``: at most `count` templates, in random order."""
    order = rng.permutation(len(templates.templates))[:count]
    folder.mkdir(parents=True, exist_ok=True)
    for name, entries in ((task, templates.templates), (f"{task}.kinds", templates.kinds)):
        (folder / f"{name}.json").write_text(json.dumps([entries[i] for i in order], separators=(",", ":")))


class _AttributeIndex:
    """Rows of the table by (category, attribute), positive and negative, and by positive attribute alone."""

    def __init__(self, instances: Sequence[Instance]) -> None:
        self.positive: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        self.negative: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        self.holders: defaultdict[str, list[int]] = defaultdict(list)
        for row, instance in enumerate(instances):
            for a in sorted(instance.positive):
                self.positive[instance.category, a].append(row)
                self.holders[a].append(row)
            for a in sorted(instance.negative):
                self.negative[instance.category, a].append(row)


class _Chooser:
    """Draws rows for one template, never two rows of one picture."""

    def __init__(self, instances: Sequence[Instance], rng: np.random.Generator) -> None:
        self._instances, self._rng, self._images = instances, rng, set[Hashable]()

    def take(self, rows: Sequence[int], count: int) -> list[int]:
        """`count` of the rows, or an empty list if there are too few."""
        taken: list[int] = []
        for position in self._rng.permutation(len(rows)):
            image = self._instances[rows[position]].image
            if image not in self._images:
                self._images.add(image)
                taken.append(rows[position])
                if len(taken) == count:
                    return taken
        return []


def _attributes_by_type(attribute_types: Mapping[str, str]) -> dict[str, list[str]]:
    by_type: defaultdict[str, list[str]] = defaultdict(list)
    for attribute, kind in attribute_types.items():
        by_type[kind].append(attribute)
    return dict(by_type)


def _template(
    instances: Sequence[Instance], reference: int, target: int, others: Iterable[int], condition: str
) -> Template:
    return {
        "reference": dict(instances[reference].item),
        "target": dict(instances[target].item),
        "gallery": [dict(instances[i].item) for i in others],
        "condition": condition,
    }


def _collect(draw: Callable[[], tuple[Template, list[str]] | None], count: int, tries: int = 20) -> Templates:
    """`count` successful draws, or fewer: it stops after `tries` * `count` attempts."""
    result = Templates([], [])
    for _ in range(tries * count):
        if len(result.templates) == count:
            break
        drawn = draw()
        if drawn is not None:
            result.templates.append(drawn[0])
            result.kinds.append(drawn[1])
    return result
