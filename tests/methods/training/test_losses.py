"""Losses against their written form."""

from __future__ import annotations

import math

import pytest
import torch

from condsim.methods.training.losses import distillation_loss


def test_the_distillation_loss_is_the_written_sum_over_both_sides() -> None:
    draw = torch.Generator().manual_seed(0)
    taught, made = (torch.randn(4, 5, generator=draw, dtype=torch.float64) for _ in range(2))
    total = 0.0
    for k in range(4):
        for one, other in ((taught, made), (made, taught)):
            positive = math.exp(torch.cosine_similarity(one[k], other[k], dim=0) / 0.25)
            cross = sum(math.exp(torch.cosine_similarity(one[k], other[j], dim=0) / 0.25) for j in range(4))
            within = sum(math.exp(torch.cosine_similarity(one[k], one[j], dim=0) / 0.25) for j in range(4) if j != k)
            total -= math.log(positive / (cross + within))
    assert distillation_loss(taught, made, torch.arange(4), 0.25).item() == pytest.approx(total / 8, rel=1e-12)


def test_vectors_of_the_same_image_are_no_negatives() -> None:
    draw = torch.Generator().manual_seed(1)
    taught, made = (torch.randn(3, 5, generator=draw, dtype=torch.float64) for _ in range(2))
    twice = torch.tensor([0, 1, 2, 1])
    repeated = distillation_loss(taught[twice], made[twice], twice, 0.5)
    single = [
        -torch.log_softmax(torch.cosine_similarity(one[k], others, dim=1) / 0.5, dim=0)[0]
        for k in (0, 1, 2, 1)
        for one, other in ((taught, made), (made, taught))
        for others in [torch.cat((other[[k]], *(x[twice[twice != k]] for x in (one, other))))]
    ]
    assert repeated.item() == pytest.approx(torch.stack(single).mean().item(), rel=1e-12)
