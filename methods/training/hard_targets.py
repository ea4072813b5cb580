"""Targets that keep more of their references: of all images that answer a triplet's question, the nearest is sought.

Mined triplets share a subject and nothing else, so they teach to forget the rest of the reference. This choice is ours.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from condsim.harness.errors import CondsimError
from condsim.harness.one_vector import unit
from condsim.harness.triplets import Triplets


def closest_targets(triplets: Triplets, images: Tensor, most: int, seed: int) -> Triplets:
    """The same references and texts; each target becomes, of at most ``most`` targets of triplets with the same
    ``question``, the one with the largest cosine with the reference, never the reference itself.

    ``images`` [M, D] are the features of ``triplets.images``. Questions with more targets than ``most`` draw that many
    by ``seed``. Sources without questions, and triplets without a reference, stay as they are.
    """
    if most < 2:
        raise CondsimError(f"training.closest_of must be at least 2, or 0 for targets as they are, not {most}")
    if triplets.question is None:
        return triplets
    rng, items = np.random.default_rng(seed), unit(images)
    target = triplets.target.copy()
    order = np.argsort(triplets.question, kind="stable")
    ends = np.flatnonzero(np.diff(triplets.question[order])) + 1
    for asked in np.split(order, ends):
        asked = asked[triplets.reference[asked] >= 0]
        answers = np.unique(triplets.target[asked])
        if len(answers) < 2:
            continue
        answers = rng.permutation(answers)[:most]
        references = triplets.reference[asked]
        cosines = items[torch.from_numpy(references)] @ items[torch.from_numpy(answers)].T
        cosines[torch.from_numpy(references[:, None] == answers[None])] = -torch.inf
        target[asked] = answers[cosines.argmax(dim=1).cpu().numpy()]
    return replace(triplets, target=target)
