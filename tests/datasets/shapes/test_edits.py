"""Sets of edited scenes."""

from __future__ import annotations

import numpy as np
import pytest

from condsim.datasets.shapes import edits as e
from condsim.datasets.shapes import world as w


@pytest.fixture(scope="module")
def sets() -> e.EditedSets:
    return e.sample_sets(np.random.default_rng(0), 20, "test")


def test_no_two_scenes_show_the_same(sets: e.EditedSets) -> None:
    assert len(sets.scenes) == len(sets.to) == len(sets.back) == 120
    assert len({e.signature(sets.scenes.take(slice(i, i + 1))) for i in range(120)}) == 120


def test_edited_scenes_stay_in_their_split(sets: e.EditedSets) -> None:
    allowed = w.allowed_combinations("test")
    scenes = sets.scenes
    assert allowed[scenes.shape, scenes.color, scenes.texture][scenes.present].all()
    assert all(len(set(scenes.shape[i, : scenes.count[i]])) == scenes.count[i] for i in range(len(scenes)))


def objects(scenes: w.Scenes, i: int) -> dict[str, tuple[str, str, str]]:
    """Shape -> colour, texture, size."""
    return {
        w.SHAPES[scenes.shape[i, k]]: (
            w.COLORS[scenes.color[i, k]], w.TEXTURES[scenes.texture[i, k]], w.SIZES[scenes.size[i, k]],
        )
        for k in range(scenes.count[i])
    }  # fmt: skip


def test_words_tell_the_edit_both_ways(sets: e.EditedSets) -> None:
    scenes = sets.scenes
    for i in range(len(scenes)):
        if i % e.MEMBERS == 0:
            assert sets.to[i] == sets.back[i] == ""
            continue
        base = i - i % e.MEMBERS
        for start, goal, words in ((base, i, sets.to[i].split()), (i, base, sets.back[i].split())):
            old, new = objects(scenes, start), objects(scenes, goal)
            gone, come = set(old) - set(new), set(new) - set(old)
            if words[0] == "remove":
                assert (gone, come) == ({words[-1]}, set())
            elif words[0] == "add":
                assert (gone, come) == (set(), {words[-1]})
                assert set(new[words[-1]]) <= set(words)
            elif words[0] == "replace":
                assert (gone, come) == ({words[2]}, {words[-1]})
            else:
                assert not gone
                assert not come
                ground = {w.BACKGROUNDS[scenes.background[goal]], w.PATTERNS[scenes.pattern[goal]]}
                changed = [s for s in new if new[s] != old[s]]
                now = set(new[changed[0]]) - set(old[changed[0]]) if changed else ground
                assert ({*changed} or {"background"}) <= set(words)
                assert now & set(words)
