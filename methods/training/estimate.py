"""What a training needs, before it begins: sizes are counted, the time is measured on two steps of random numbers."""

from __future__ import annotations

import time

import torch
from torch import nn

from condsim.methods.training.method import Batch
from condsim.methods.training.plan import Plan


def estimate(plan: Plan) -> dict[str, str]:
    """Label -> value, for the terminal. Encodes nothing."""
    width, recipe = plan.backbone.width, plan.recipe
    network = plan.method.new_network(width).to(plan.device)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    images = sum(len(source.images) for source in plan.data.sources)
    texts = sum(len(source.texts) for source in plan.data.sources)
    if plan.tune_backbone:
        duration = "not estimated when the backbone is trained"
    else:
        seconds = _seconds_per_step(plan, network)
        duration = f"{seconds:.3f} s per step, {seconds * recipe.steps / 60:.1f} minutes on {plan.device}"
        if plan.method.before_training:
            duration += f", without {plan.method.before_training}"
    return {
        "triplets": f"{len(plan.data):,}",
        "images, texts": f"{images:,}, {texts:,}",
        "frozen features": _megabytes(4 * width * (images + texts)),
        "parameters of the network": f"{parameters:,}",
        "checkpoint": _megabytes(4 * parameters),
        "weights, gradients, optimizer": _megabytes(16 * parameters),
        "steps": f"{recipe.steps:,} of {recipe.batch_size} triplets",
        "epochs": f"{recipe.steps * recipe.batch_size / len(plan.data):.1f}",
        "time": duration,
    }


def _seconds_per_step(plan: Plan, network: nn.Module) -> float:
    texts = max(1, sum(len(source.texts) for source in plan.data.sources))
    size, width = plan.recipe.batch_size, plan.backbone.width
    images = torch.randn(size, width, device=plan.device)
    batch = Batch(
        images,
        torch.randn_like(images),
        images.flip(0),
        torch.arange(size, device=plan.device).flip(0),
        torch.arange(size) % texts,
    )
    objective = plan.method.objective(plan.training_data(images))
    for _ in range(2):  # the first step also allocates
        began = time.perf_counter()
        objective(network, batch).backward()  # type: ignore[no-untyped-call]
        if plan.device.type == "cuda":
            torch.cuda.synchronize()
    return time.perf_counter() - began


def _megabytes(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"
