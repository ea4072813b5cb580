"""The template builder's rules, checked again from the tables by brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from condsim.datasets import templates as t

COLORS, MATERIALS, CATEGORIES = ("red", "green", "blue"), ("wood", "steel"), ("chair", "cup", "car")
TYPES = dict.fromkeys(COLORS, "color") | dict.fromkeys(MATERIALS, "material")


@pytest.fixture(scope="module")
def instances() -> list[t.Instance]:
    """300 instances in 150 pictures; every fourth has an unknown material."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(300):
        color, material = COLORS[rng.integers(3)], MATERIALS[rng.integers(2)]
        known = {color} | ({material} if i % 4 else set())
        denied = (set(COLORS) - {color}) | (set(MATERIALS) - {material} if i % 4 else set())
        item = {"image_id": str(i // 2), "instance_bbox": [i, 0, 5, 5]}
        made.append(t.Instance(item, i // 2, CATEGORIES[rng.integers(3)], frozenset(known), frozenset(denied)))
    return made


def find(instances: list[t.Instance], item: dict[str, Any]) -> t.Instance:
    return next(i for i in instances if i.item == item)


def parts(instances: list[t.Instance], template: t.Template) -> tuple[t.Instance, t.Instance, list[t.Instance]]:
    every = [find(instances, item) for item in (template["reference"], template["target"], *template["gallery"])]
    assert len({i.image for i in every}) == len(every)
    return every[0], every[1], every[2:]


def test_focus_attribute_target_shares_what_distractors_lack(instances: list[t.Instance]) -> None:
    made = t.focus_attribute_templates(instances, TYPES, 30, np.random.default_rng(1))
    assert [x["condition"] for x in made.templates] == ["color"] * 30 + ["material"] * 30
    for template, kinds in zip(made.templates, made.kinds, strict=True):
        reference, target, others = parts(instances, template)
        assert len(others) == len(kinds) == 9
        assert set(kinds) == {t.SAME_CATEGORY}
        assert {i.category for i in (target, *others)} == {reference.category}
        shared = {a for a in reference.positive & target.positive if TYPES[a] == template["condition"]}
        assert any(all(a in other.negative for other in others) for a in shared)


def test_change_attribute_target_changes_one_attribute_of_the_category(instances: list[t.Instance]) -> None:
    made = t.change_attribute_templates(instances, TYPES, 12, np.random.default_rng(1))
    assert {x["condition"] for x in made.templates} == set(TYPES)
    for template, kinds in zip(made.templates, made.kinds, strict=True):
        reference, target, others = parts(instances, template)
        condition = template["condition"]
        assert target.category == reference.category
        assert condition in target.positive
        assert condition in reference.negative
        assert any(TYPES[a] == TYPES[condition] for a in reference.positive)
        assert kinds == [t.SAME_ATTRIBUTE] * 9 + [t.SAME_CATEGORY] * 5
        assert all(condition in i.positive and i.category != reference.category for i in others[:9])
        assert all(condition in i.negative and i.category == reference.category for i in others[9:])


def test_a_table_too_small_gives_fewer_templates(instances: list[t.Instance]) -> None:
    assert t.focus_attribute_templates(instances[:8], TYPES, 30, np.random.default_rng(1)).templates == []
    assert t.change_attribute_templates(instances[:8], TYPES, 30, np.random.default_rng(1)).templates == []


@pytest.fixture(scope="module")
def bags() -> t.Bags:
    rng = np.random.default_rng(2)
    names = np.array([f"thing {k}" for k in range(14)])
    return {i: frozenset(rng.choice(names, rng.integers(2, 9), replace=False).tolist()) for i in range(400)}


@pytest.mark.parametrize("change", [False, True])
def test_object_templates_follow_the_overlap_rules(bags: t.Bags, change: bool) -> None:
    rules = {"min_categories": 5, "min_shared": 3, "max_far": 1}
    made = t.object_templates(bags, 50, np.random.default_rng(3), **rules, change=change)
    assert len(made.templates) == 50
    for template, kinds in zip(made.templates, made.kinds, strict=True):
        ids = [x["val_image_id"] for x in (template["reference"], template["target"], *template["gallery"])]
        assert len(set(ids)) == 16
        reference, target, *others = (bags[i] for i in ids)
        condition = template["condition"]
        assert len(reference) >= 5
        assert 3 <= len(reference & target) < len(reference)
        assert condition in target
        assert (condition in reference) is not change
        if change:
            close = [len(reference & b) for i, b in bags.items() if i != ids[0] and len(reference & b) < len(reference)]
            assert len(reference & target) == max(close)
        assert kinds == [t.CLOSE_WITHOUT] * 9 + [t.FAR_WITH] * 5
        assert all(3 <= len(reference & b) < len(reference) and condition not in b for b in others[:9])
        assert all(len(reference & b) <= 1 and condition in b for b in others[9:])


def test_no_reference_large_enough_gives_none(bags: t.Bags) -> None:
    assert t.object_templates(bags, 5, np.random.default_rng(0), change=False).templates == []


def test_templates_follow_the_seed(bags: t.Bags) -> None:
    def made(seed: int) -> t.Templates:
        return t.object_templates(bags, 10, np.random.default_rng(seed), 5, 3, 1, change=False)

    assert made(4) == made(4) != made(5)
