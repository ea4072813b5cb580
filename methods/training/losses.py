"""Contrastive losses over a batch's targets."""

from __future__ import annotations

import torch

from condsim.harness.process.tensors import Tensor


def in_batch_loss(scores: Tensor, target_row: Tensor, temperature: float) -> Tensor:
    """Query i must find target i among the batch's targets: mean of -log softmax(scores / temperature)[i, i].

    ``scores`` [B, B], similarities; ``target_row`` [B], equal for the same image. GeneCIS eq. 1, CLIP4Cir. A column
    with the query's own target image, which another query has as its target too, is left out (ours).
    """
    same = target_row[:, None] == target_row[None, :]
    same.fill_diagonal_(False)
    logits = (scores / temperature).masked_fill(same, -torch.inf)
    return torch.nn.functional.cross_entropy(logits, torch.arange(len(scores), device=scores.device))


def symmetric_soft_loss(scores: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy of the rows and of the columns of ``scores`` [B, M] with the soft targets ``weights`` [B, M].

    ``weights`` are not negative and every row holds something; rows, and those columns that hold something, are
    scaled to sum 1. QuARI's symmetric loss with semi-positives.
    """
    logits = scores / temperature
    columns = weights.sum(dim=0) > 0
    return (_soft_cross_entropy(logits, weights) + _soft_cross_entropy(logits.T[columns], weights.T[columns])) / 2


def distillation_loss(taught: Tensor, made: Tensor, target_row: Tensor, temperature: float) -> Tensor:
    """Each of the 2B unit vectors must find its partner: the mean of -log softmax(cosines / temperature).

    The vector of image i among ``taught`` [B, E] and that among ``made`` [B, E] are partners; all other vectors are
    negatives. SEARLE eq. 4. Vectors of the same image (``target_row`` [B]) are left out (ours).
    """
    both = torch.nn.functional.normalize(torch.cat((taught, made)), dim=1)
    rows = torch.cat((target_row, target_row))
    partner = torch.arange(len(both), device=both.device).roll(len(taught))
    same = rows[:, None] == rows[None, :]
    same[torch.arange(len(both), device=both.device), partner] = False
    return torch.nn.functional.cross_entropy((both @ both.T / temperature).masked_fill(same, -torch.inf), partner)


def _soft_cross_entropy(logits: Tensor, weights: Tensor) -> Tensor:
    share = weights / weights.sum(dim=1, keepdim=True)
    return -(share * torch.nn.functional.log_softmax(logits, dim=1)).sum(dim=1).mean()
