"""The training loop of all trained methods: seeded per step, resumable after a kill, with early stopping."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from condsim.harness.errors import CondsimError, require_one_of
from condsim.harness.files.state_dict import check_archive
from condsim.harness.files.writing import atomic
from condsim.harness.terminal.progress import track

OPTIMIZERS = ("adamw", "adam")


@dataclass(frozen=True)
class Recipe:
    """How to train. Steps are optimizer steps."""

    steps: int
    batch_size: int
    learning_rate: float
    optimizer: Literal["adamw", "adam"] = "adamw"
    weight_decay: float = 0.01
    warmup: int = 0
    """Steps of a linear ramp; then cosine to zero."""
    clip: float | None = None
    """Largest norm of the gradient."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: autocast on a GPU; a CPU trains in fp32 either way."""
    seed: int = 0
    validate_every: int = 500
    patience: int = 5
    """Stop after this many validations without a better one; 0: never."""
    checkpoint_every: int = 500

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "validate_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise CondsimError(f"training.{name} must be at least 1, not {getattr(self, name)}")
        if self.learning_rate <= 0:
            raise CondsimError(f"training.learning_rate must be above 0, not {self.learning_rate}")
        require_one_of("training.optimizer", self.optimizer, OPTIMIZERS)
        require_one_of("training.precision", self.precision, ("fp32", "bf16"))

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        ramp = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return self.learning_rate * ramp * 0.5 * (1 + math.cos(math.pi * step / self.steps))


@dataclass(frozen=True)
class Fitted:
    """A finished training: the best weights (the last ones without validation) and its history."""

    state: dict[str, Tensor]
    step: int
    """The step after which these weights were saved."""
    validation: float | None
    history: list[dict[str, float]]
    """One row per validation: step, mean loss since the last row, validation."""


def fit(
    model: nn.Module,
    loss: Callable[[np.ndarray[Any, np.dtype[np.int64]]], Tensor],
    batches: Callable[[int], np.ndarray[Any, np.dtype[np.int64]]],
    recipe: Recipe,
    running: Path,
    validate: Callable[[], float] | None = None,
    on_row: Callable[[Mapping[str, float]], None] = lambda row: None,
    report: Callable[[str], None] = lambda line: None,
    description: str = "training",
) -> Fitted:
    """Minimise ``loss(batches(step))`` over the parameters of ``model`` that require gradients.

    The training state is saved in the file ``running`` and restored from it: on the same machine and device a training
    that was killed any number of times ends in the same weights as one that was not, bit for bit on a CPU, because
    every step draws from a generator seeded by its number. A damaged file is reported and training starts again from
    the first step. The caller deletes the file.

    Args:
        validate: returns the value to maximise; None keeps the last weights.
        on_row: receives each row of the history.
        report: receives each line for the terminal.

    Raises CondsimError where the loss is not finite.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    device = parameters[0].device
    optimizer, at = _restore(running, model, parameters, recipe, report)
    with track(recipe.steps, description) as advance:
        advance(at.step)
        while at.step < recipe.steps and not at.stopped:
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate(at.step)
            torch.manual_seed(int(np.random.SeedSequence([recipe.seed, at.step]).generate_state(1)[0]))
            model.train()
            with torch.autocast(
                device.type, torch.bfloat16, enabled=recipe.precision == "bf16" and device.type == "cuda"
            ):
                value = loss(batches(at.step))
            optimizer.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            if recipe.clip is not None:
                nn.utils.clip_grad_norm_(parameters, recipe.clip)
            optimizer.step()
            at.step += 1
            at.loss_sum, at.loss_steps = at.loss_sum + value.detach().double(), at.loss_steps + 1
            advance(1)
            last = at.step == recipe.steps
            if last or at.step % recipe.validate_every == 0:
                _validate(at, model, recipe, validate)
                on_row(at.history[-1])
            if last or at.stopped or at.step % recipe.checkpoint_every == 0:
                _save(running, at, model, optimizer)
    assert at.best_state is not None
    return Fitted(at.best_state, at.best_step, at.best_value, at.history)


def _validate(at: _Running, model: nn.Module, recipe: Recipe, validate: Callable[[], float] | None) -> None:
    """Add a row to the history; keep the weights if they are the best, and stop if none was better for long."""
    mean = float(at.loss_sum) / at.loss_steps
    if not math.isfinite(mean):
        raise CondsimError(
            f"the training loss is {mean} after step {at.step}: a smaller training.learning_rate, "
            "training.clip=1 or training.precision=fp32 may help"
        )
    row = {"step": float(at.step), "loss": mean}
    at.loss_sum, at.loss_steps = torch.zeros_like(at.loss_sum), 0
    if validate is not None:
        model.eval()
        with torch.no_grad():
            row["validation"] = validate()
    if at.best_value is None or row["validation"] > at.best_value:
        at.best_value, at.best_step = row.get("validation"), at.step
        at.best_state = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    at.history.append(row)
    rows_since = sum(row["step"] > at.best_step for row in at.history)
    at.stopped = validate is not None and 0 < recipe.patience <= rows_since


def _optimizer(parameters: list[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=recipe.learning_rate)
    # No decay on gains, biases and position tables, which are not linear maps.
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)


@dataclass
class _Running:
    """Where a training is, as it is saved."""

    step: int
    history: list[dict[str, float]]
    best_state: dict[str, Tensor] | None
    best_step: int
    best_value: float | None
    loss_sum: Tensor
    loss_steps: int
    stopped: bool


def _save(path: Path, running: _Running, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    with atomic(path) as scratch:
        torch.save(
            {"running": vars(running), "model": model.state_dict(), "optimizer": optimizer.state_dict()}, scratch
        )


def _restore(
    path: Path, model: nn.Module, parameters: list[nn.Parameter], recipe: Recipe, report: Callable[[str], None]
) -> tuple[torch.optim.Optimizer, _Running]:
    """The optimizer and the state to continue from: the saved one, or that of step 0."""
    device, optimizer = parameters[0].device, _optimizer(parameters, recipe)
    first = _Running(0, [], None, 0, None, torch.zeros((), dtype=torch.float64, device=device), 0, False)
    if not path.is_file():
        return optimizer, first
    untrained = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    try:
        check_archive(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        running = _Running(**state["running"])
        running.loss_sum = running.loss_sum.to(device)
    except Exception as error:  # whatever torch raises for a damaged file
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        report(f"{reason.removeprefix(f'{path}: ')} ({path}): this training starts again from its first step")
        path.unlink()
        model.load_state_dict(untrained)
        return _optimizer(parameters, recipe), first
    return optimizer, running
