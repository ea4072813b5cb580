"""`condsim train`: a method's network from triplets, kept under a name that says what it was trained with."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from condsim.harness.backbone import Backbone
from condsim.harness.configs import make
from condsim.harness.console import console
from condsim.harness.errors import CondsimError
from condsim.harness.features.open_clip.backbone import OpenClip
from condsim.harness.hashing import settings_hash
from condsim.harness.triplets import Triplets
from condsim.methods.training.checkpoints import write_checkpoint
from condsim.methods.training.data import Batches, Frozen, Joined, hold_out
from condsim.methods.training.finetune import TunedBackbone
from condsim.methods.training.hard_targets import closest_targets
from condsim.methods.training.loop import Fitted, Recipe, fit
from condsim.methods.training.method import Batch, TrainedMethod
from condsim.methods.training.validate import EncodeImages, EncodeTexts, Validation, validate

Input = TypeVar("Input")
OnRow = Callable[[Mapping[str, float]], None]


@dataclass(frozen=True)
class Plan:
    """A training, made of the config but not begun."""

    name: str
    """The method's name, the start of the checkpoint's."""
    method: TrainedMethod
    backbone: Backbone
    data: Joined
    validations: tuple[Validation, ...]
    recipe: Recipe
    tune_backbone: bool
    device: torch.device
    settings: Mapping[str, Any]
    """All that the result depends on; its hash is part of the checkpoint's name."""

    def checkpoint(self, folder: Path) -> Path:
        return folder / f"{self.name}-{settings_hash(self.settings)}.safetensors"


def train(settings: Mapping[str, Any], name: str, on_row: OnRow = lambda row: None) -> dict[str, Any]:
    """Train as conf/train.yaml says; returns the overrides of a run with what was trained (method.checkpoint, ...).

    Nothing is trained where the checkpoint exists already. With ``dry`` nothing is trained at all: the sizes are
    printed and the result is empty.
    """
    plan = make_plan(settings, name)
    path = plan.checkpoint(Path(settings["checkpoints"]).expanduser())
    if settings["dry"]:
        for label, value in estimate(plan).items():
            console.print(f"{label:<30} {value}", markup=False)
        console.print(f"{'would write':<30} {path}", markup=False)
        return {}
    if path.is_file() and not settings["force"]:
        console.print(f"{path} is trained already", markup=False)
    else:
        run(plan, path, on_row, anew=settings["force"])
    trained: dict[str, Any] = {"method.checkpoint": str(path)}
    if plan.tune_backbone:
        trained |= {"backbone.weights": str(backbone_path(path)), "backbone.pretrained": None}
    return trained


def make_plan(settings: Mapping[str, Any], name: str) -> Plan:
    """Raises CondsimError for a method that is not trained, triplets that lack what it needs, and the like."""
    method = make(
        settings["method"] | {"checkpoint": None} if "checkpoint" in settings["method"] else settings["method"]
    )
    if not isinstance(method, TrainedMethod):
        raise CondsimError(
            f"method={name} has nothing to train: `condsim bench` runs it as it is. Did you mean combiner?"
        )
    training = dict(settings["training"])
    tune_backbone, device_name = bool(training.pop("backbone")), training.pop("device")
    closest_of = int(training.pop("closest_of"))
    recipe = Recipe(**training)
    sources: list[Triplets] = [
        make(source, f"triplets.{source_name}") for source_name, source in settings["triplets"].items() if source
    ]
    fingerprints = [source.fingerprint for source in sources]
    backbone: Backbone = make(settings["backbone"], "backbone")
    if closest_of and not settings["dry"]:
        sources = [closest_targets(s, backbone.encode_images(s.images), closest_of, recipe.seed) for s in sources]
    held_share, metric = settings["validation"]["share"], settings["validation"]["metric"]
    validations: list[Validation] = []
    watched: Any = None
    if settings["validation"]["benchmark"]:
        benchmark = make(settings["validation"]["benchmark"]).select(settings["validation"]["tasks"])
        validations = [Validation(task, metric) for task in benchmark.tasks]
        watched = [metric, *(task.fingerprint for task in benchmark.tasks)]
    elif held_share:
        most = settings["validation"]["most"]
        pairs = [hold_out(source, held_share, most, recipe.seed, metric) for source in sources]
        sources = [source for source, _ in pairs]
        validations = [Validation(task, metric, source.share) for source, task in pairs]
        watched = [metric, held_share, most]
    _check_parts(method, name, sources)
    method_settings = {key: value for key, value in settings["method"].items() if key != "checkpoint"}
    hashed = {
        "condsim": version("condsim"),
        "method": method_settings,
        "training": asdict(recipe) | {"backbone": tune_backbone, "closest_of": closest_of},
        "triplets": fingerprints,
        "validation": watched,
        "backbone": backbone.identity,
    }
    device = _device(device_name, backbone)
    return Plan(name, method, backbone, Joined.of(sources), tuple(validations), recipe, tune_backbone, device, hashed)


