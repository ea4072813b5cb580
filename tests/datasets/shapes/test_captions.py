"""Captions say true things, and the batch knows of which pictures."""

from __future__ import annotations

import numpy as np
import pytest

from condsim.datasets.shapes import captions as c
from condsim.datasets.shapes import world as w

VALUES = {"shape": w.SHAPES, "color": w.COLORS, "texture": w.TEXTURES, "size": w.SIZES}


@pytest.fixture(scope="module")
def batch() -> tuple[w.Scenes, np.ndarray, c.Captions]:
    rng = np.random.default_rng(0)
    scenes = w.sample_scenes(rng, 400, "train")
    closeup = np.arange(400) % 3 == 0
    return scenes, closeup, c.caption_scenes(rng, scenes, closeup, full=0.3)


def test_captions_name_only_what_is_shown(batch: tuple[w.Scenes, np.ndarray, c.Captions]) -> None:
    scenes, closeup, captions = batch
    for i, text in enumerate(captions.texts):
        if captions.absent[i] != c.UNSAID:
            continue
        visible = 1 if closeup[i] else int(scenes.count[i])
        shown = {k: {v[x] for x in getattr(scenes, k)[i, :visible]} for k, v in VALUES.items()}
        shown["background"], shown["pattern"] = {w.BACKGROUNDS[scenes.background[i]]}, {w.PATTERNS[scenes.pattern[i]]}
        words = set(text.replace(",", " ").replace(":", " ").split())
        for attribute, values in w.ATTRIBUTES.items():
            assert words & set(values) <= shown[attribute], text
        if closeup[i]:
            assert not words & set(w.SIZES), text


def test_absent_shapes_are_absent(batch: tuple[w.Scenes, np.ndarray, c.Captions]) -> None:
    scenes, _, captions = batch
    rows = np.flatnonzero(captions.absent != c.UNSAID)
    assert len(rows)
    for i in rows:
        assert captions.absent[i] not in scenes.shape[i, : scenes.count[i]]
        assert w.SHAPES[captions.absent[i]] in captions.texts[i]


def test_every_word_is_in_the_vocabulary(batch: tuple[w.Scenes, np.ndarray, c.Captions]) -> None:
    known = set(c.vocabulary())
    words = {x for text in batch[2].texts for x in text.replace(",", " ,").replace(":", " :").split()}
    assert words <= known


def test_true_pairs_agree_with_checking_each_pair(batch: tuple[w.Scenes, np.ndarray, c.Captions]) -> None:
    scenes, closeup, captions = batch
    true = c.true_pairs(captions, scenes, closeup)
    assert true.diagonal().all()
    rng = np.random.default_rng(1)
    for i, j in rng.integers(400, size=(4000, 2)):
        if i == j:
            continue
        visible = 1 if closeup[j] else int(scenes.count[j])
        holds = not captions.own[i]
        for m in np.flatnonzero(captions.mentioned[i]):
            wanted = [(k, v) for k, v in zip(VALUES, captions.said[i, m], strict=True) if v != c.UNSAID]
            holds &= any(
                all(getattr(scenes, k)[j, o] == v and not (k == "size" and closeup[j]) for k, v in wanted)
                for o in range(visible)
            )
        holds &= captions.background[i] in (c.UNSAID, scenes.background[j])
        holds &= captions.pattern[i] in (c.UNSAID, scenes.pattern[j])
        holds &= captions.absent[i] == c.UNSAID or captions.absent[i] not in scenes.shape[j, :visible]
        assert true[i, j] == holds, (captions.texts[i], i, j)


def test_true_pairs_of_training_scenes_are_telling(batch: tuple[w.Scenes, np.ndarray, c.Captions]) -> None:
    scenes, closeup, captions = batch
    telling = c.telling_pairs(captions, scenes, closeup, w.allowed_combinations("train"))
    assert (telling | ~c.true_pairs(captions, scenes, closeup)).all()
    assert not telling.all()
