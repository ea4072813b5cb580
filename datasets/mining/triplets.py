"""Triplets from relations, on arrays: same subject, different object, different image (GeneCIS, section 5.2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]
FEWEST_IMAGES = 5
"""Images of a subject in GeneCIS's released code."""
_MOST_TRIES = 100
"""Targets that are drawn for one reference; the released code then keeps a pair of one image, here it is dropped."""
_MOST_DRAWS = 1000
"""Draws per triplet, at which a sample of what hardly exists ends."""


def sample_triplets(subject: Codes, object_: Codes, image: Codes, count: int, seed: int) -> tuple[Codes, Codes]:
    """(reference, target): indices of relations, at most ``count`` distinct pairs, deterministic given ``seed``.

    The three [n] arrays hold the codes of each relation's subject, object and image. The reference is drawn uniformly
    from the relations that have a partner; the target uniformly from those with the same subject and another object.
    Pairs of one image with itself are dropped. Returns fewer than ``count`` pairs if new pairs become rare.
    """
    order = np.lexsort((np.arange(len(subject)), object_, subject))
    subject_start, subject_end = _blocks(subject[order])
    object_start, object_end = _blocks(subject[order], object_[order])
    partners = (subject_end - subject_start) - (object_end - object_start)
    with_partner = np.flatnonzero(partners > 0)
    pairs = np.zeros(0, dtype=np.int64)
    if len(with_partner) == 0 or count <= 0:
        return pairs, pairs
    rng = np.random.default_rng(seed)
    while len(pairs) < count:
        missing = count - len(pairs)
        reference = rng.choice(with_partner, size=missing + missing // 4 + 64)
        target = subject_start[reference] + rng.integers(partners[reference])
        skipped = target >= object_start[reference]  # step over the block of the reference's own object
        target = target + np.where(skipped, (object_end - object_start)[reference], 0)
        two_images = image[order[reference]] != image[order[target]]
        drawn = np.concatenate([pairs, (reference * len(order) + target)[two_images]])
        _, first = np.unique(drawn, return_index=True)
        gained = len(first) - len(pairs)
        pairs = drawn[np.sort(first)][:count]
        if gained < max(1, missing // 50):
            break
    return order[pairs // len(order)], order[pairs % len(order)]


def sample_released(
    subject: Codes, object_: Codes, image: Codes, concreteness: NDArray[np.float32], threshold: float, count: int,
    seed: int,
) -> tuple[Codes, Codes, Codes]:  # fmt: skip
    """(reference, target, text distractor) as GeneCIS's released code draws them; the same pair may be drawn again.

    A subject is drawn in proportion to its images, among those with at least 5 images and 2 objects; the reference
    uniformly among its relations; then one of its objects uniformly and the target among the relations with this
    object, again until object and image differ from the reference's; and the text distractor uniformly among all
    relations with the target's object. Kept if the mean of the three ``concreteness`` [n] is above ``threshold``.
    Returns fewer than ``count`` triplets where almost none is kept.
    """
    by_object = np.lexsort((object_, subject))  # blocks of one subject and object
    starts, ends = _blocks(subject[by_object], object_[by_object])
    firsts = np.unique(starts)
    owner = subject[by_object][firsts]  # of each block
    pairs = np.unique(np.stack([subject, image]), axis=1)
    subjects, images = np.unique(pairs[0], return_counts=True)
    first_block, end_block = np.searchsorted(owner, subjects), np.searchsorted(owner, subjects, side="right")
    able = np.flatnonzero((images >= FEWEST_IMAGES) & (end_block - first_block >= 2))
    of_object = np.argsort(object_, kind="stable")
    none = np.zeros(0, dtype=np.int64)
    if len(able) == 0 or count <= 0:
        return none, none, none
    rng = np.random.default_rng(seed)
    chance = images[able] / images[able].sum()

    def of(first: Codes, end: Codes) -> Codes:
        return first + rng.integers(end - first)

    kept: list[Codes] = []
    total = draws = 0
    while total < count and draws < _MOST_DRAWS * count:
        own = rng.choice(able, size=count - total + 64, p=chance)
        low = np.searchsorted(subject[by_object], subjects[own])
        high = np.searchsorted(subject[by_object], subjects[own], side="right")
        reference = by_object[of(low, high)]
        target = reference.copy()
        for _ in range(_MOST_TRIES):
            same = np.flatnonzero((object_[target] == object_[reference]) | (image[target] == image[reference]))
            if len(same) == 0:
                break
            block = firsts[of(first_block[own[same]], end_block[own[same]])]
            target[same] = by_object[of(block, ends[block])]
        low = np.searchsorted(object_[of_object], object_[target])
        high = np.searchsorted(object_[of_object], object_[target], side="right")
        distractor = of_object[of(low, high)]
        mean = (concreteness[reference] + concreteness[target] + concreteness[distractor]) / 3
        differ = (object_[target] != object_[reference]) & (image[target] != image[reference])
        passed = np.flatnonzero(differ & (mean > threshold))
        kept.append(np.stack([reference, target, distractor])[:, passed])
        total, draws = total + len(passed), draws + len(own)
    reference, target, distractor = np.concatenate(kept, axis=1)[:, :count]
    return reference, target, distractor


def _blocks(*keys: Codes) -> tuple[Codes, Codes]:
    """[n] start and end of each entry's block of equal keys, in sorted arrays."""
    n = len(keys[0])
    new = np.ones(n, dtype=bool)
    new[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    starts = np.flatnonzero(new)
    ends = np.append(starts[1:], n)
    run = np.cumsum(new) - 1
    return starts[run], ends[run]
