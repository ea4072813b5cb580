"""Triplets from relations, on arrays: same subject, different object, different image (GeneCIS, section 5.2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]


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


def _blocks(*keys: Codes) -> tuple[Codes, Codes]:
    """[n] start and end of each entry's block of equal keys, in sorted arrays."""
    n = len(keys[0])
    new = np.ones(n, dtype=bool)
    new[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    starts = np.flatnonzero(new)
    ends = np.append(starts[1:], n)
    run = np.cumsum(new) - 1
    return starts[run], ends[run]
