"""A training that is ready to begin: its objects, its checks, and the hash that names its checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from condsim.harness.backbone import Backbone
from condsim.harness.errors import CondsimError, NotApplicable
from condsim.harness.files.hashing import settings_hash
from condsim.harness.method import Method
from condsim.harness.process.devices import AUTO, device_of
from condsim.harness.task import ImageTable, Task
from condsim.harness.trainable import Trainable, TrainableEncoder
from condsim.harness.triplets import Triplets
from condsim.methods.training.data import Joined, hold_out
from condsim.methods.training.hard_targets import with_hard_targets
from condsim.methods.training.loop import Recipe
from condsim.methods.training.method import TrainedMethod, TrainingData
from condsim.methods.training.validate import Validation

PROTOCOL = 1
"""Raised when the same settings would train other weights; part of every checkpoint's hash."""


@dataclass(frozen=True)
class Plan:
    """A training with everything that it needs."""

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
    triplets: Mapping[str, int] = field(default_factory=dict)
    """Source -> its number of triplets before some are held out for validation (how many depends on the seed)."""

    def checkpoint(self, folder: Path) -> Path:
        return folder / f"{self.name}-{settings_hash(self.settings)}.safetensors"

    def backbone_weights(self, checkpoint: Path) -> Path:
        """Where the weights of a backbone are that was trained with the head ``checkpoint``."""
        return checkpoint.with_name(f"{checkpoint.stem}-backbone.safetensors")

    def training_data(self, images: Tensor, keep: Path | None = None) -> TrainingData:
        """What the loss reads, where the images have the features ``images``; ``keep`` as in ``TrainingData``.

        The text tower for texts with vectors in them is frozen, and loaded on first use.
        """
        texts = [text for source in self.data.sources for text in source.texts]
        backbone = self.backbone
        if not isinstance(backbone, Trainable):
            return TrainingData(images, texts)

        @cache
        def encoder() -> TrainableEncoder:
            return backbone.trainable().requires_grad_(False)

        def encode(marked: Sequence[str], vectors: Tensor) -> Tensor:
            return encoder().texts_with(marked, vectors).to(vectors.device)

        def plain(texts: Sequence[str]) -> Tensor:
            return backbone.encode_texts(texts).to(images.device, copy=True)

        return TrainingData(images, texts, encode, plain, keep)


@dataclass(frozen=True)
class HeldOut:
    """Validation on a share of each source's target images, with at most ``most`` queries per source."""

    share: float
    most: int


def make_plan(
    name: str,
    method: Method,
    method_settings: Mapping[str, Any],
    backbone: Backbone,
    sources: Sequence[Triplets],
    training: Mapping[str, Any],
    watch: HeldOut | Sequence[Task],
    metric: str,
    dry: bool = False,
    images_digest: Callable[[ImageTable], str] | None = None,
) -> Plan:
    """Check and join what ``conf/train.yaml`` describes.

    Args:
        name: the method's name on the command line.
        method_settings: the settings of ``method`` as configured, hashed into the checkpoint's name.
        training: the settings below ``training``: those of ``loop.Recipe``, and ``backbone``, ``device`` and
            ``hard_targets``.
        watch: what early stopping watches: held-out triplets or whole tasks.
        metric: the metric that it watches, such as "mrr".
        dry: encode nothing, so targets stay as they are; for an estimate.
        images_digest: says what identifies the content of pictures, hashed into the checkpoint's name too.

    Raises CondsimError for a method without weights, triplets that lack what the method needs, and settings out of
    range.
    """
    if not isinstance(method, TrainedMethod):
        raise CondsimError(
            f"method={name} has nothing to train: run it with `condsim bench`, or train combiner, query_adaptive, "
            "lincir, pic2word or searle"
        )
    training = dict(training)
    tune_backbone, device = bool(training.pop("backbone")), _device(training.pop("device"), backbone)
    if tune_backbone and not isinstance(backbone, Trainable):
        raise CondsimError(
            f"training.backbone=true: the weights of {backbone.name} cannot be trained, only open_clip's"
        )
    hard_targets = int(training.pop("hard_targets"))
    recipe = Recipe(**training)
    fingerprints = [source.fingerprint for source in sources]
    counts = {source.name: len(source) for source in sources}
    tables = [source.images for source in sources]
    if hard_targets and not dry:
        sources = [
            with_hard_targets(source, backbone.encode_images(source.images), hard_targets, recipe.seed)
            for source in sources
        ]
    watched: list[Any] = [metric]
    if isinstance(watch, HeldOut):
        watched = [metric, watch.share, watch.most] if watch.share else []
        pairs = [hold_out(s, watch.share, watch.most, recipe.seed, metric) for s in sources] if watch.share else []
        validations = [Validation(task, metric, source.share) for source, task in pairs]
        sources = [source for source, _ in pairs] or sources
    else:
        watched = [metric, *(task.fingerprint for task in watch)]
        tables += [task.images for task in watch]
        validations = [Validation(task, metric) for task in watch]
    _check_parts(method, name, sources)
    _check_validations(method, name, validations, isinstance(watch, HeldOut))
    settings = {
        "protocol": [PROTOCOL, method.protocol],
        "method": {key: value for key, value in method_settings.items() if key != "checkpoint"},
        "training": asdict(recipe) | {"backbone": tune_backbone, "hard_targets": hard_targets},
        "triplets": fingerprints,
        "validation": watched or None,
        "backbone": backbone.identity,
        "images": images_digest and [images_digest(table) for table in tables],
    }
    data = Joined.of(sources)
    return Plan(name, method, backbone, data, tuple(validations), recipe, tune_backbone, device, settings, counts)


def _check_parts(method: TrainedMethod, name: str, sources: Sequence[Triplets]) -> None:
    for source in sources:
        for needed, rows, part in (
            (method.needs_reference, source.reference, "reference image"),
            (method.needs_condition, source.text, "text"),
        ):
            if needed and part.split()[0] in method.trains_on and (rows < 0).any():
                raise CondsimError(
                    f"triplets {source.name}: some have no {part}, which {name} needs: leave this source out with "
                    f"triplets.{source.name}=null"
                )


def _check_validations(method: TrainedMethod, name: str, validations: Sequence[Validation], held_out: bool) -> None:
    for validation in validations:
        try:
            method.check(validation.task)
        except NotApplicable as error:
            advice = (
                "set validation.share=0, which keeps the last weights, or validate on a benchmark, as in "
                "+benchmark@validation.benchmark=cirr"
                if held_out
                else "choose the tasks with validation.tasks=[...]"
            )
            raise CondsimError(f"{name} cannot be validated: {error}; {advice}") from None


def _device(name: str, backbone: Backbone) -> torch.device:
    return backbone.device if name == AUTO else device_of(name, "training.device")
