"""One training from a plan to its checkpoint: on frozen features, or together with the backbone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from condsim.harness.errors import CondsimError
from condsim.harness.files.state_dict import read_state_dict, write_state_dict
from condsim.harness.files.writing import atomic
from condsim.methods.training.data import Batches, Frozen
from condsim.methods.training.finetune import Finetuned
from condsim.methods.training.loop import Fitted, fit
from condsim.methods.training.plan import Plan
from condsim.methods.training.validate import EncodeImages, EncodeTexts, validate

Input = TypeVar("Input")
OnRow = Callable[[Mapping[str, float]], None]
Report = Callable[[str], None]


def train(
    plan: Plan, path: Path, report: Report = lambda line: None, on_row: OnRow = lambda row: None, force: bool = False
) -> None:
    """Train unless the checkpoint ``path`` is already there and undamaged; a killed training resumes.

    Writes the checkpoint, its history (``.history.json``), and for a trained backbone its weights beside it.

    Args:
        report: receives each line for the terminal.
        on_row: receives each validation: step, loss, validation.
        force: train again although the checkpoint exists.
    """
    if not force and path.is_file():
        try:
            for file in (path, *([plan.backbone_weights(path)] if plan.tune_backbone else [])):
                read_state_dict(file)
        except CondsimError as error:
            report(f"{error}; it is trained again")
        else:
            report(f"already trained: {path} (force=true trains again)")
            return
    running, kept = path.with_suffix(".running"), path.with_suffix(".kept")
    if force:
        running.unlink(missing_ok=True)
        kept.unlink(missing_ok=True)
    network = _new_network(plan)
    fitted = _fit(plan, network, running, kept, report, on_row)
    _write(plan, path, fitted, plan.method.settings_of(network))
    running.unlink(missing_ok=True)
    kept.unlink(missing_ok=True)
    report(f"wrote {path}: the weights after step {fitted.step}")


def _new_network(plan: Plan) -> nn.Module:
    torch.manual_seed(plan.recipe.seed)
    return plan.method.new_network(plan.backbone.width).to(plan.device)


def _fit(plan: Plan, network: nn.Module, running: Path, kept: Path, report: Report, on_row: OnRow) -> Fitted:
    method, data, recipe = plan.method, plan.data, plan.recipe
    trained = nn.ModuleDict({"network": network})
    features: Frozen | Finetuned
    if plan.tune_backbone:
        features = finetuned = Finetuned.of(plan.backbone)
        trained["backbone"] = finetuned.encoder
        images = torch.zeros(0, plan.backbone.width, device=plan.device)
        encode_images: EncodeImages = finetuned.encode_images
        encode_texts: EncodeTexts = finetuned.encode_texts
    else:
        features = frozen_features(plan)
        images = features.images
        encode_images = _on_device(plan.backbone.encode_images, plan.device)
        encode_texts = _on_device(plan.backbone.encode_texts, plan.device)
    words = plan.training_data(images, kept)
    objective = method.objective(words)

    def loss(triplets: np.ndarray[Any, np.dtype[np.int64]]) -> Tensor:
        return objective(network, features.batch(data, triplets))

    def log(row: Mapping[str, float]) -> None:
        value = f", validation {100 * row['validation']:.2f}" if "validation" in row else ""
        report(f"step {row['step']:.0f}/{recipe.steps}: loss {row['loss']:.4f}{value}")
        on_row(row)

    sizes, shares = [len(s) for s in data.sources], [s.share for s in data.sources]
    return fit(
        trained,
        loss,
        Batches(sizes, shares, recipe.batch_size, recipe.seed),
        recipe,
        running,
        validate=partial(validate, method, network, plan.validations, encode_images, encode_texts, words.encode_words)
        if plan.validations
        else None,
        on_row=log,
        report=report,
        description=f"training {plan.name}",
    )


def _write(plan: Plan, path: Path, fitted: Fitted, architecture: Mapping[str, Any]) -> None:
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "backbone": {}}
    for name, tensor in fitted.state.items():
        part, _, inner = name.partition(".")
        parts[part][inner] = tensor
    _write_history(path, fitted)
    if plan.tune_backbone:
        weights = {name.removeprefix("model."): tensor for name, tensor in parts["backbone"].items()}
        write_state_dict(plan.backbone_weights(path), weights, {"settings": plan.settings})
    about = {
        "architecture": dict(architecture),
        "width": plan.backbone.width,
        "settings": plan.settings,
        "triplets": plan.triplets,
        "step": fitted.step,
        "validation": fitted.validation,
    }
    write_state_dict(path, parts["network"], about)  # last: its presence says that the training is complete


def frozen_features(plan: Plan) -> Frozen:
    """Every image and text of the training data through the feature store, on the training's device."""
    images = torch.cat([plan.backbone.encode_images(source.images) for source in plan.data.sources])
    texts = [plan.backbone.encode_texts(source.texts) for source in plan.data.sources if source.texts]
    empty = images.new_zeros(0, images.shape[1])
    return Frozen(images.to(plan.device), (torch.cat(texts) if texts else empty).to(plan.device))


def _on_device(encode: Callable[[Input], Tensor], device: torch.device) -> Callable[[Input], Tensor]:
    return lambda inputs: encode(inputs).to(device, copy=True)  # a method may write into it


def _write_history(path: Path, fitted: Fitted) -> None:
    with atomic(path.with_suffix(".history.json")) as scratch:
        scratch.write_text(json.dumps(fitted.history, indent=1) + "\n", encoding="utf-8")
