"""Captions of scenes: random subsets of objects and attributes as words, and the scenes that each caption describes.

A caption also holds its content as numbers. A batch therefore knows all its true pairs, not only those of a caption
and its own scene: "red" is not a negative for another picture with something red.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from condsim.datasets.shapes.world import (
    ATTRIBUTES,
    BACKGROUNDS,
    COLORS,
    MAX_OBJECTS,
    PATTERNS,
    SHAPES,
    SIZES,
    TEXTURES,
    Scenes,
)

UNSAID = -1
OBJECT_ATTRIBUTES = ("shape", "color", "texture", "size")
_VALUES = (SHAPES, COLORS, TEXTURES, SIZES)
_NOUNS = ("object", "thing", "shape", "figure")
_FRAMES = ("{a}", "{a}", "{a}", "{p}", "a photo of {a}", "a photo of {a}", "a picture of {a}", "an image of {a}",
           "a drawing of {a}", "there is {a}", "the {p}", "one {p}", "a photo of the {p}", "a scene with {a}",
)  # fmt: skip
_VALUE_FRAMES = ("{v}", "{v}", "{v}", "a photo of {v}", "a photo of {v}", "{t} {v}", "{v} {t}", "the {t} is {v}",
                 "{t}: {v}", "it is {v}", "a {v} {t}", "a photo of a {v} object")  # fmt: skip
_GROUND_FRAMES = ("{g}", "a photo of {g}", "a {g}", "a photo of a {g}", "a scene on a {g}", "with a {g}",
                  "the background is {v}", "background: {v}", "a scene with a {g}")  # fmt: skip
# Words of edits, negations and common prompts that methods may use. The token table keeps their rows.
EXTRA_WORDS = tuple(
    """
    color texture shape size background pattern object objects thing things figure figures scene image photo picture
    drawing the same but is are now make change replace remove add instead of to with without no not more less one two
    three four and or in on at left right above below between next other different similar an a it that this has have
    having which bad good many low resolution rendering close up clean blurry cropped bright dark photos pictures , . :
    - small medium large big little tiny colored textured shaped patterned sized
    """.split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Captions:
    """n captions and their content.

    said [n, 4 mentions, 4 attributes]: shape, colour, texture, size, each a value or UNSAID; mentioned [n, 4]: whether
    the mention exists; background, pattern [n]: a value or UNSAID; absent [n]: a shape that the caption denies, or
    UNSAID; own [n]: the caption states a relation, which these numbers do not hold: it counts as true of its own scene
    only.
    """

    texts: list[str]
    said: np.ndarray
    mentioned: np.ndarray
    background: np.ndarray
    pattern: np.ndarray
    absent: np.ndarray
    own: np.ndarray


def vocabulary() -> tuple[str, ...]:
    """Every word that a caption can contain, and ``EXTRA_WORDS``."""
    values = [v for vs in ATTRIBUTES.values() for v in vs]
    frames = " ".join(_FRAMES + _VALUE_FRAMES + _GROUND_FRAMES + _NOUNS)
    for mark in ("{a}", "{p}", "{v}", "{t}", "{g}"):
        frames = frames.replace(mark, " ")
    return tuple(sorted({*values, *EXTRA_WORDS, *frames.replace(":", " : ").split()}))


def article(phrase: str) -> str:
    """``phrase`` with its indefinite article."""
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def object_phrase(values: Sequence[int] | np.ndarray, noun: str = "object", color_first: bool = False) -> str:
    """A phrase such as "large striped red circle" from indices of shape, colour, texture, size; each may be UNSAID."""
    shape, color, texture, size = (None if v == UNSAID else names[v] for v, names in zip(values, _VALUES, strict=True))
    middle = (color, texture) if color_first else (texture, color)
    return " ".join(w for w in (size, *middle, shape or noun) if w)


def ground_phrase(background: int, pattern: int) -> str:
    """A phrase such as "wavy gray background"; each index may be UNSAID."""
    parts = [PATTERNS[pattern] if pattern != UNSAID else "", BACKGROUNDS[background] if background != UNSAID else ""]
    return " ".join(w for w in (*parts, "background") if w)


def caption_scenes(rng: np.random.Generator, scenes: Scenes, closeup: np.ndarray, full: float = 0.0) -> Captions:
    """One random caption per scene.

    closeup [n]: the picture is a crop around object 0; its caption names this object alone, and no size. full: share of
    the captions that name all attributes of the objects that they mention.
    """
    n = len(scenes)
    said, mentioned = np.full((n, MAX_OBJECTS, 4), UNSAID), np.zeros((n, MAX_OBJECTS), dtype=bool)
    background, pattern, absent = (np.full(n, UNSAID) for _ in range(3))
    captions = Captions([], said, mentioned, background, pattern, absent, np.zeros(n, dtype=bool))
    attributes = np.stack([scenes.shape, scenes.color, scenes.texture, scenes.size], axis=-1)
    u = rng.random((n, 8))
    for i in range(n):
        captions.texts.append(_caption(rng, u[i], scenes, i, attributes[i], bool(closeup[i]), full, captions))
    return captions


def _pick(u: float, options: tuple[str, ...]) -> str:
    return options[int(u * len(options))]


def _caption(
    rng: np.random.Generator,
    u: np.ndarray,
    scenes: Scenes,
    i: int,
    attributes: np.ndarray,
    closeup: bool,
    full: float,
    captions: Captions,
) -> str:
    """The caption of scene i, whose content is written into row i of ``captions``."""
    visible = 1 if closeup else int(scenes.count[i])
    known = 3 if closeup else 4
    said, mentioned = captions.said[i], captions.mentioned[i]
    if u[0] < 0.12:  # the background alone
        phrase = _ground(scenes, i, int(u[1] * 3), captions)
        return _pick(u[2], _GROUND_FRAMES).format(g=phrase, v=phrase.rsplit(" ", 1)[0])
    if u[0] < 0.15 and visible > 1:  # what is missing
        missing = [s for s in range(len(SHAPES)) if s not in attributes[:visible, 0]]
        captions.absent[i] = missing[int(u[1] * len(missing))]
        name = SHAPES[captions.absent[i]]
        return _pick(
            u[2], ("no {p}", "without {a}", "a scene without {a}", "remove the {p}", "there is no {p}")
        ).format(p=name, a=article(name))
    order = rng.permutation(visible)
    if u[0] < 0.45:  # one attribute of one object
        k = int(u[1] * known) if u[7] < 0.7 else 0
        said[0, k], mentioned[0] = attributes[order[0], k], True
        value = _VALUES[k][said[0, k]]
        if k == 0 and u[3] < 0.6:
            return _pick(u[2], _FRAMES).format(p=value, a=article(value))
        return _pick(u[2], _VALUE_FRAMES).format(v=value, t=OBJECT_ATTRIBUTES[k])
    mentions = 1 if visible == 1 or u[1] < 0.4 else 1 + int(u[7] * visible)
    phrases = []
    keep = rng.random((mentions, 4)) < (1.0 if u[5] < full else 0.6)
    for m in range(mentions):
        keep[m, 0] |= rng.random() < 0.6
        keep[m, known:] = False
        if not keep[m].any():
            keep[m, 0] = True
        said[m] = np.where(keep[m], attributes[order[m]], UNSAID)
        mentioned[m] = True
        phrases.append(object_phrase(said[m], _NOUNS[int(u[4] * 4)], u[6] < 0.5))
    if mentions == 1:
        if keep[0, 0] and keep[0, 1:].sum() == 1 and u[3] < 0.12:
            k = 1 + int(keep[0, 1:].argmax())
            text = _edit(u[2], SHAPES[said[0, 0]], _VALUES[k][said[0, k]])
        else:
            text = _pick(u[2], _FRAMES).format(p=phrases[0], a=article(phrases[0]))
    elif mentions == 2 and u[3] < 0.4:
        text, captions.own[i] = _relation(u[3] / 0.4, phrases, scenes.x[i, order[:2]], scenes.y[i, order[:2]])
    else:
        listed = [article(p) for p in phrases]
        text = _pick(u[2], ("{a}", "a photo of {a}", "a scene with {a}")).format(
            a=", ".join(listed[:-1]) + " and " + listed[-1]
        )
    if rng.random() < 0.2:
        text += (" on a " if u[6] < 0.7 else " with a ") + _ground(scenes, i, int(rng.integers(3)), captions)
    return text


def _ground(scenes: Scenes, i: int, which: int, captions: Captions) -> str:
    """The background of scene i: its color alone (``which`` 0), its pattern alone (1), or both (2)."""
    if which != 1:
        captions.background[i] = scenes.background[i]
    if which != 0:
        captions.pattern[i] = scenes.pattern[i]
    return ground_phrase(captions.background[i], captions.pattern[i])


def _edit(u: float, shape: str, value: str) -> str:
    frames = ("the same scene, but the {s} is {v}", "the {s} is {v}", "make the {s} {v}", "change the {s} to {v}",
              "now the {s} is {v}", "add {a}")  # fmt: skip
    return _pick(u, frames).format(s=shape, v=value, a=article(f"{value} {shape}"))


def _relation(u: float, phrases: list[str], x: np.ndarray, y: np.ndarray) -> tuple[str, bool]:
    """Two phrases joined by the direction between their objects, or by "and" if none is clear; and whether one is."""
    dx, dy = x[0] - x[1], y[0] - y[1]
    a, b = article(phrases[0]), article(phrases[1])
    if abs(dx) > 0.25 and (abs(dy) <= 0.25 or u < 0.5):
        return f"{a} {'left' if dx < 0 else 'right'} of {b}", True
    if abs(dy) > 0.25:
        return f"{a} {'above' if dy < 0 else 'below'} {b}", True
    return f"{a} and {b}", False


def true_pairs(captions: Captions, scenes: Scenes, closeup: np.ndarray) -> np.ndarray:
    """Boolean [captions, scenes]: whether caption i is true of picture j. The diagonal is always true.

    A close-up counts as a picture of object 0 without a size, although it may show parts of other objects.
    """
    attributes = np.stack([scenes.shape, scenes.color, scenes.texture, scenes.size], axis=-1)  # [n, objects, 4]
    attributes = np.where(closeup[:, None, None] & (np.arange(4) == 3), -9, attributes)
    shown = scenes.present & ~(closeup[:, None] & (np.arange(MAX_OBJECTS) > 0)[None])
    true = np.ones((len(captions.texts), len(scenes)), dtype=bool)
    for m in range(MAX_OBJECTS):
        rows = np.flatnonzero(captions.mentioned[:, m])
        if not len(rows):
            continue
        said = captions.said[rows, m]  # [r, 4]
        matches = np.zeros((len(rows), len(scenes)), dtype=bool)
        for o in range(MAX_OBJECTS):
            object_matches = np.broadcast_to(shown[:, o], matches.shape).copy()
            for k in range(4):
                object_matches &= (said[:, k, None] == UNSAID) | (said[:, k, None] == attributes[None, :, o, k])
            matches |= object_matches
        true[rows] &= matches
    for said, value in ((captions.background, scenes.background), (captions.pattern, scenes.pattern)):
        true &= (said[:, None] == UNSAID) | (said[:, None] == value[None])
    shows_absent = ((scenes.shape[None] == captions.absent[:, None, None]) & shown[None]).any(axis=-1)
    true &= (captions.absent[:, None] == UNSAID) | ~shows_absent
    true[captions.own] = False
    np.fill_diagonal(true, True)
    return true


def telling_pairs(captions: Captions, scenes: Scenes, closeup: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Boolean [captions, scenes]: whether the colours and textures of picture j allow the shapes that caption i names.

    allowed: the split's combinations [shape, colour, texture]. If they do not, a model can reject the pair by knowing
    which combinations training has, without looking at the shape, and then fails on unseen combinations. The loss
    leaves such pairs out.
    """
    shown = scenes.present & ~(closeup[:, None] & (np.arange(MAX_OBJECTS) > 0)[None])
    possible = np.asarray((allowed[:, scenes.color, scenes.texture] & shown[None]).any(axis=-1))  # [shape, scenes]
    telling = np.ones((len(captions.texts), len(scenes)), dtype=bool)
    for m in range(MAX_OBJECTS):
        rows = np.flatnonzero(captions.mentioned[:, m] & (captions.said[:, m, 0] != UNSAID))
        telling[rows] &= possible[captions.said[rows, m, 0]]
    return telling