def run(plan: Plan, path: Path, on_row: OnRow = lambda row: None, anew: bool = False) -> Fitted:
    """Train and write the checkpoint ``path``, its history beside it; a run that was killed goes on where it was."""
    running = path.with_suffix(".running")
    if anew:
        running.unlink(missing_ok=True)
    torch.manual_seed(plan.recipe.seed)
    network = plan.method.new_network(plan.backbone.width).to(plan.device)
    method, data = plan.method, plan.data
    features: Frozen | TunedBackbone
    if plan.tune_backbone:
        assert isinstance(plan.backbone, OpenClip)
        features = tuned = TunedBackbone(plan.backbone)
        images: Tensor = torch.zeros(0, plan.backbone.width, device=plan.device)
        encode_images: EncodeImages = tuned.encode_images
        encode_texts: EncodeTexts = tuned.encode_texts
        trained: nn.Module = nn.ModuleDict({"network": network, "backbone": tuned})
    else:
        features = frozen_features(plan)
        images = features.images
        encode_images = _on_device(plan.backbone.encode_images, plan.device)
        encode_texts = _on_device(plan.backbone.encode_texts, plan.device)
        trained = nn.ModuleDict({"network": network})
    objective = method.objective(images)

    def loss(which: np.ndarray[Any, np.dtype[np.int64]]) -> Tensor:
        batch: Batch = features.batch(data, which)
        return objective(network, batch)

    def log(row: Mapping[str, float]) -> None:
        shown = f", validation {100 * row['validation']:.2f}" if "validation" in row else ""
        console.print(f"step {row['step']:.0f}/{plan.recipe.steps}: loss {row['loss']:.4f}{shown}", markup=False)
        on_row(row)

    fitted = fit(
        trained,
        loss,
        Batches(
            [len(s) for s in data.sources], [s.share for s in data.sources], plan.recipe.batch_size, plan.recipe.seed
        ),
        plan.recipe,
        running,
        validate=partial(validate, method, network, plan.validations, encode_images, encode_texts)
        if plan.validations
        else None,
        on_row=log,
        description=f"training {plan.name}",
    )
    inside = {
        "architecture": dict(method.settings_of(network)),
        "width": plan.backbone.width,
        "settings": plan.settings,
        "step": fitted.step,
        "validation": fitted.validation,
    }
    _write_history(path, fitted)
    if plan.tune_backbone:
        weights = {
            k.removeprefix("backbone.model."): v for k, v in fitted.state.items() if k.startswith("backbone.model.")
        }
        write_checkpoint(backbone_path(path), weights, {"settings": plan.settings})
    head = {k.removeprefix("network."): v for k, v in fitted.state.items() if k.startswith("network.")}
    write_checkpoint(path, head, inside)  # last: its being there says that all is done
    running.unlink(missing_ok=True)
    console.print(f"{path} written: the weights after step {fitted.step}", markup=False)
    return fitted


def frozen_features(plan: Plan) -> Frozen:
    """Every image and text of the training data through the feature store, on the training's device."""
    images = torch.cat([plan.backbone.encode_images(source.images) for source in plan.data.sources])
    texts = [plan.backbone.encode_texts(source.texts) for source in plan.data.sources if source.texts]
    empty = images.new_zeros(0, images.shape[1])
    return Frozen(images.to(plan.device), (torch.cat(texts) if texts else empty).to(plan.device))


def estimate(plan: Plan) -> dict[str, str]:
    """What a training would need, without features: sizes are counted, the time is of two steps on random numbers."""
    width, recipe = plan.backbone.width, plan.recipe
    network = plan.method.new_network(width).to(plan.device)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    images = sum(len(source.images) for source in plan.data.sources)
    texts = sum(len(source.texts) for source in plan.data.sources)
    told = {
        "triplets": f"{len(plan.data):,}",
        "images, texts": f"{images:,}, {texts:,}",
        "frozen features": _megabytes(4 * width * (images + texts)),
        "parameters of the network": f"{parameters:,}",
        "checkpoint": _megabytes(4 * parameters),
        "weights, gradients, optimizer": _megabytes(16 * parameters),
        "steps": f"{recipe.steps:,} of {recipe.batch_size} triplets",
        "epochs": f"{recipe.steps * recipe.batch_size / len(plan.data):.1f}",
    }
    if plan.tune_backbone:
        return told | {"time": "not estimated for a backbone in training"}
    seconds = _seconds_per_step(plan, network)
    return told | {"time": f"{seconds:.3f} s a step, {seconds * recipe.steps / 60:.1f} minutes on {plan.device}"}


def backbone_path(path: Path) -> Path:
    """Where the backbone that was trained with the head ``path`` is."""
    return path.with_name(f"{path.stem}-backbone.safetensors")


def _seconds_per_step(plan: Plan, network: nn.Module) -> float:
    size, width = plan.recipe.batch_size, plan.backbone.width
    images = torch.randn(size, width, device=plan.device)
    batch = Batch(images, torch.randn_like(images), images.flip(0), torch.arange(size, device=plan.device).flip(0))
    objective = plan.method.objective(images)
    for _ in range(2):  # the first one also sets things up
        began = time.perf_counter()
        objective(network, batch).backward()  # type: ignore[no-untyped-call]
        if plan.device.type == "cuda":
            torch.cuda.synchronize()
    return time.perf_counter() - began


def _on_device(encode: Callable[[Input], Tensor], device: torch.device) -> Callable[[Input], Tensor]:
    return lambda what: encode(what).to(device)


def _check_parts(method: TrainedMethod, name: str, sources: Sequence[Triplets]) -> None:
    for source in sources:
        for needed, rows, what in (
            (method.needs_reference, source.reference, "reference image"),
            (method.needs_condition, source.text, "text"),
        ):
            if needed and (rows < 0).any():
                raise CondsimError(
                    f"triplets {source.name}: some have no {what}, which {name} needs: leave this source out, as in "
                    f"triplets.{source.name}=null"
                )


def _device(name: str, backbone: Backbone) -> torch.device:
    if name == "auto":
        return backbone.device
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise CondsimError(f"training.device={name}: {error}") from None


def _write_history(path: Path, fitted: Fitted) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_suffix(".history.json")
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.write_text(json.dumps(fitted.history, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, file)


def _megabytes(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"
