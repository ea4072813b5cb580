"""Binding queries: distractors are wrong in one way alone, with objects of the split, at other positions."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from condsim.datasets.shapes import binding
from condsim.datasets.shapes.render import _distance_tables
from condsim.datasets.shapes.world import SHAPES, TEXTURES, Scenes, allowed_combinations

LIST = 1 + binding.DISTRACTORS
Objects = list[tuple[int, int, int, int]]


@pytest.fixture(scope="module")
def sample() -> binding.BindingSample:
    return binding.sample_binding(np.random.default_rng(4), 12, "test")


def objects(scenes: Scenes, row: int) -> Objects:
    """(shape, colour, texture, size) of the objects of a scene."""
    columns = (scenes.shape, scenes.color, scenes.texture, scenes.size)
    return sorted(tuple(int(c[row, k]) for c in columns) for k in range(int(scenes.count[row])))  # type: ignore[misc]


def test_every_kind_and_number_of_objects_has_its_queries(sample: binding.BindingSample) -> None:
    counts = Counter(tuple(own) for own in sample.labels)
    assert counts == {(kind, f"{n} objects"): 12 for kind in binding.KINDS for n in (2, 3)}
    assert len(sample.scenes) == LIST * len(sample.texts) == LIST * 72


def test_the_text_names_every_object_of_the_target(sample: binding.BindingSample) -> None:
    for i, (text, (_, number)) in enumerate(zip(sample.texts, sample.labels, strict=True)):
        count = int(sample.scenes.count[LIST * i])
        assert number == f"{count} objects"
        phrases = text.replace(" and ", ", ").split(", ")
        seen = [(SHAPES[s], TEXTURES[t]) for s, _, t, _ in objects(sample.scenes, LIST * i)]
        assert len(phrases) == count
        assert sorted((phrase.split()[-1], phrase.split()[1]) for phrase in phrases) == sorted(seen)
        assert len({texture for _, texture in seen}) == count
        assert len({color for _, color, _, _ in objects(sample.scenes, LIST * i)}) == count


def test_distractors_are_wrong_in_the_way_of_their_kind_alone(sample: binding.BindingSample) -> None:
    scenes = sample.scenes
    for i, (kind, _) in enumerate(sample.labels):
        target = objects(scenes, LIST * i)
        wrong = [objects(scenes, row) for row in range(LIST * i + 1, LIST * (i + 1))]
        assert len({tuple(own) for own in wrong}) >= 2
        for own in wrong:
            if kind == "missing object":
                assert len(own) == len(target) - 1
                assert set(own) < set(target)
                continue
            assert len(own) == len(target)
            (differing,) = [sorted(set(target) - set(own))]
            other = sorted(set(own) - set(target))
            if kind == "nearest shape":
                (before,), (after,) = differing, other
                assert before[1:] == after[1:]
                assert SHAPES[after[0]] in binding.NEAREST[SHAPES[before[0]]]
            else:
                assert len(differing) == len(other) == 2
                for part in (0, 1, 2, 3):  # the same values, at other objects
                    assert sorted(o[part] for o in differing) == sorted(o[part] for o in other)


def test_a_lists_pictures_share_the_background_and_not_the_positions(sample: binding.BindingSample) -> None:
    scenes = sample.scenes
    for i in range(len(sample.texts)):
        rows = slice(LIST * i, LIST * (i + 1))
        assert len(set(scenes.background[rows])) == len(set(scenes.pattern[rows])) == 1
        assert len(set(scenes.x[rows, 0])) == LIST
        assert scenes.radius[rows].max() <= 0.225  # an object left alone is no larger than with company


def test_every_object_is_one_of_the_split(sample: binding.BindingSample) -> None:
    allowed = allowed_combinations("test")
    for row in range(len(sample.scenes)):
        assert all(allowed[shape, color, texture] for shape, color, texture, _ in objects(sample.scenes, row))


def test_nearest_shapes_overlap_most() -> None:
    filled = (_distance_tables() < 0).numpy().reshape(len(SHAPES), -1)
    overlap = (filled[:, None] & filled).sum(axis=-1) / (filled[:, None] | filled).sum(axis=-1)
    for shape, nearest in binding.NEAREST.items():
        own = {SHAPES[other]: overlap[SHAPES.index(shape), other] for other in range(len(SHAPES))}
        del own[shape]
        others = [value for other, value in own.items() if other not in nearest]
        assert own[nearest[0]] >= own[nearest[1]] - 1e-3
        assert own[nearest[1]] > max(others)
