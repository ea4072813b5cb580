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

from condsim.harness.errors import CondsimError, did_you_mean
from condsim.harness.files import atomic
from condsim.harness.progress import track
from condsim.harness.state_dict import check_archive

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
        for label, value, known in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("precision", self.precision, ("fp32", "bf16")),
        ):
            if value not in known:
                raise CondsimError(f"training.{label} is {value!r}. {did_you_mean(str(value), known)}")

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
    optimizer, start = _restore(running, model, parameters, recipe, report)
    step, history = start.step, start.history
    best_state, best_step, best_value = start.best_state, start.best_step, start.best_value
    total, summed = start.loss_sum, start.loss_steps
    stopped = start.stopped

    def save() -> None:
        _save(
            running,
            _Running(step, history, best_state, best_step, best_value, total, summed, stopped),
            model,
            optimizer,
        )

    with track(recipe.steps, description) as advance:
        advance(step)
        while step < recipe.steps and not stopped:
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate(step)
            torch.manual_seed(int(np.random.SeedSequence([recipe.seed, step]).generate_state(1)[0]))
            model.train()
            with torch.autocast(
                device.type, torch.bfloat16, enabled=recipe.precision == "bf16" and device.type == "cuda"
            ):
                value = loss(batches(step))
            optimizer.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            if recipe.clip is not None:
                nn.utils.clip_grad_norm_(parameters, recipe.clip)
            optimizer.step()
            step += 1
            total, summed = total + value.detach().double(), summed + 1
            advance(1)
            if step % recipe.validate_every == 0 or step == recipe.steps:
                mean = float(total) / summed
                if not math.isfinite(mean):
                    raise CondsimError(
                        f"the training loss is {mean} after step {step}: a smaller training.learning_rate, "
                        "training.clip=1 or training.precision=fp32 may help"
                    )
                row = {"step": float(step), "loss": mean}
                total, summed = torch.zeros_like(total), 0
                if validate is not None:
                    model.eval()
                    with torch.no_grad():
                        row["validation"] = validate()
                if best_value is None or validate is None or row["validation"] > best_value:
                    best_value, best_step = row.get("validation"), step
                    best_state = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
                history.append(row)
                on_row(row)
                stopped = validate is not None and 0 < recipe.patience <= _rows_since(history, best_step)
            if step % recipe.checkpoint_every == 0 or step == recipe.steps or stopped:
                save()
    assert best_state is not None
    return Fitted(best_state, best_step, best_value, history)


def _rows_since(history: list[dict[str, float]], best_step: int) -> int:
    return sum(row["step"] > best_step for row in history)


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
    path: Path,
    model: nn.Module,
    parameters: list[nn.Parameter],
    recipe: Recipe,
    report: Callable[[str], None],
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
