"""Hard targets: of all images that answer a triplet's question, the one nearest to the reference becomes the target.

Mined triplets share a subject and nothing else, so they teach a method to ignore the rest of the reference. Choosing
the target by similarity to the reference is ours, in no source.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from condsim.harness.errors import CondsimError
from condsim.harness.one_vector import unit
from condsim.harness.triplets import Triplets


def with_hard_targets(triplets: Triplets, images: Tensor, most: int, seed: int) -> Triplets:
    """The same references and texts with harder targets.

    Each target becomes, among at most ``most`` targets of triplets with the same ``question``, the image with the
    largest cosine with the reference, never the reference itself. Of more than ``most`` targets, ``seed`` draws that
    many. Sources without questions, and triplets without a reference, are unchanged.

    ``images`` [M, D] are the features of ``triplets.images``.
    """
    if most < 2:
        raise CondsimError(f"training.hard_targets must be at least 2, or 0 to keep the targets, not {most}")
    if triplets.question is None:
        return triplets
    rng, items = np.random.default_rng(seed), unit(images)
    target = triplets.target.copy()
    order = np.argsort(triplets.question, kind="stable")
    ends = np.flatnonzero(np.diff(triplets.question[order])) + 1
    for group in np.split(order, ends):
        group = group[triplets.reference[group] >= 0]
        answers = np.unique(triplets.target[group])
        if len(answers) < 2:
            continue
        answers = rng.permutation(answers)[:most]
        references = triplets.reference[group]
        cosines = items[torch.from_numpy(references)] @ items[torch.from_numpy(answers)].T
        cosines[torch.from_numpy(references[:, None] == answers[None])] = -torch.inf
        target[group] = answers[cosines.argmax(dim=1).cpu().numpy()]
    return replace(triplets, target=target)
