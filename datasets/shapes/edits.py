"""Edits of scenes and their texts, for the CIRR-style task: sets of six scenes, each one edit away from the first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from condsim.datasets.shapes.captions import OBJECT_ATTRIBUTES, article, object_phrase
from condsim.datasets.shapes.world import (
    ATTRIBUTES,
    MAX_OBJECTS,
    SHAPES,
    SIZES,
    Scenes,
    Split,
    allowed_combinations,
    concatenate,
    draw_color_texture,
    place,
    sample_scenes,
)

MEMBERS = 6
FAMILY = 5
_KINDS = ("color", "texture", "size", "background", "pattern", "add", "remove", "replace")


@dataclass(frozen=True)
class EditedSets:
    """m sets of six scenes, set by set, the unedited scene first.

    to[i], back[i] [6 m]: the text of the edit from the set's first scene to scene i, and of its reverse.
    """

    scenes: Scenes
    to: list[str]
    back: list[str]


def sample_sets(rng: np.random.Generator, m: int, split: Split) -> EditedSets:
    """Draw m sets. The five edits of a set differ in kind. No two scenes show the same objects and background.

    Sets come in families that share everything but colours and textures, so that a reference is near other sets too.
    Every scene draws its positions again, so that no two pictures are near-duplicates.
    """
    used: set[tuple[object, ...]] = set()
    parts: list[Scenes] = []
    to: list[str] = []
    back: list[str] = []
    tries_left = 0
    while len(parts) < m * MEMBERS:
        if not tries_left:
            anchor, tries_left = sample_scenes(rng, 1, split, (2, 3)), FAMILY
        tries_left -= 1
        color, texture = draw_color_texture(rng, anchor.shape, split)
        base = place_again(rng, anchor.replace(color=color, texture=texture))
        members, to_members, to_base = [base], [""], [""]
        for kind in rng.permutation(len(_KINDS)):
            edited = _edit(rng, base, _KINDS[kind], split)
            if edited is not None and len(members) < MEMBERS:
                members.append(place_again(rng, edited[0]))
                to_members.append(edited[1])
                to_base.append(edited[2])
        signatures = [signature(s) for s in members]
        if len(members) == MEMBERS and len(set(signatures)) == MEMBERS and not used.intersection(signatures):
            used.update(signatures)
            parts += members
            to += to_members
            back += to_base
    return EditedSets(concatenate(parts), to, back)


def signature(scene: Scenes) -> tuple[object, ...]:
    """The objects and background of one scene without positions: equal for two scenes with the same annotations."""
    columns = (scene.shape, scene.color, scene.texture, scene.size)
    objects = sorted(tuple(int(c[0, k]) for c in columns) for k in range(int(scene.count[0])))
    return (tuple(objects), int(scene.background[0]), int(scene.pattern[0]))


def _edit(rng: np.random.Generator, base: Scenes, kind: str, split: Split) -> tuple[Scenes, str, str] | None:
    """The edited scene, the text of the edit, the text of its reverse; None where this edit is impossible."""
    if kind in ("background", "pattern"):
        return _change(rng, base, kind, None, np.ones(len(ATTRIBUTES[kind]), dtype=bool))
    count = int(base.count[0])
    k = int(rng.integers(count))
    shape, color, texture, size = (int(getattr(base, f)[0, k]) for f in OBJECT_ATTRIBUTES)
    allowed = allowed_combinations(split)
    if kind in ("color", "texture", "size"):
        fits = {
            "color": allowed[shape, :, texture],
            "texture": allowed[shape, color],
            "size": np.ones(len(SIZES), dtype=bool),
        }
        return _change(rng, base, kind, k, fits[kind])
    if kind == "add":
        source = sample_scenes(rng, 1, split, (MAX_OBJECTS,))
        fresh = np.flatnonzero(~np.isin(source.shape[0], base.shape[0, :count]))
        if not len(fresh):
            return None
        values = {f: int(getattr(source, f)[0, fresh[0]]) for f in OBJECT_ATTRIBUTES}
        edited = _with(base.replace(count=base.count + 1), count, **values)
        return edited, f"add {article(object_phrase(list(values.values())))}", f"remove the {SHAPES[values['shape']]}"
    if kind == "remove":
        order = [i for i in range(MAX_OBJECTS) if i != k] + [k]
        edited = base.replace(**{f: getattr(base, f)[:, order] for f in OBJECT_ATTRIBUTES}, count=base.count - 1)
        return edited, f"remove the {SHAPES[shape]}", f"add {article(object_phrase([shape, color, texture, size]))}"
    shapes = allowed[:, color, texture] & ~np.isin(np.arange(len(SHAPES)), base.shape[0, :count])
    if not shapes.any():
        return None
    new = int(rng.choice(np.flatnonzero(shapes)))
    old_name, new_name = SHAPES[shape], SHAPES[new]
    return (_with(base, k, shape=new), f"replace the {old_name} with {article(new_name)}",
            f"replace the {new_name} with {article(old_name)}")  # fmt: skip


def _change(
    rng: np.random.Generator, base: Scenes, kind: str, k: int | None, fits: np.ndarray
) -> tuple[Scenes, str, str] | None:
    """Change one attribute, of object k or of the background (None), to another of the values that ``fits`` marks."""
    old = int(getattr(base, kind)[0] if k is None else getattr(base, kind)[0, k])
    options = [i for i in np.flatnonzero(fits) if i != old]
    if not options:
        return None
    new = int(rng.choice(options))
    noun = "background" if k is None else SHAPES[base.shape[0, k]]
    edited = base.replace(**{kind: np.array([new])}) if k is None else _with(base, k, **{kind: new})
    return edited, _said(rng, noun, ATTRIBUTES[kind][new]), _said(rng, noun, ATTRIBUTES[kind][old])


def _said(rng: np.random.Generator, noun: str, value: str) -> str:
    frames = (
        "the same scene, but the {n} is {v}",
        "make the {n} {v}",
        "the {n} is {v} instead",
        "change the {n} to {v}",
        "now the {n} is {v}",
    )
    return frames[rng.integers(len(frames))].format(n=noun, v=value)


def _with(scene: Scenes, k: int, **values: int) -> Scenes:
    """``scene``, a batch of one, with the attributes ``values`` of object k replaced."""
    arrays = {name: getattr(scene, name).copy() for name in values}
    for name, value in values.items():
        arrays[name][0, k] = value
    return scene.replace(**arrays)


def place_again(rng: np.random.Generator, scene: Scenes) -> Scenes:
    """The scene with newly drawn positions: same objects, attributes and background."""
    named = ("count", *OBJECT_ATTRIBUTES, "background", "pattern")
    return place(rng, **{name: getattr(scene, name) for name in named})
