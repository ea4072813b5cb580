"""The contract of trained methods: a network, its loss, its checkpoint, and its scorer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from condsim.harness.errors import CondsimError
from condsim.harness.files.state_dict import Checkpoint
from condsim.harness.method import Gallery, Method, Scorer
from condsim.harness.process.tensors import Tensor, nn
from condsim.methods.training.checkpoints import read_checkpoint


@dataclass(frozen=True)
class Batch:
    """B training examples as raw features; a missing reference or text is a row of zeros."""

    reference: Tensor
    """[B, D]"""
    text: Tensor
    """[B, D]"""
    target: Tensor
    """[B, D]"""
    target_row: Tensor
    """int64 [B] the target's row among all training images: equal for the same image."""
    text_row: Tensor | None = None
    """int64 [B] the text's row of ``TrainingData.texts``, -1 for none."""


EncodeWords = Callable[[Sequence[str], "Tensor"], "Tensor"]
"""Texts with "$" and the vectors [B, E] of these words -> [B, D] raw features."""


@dataclass(frozen=True)
class TrainingData:
    """What a loss may need in addition to its batch."""

    images: Tensor
    """[M, D] the raw features that ``Batch.target_row`` points into; [0, D] where the backbone is trained too, since
    its features then change in every step."""
    texts: Sequence[str] = ()
    encode_words: EncodeWords | None = None
    """With gradients for the vectors (``harness.trainable``). None: the backbone has no such part."""
    encode_texts: Callable[[Sequence[str]], Tensor] | None = None
    """Texts -> [len, D] raw features, without gradients. None where ``encode_words`` is None."""
    keep: Path | None = None
    """A file for the results of long work before the first step, which is deleted after the training. None: this is a
    trial of two steps, for which such work is done in part only."""


Objective = Callable[["nn.Module", Batch], "Tensor"]
"""Network, batch -> the loss to minimise."""


class TrainedMethod(Method):
    """A method with a trained network.

    An architecture setting of None means: as in the checkpoint when scoring, as published when training.
    """

    wrappers: ClassVar[tuple[str, ...]] = ()
    """Keys under which released checkpoints store their weights."""
    source: ClassVar[str] = ""
    """Where weights are published, and for which backbones."""
    trains_on: ClassVar[tuple[str, ...]] = ("reference", "text")
    """The parts of a triplet that its loss reads, in addition to the target."""
    before_training: ClassVar[str] = ""
    """Work before the first step that an estimate of the time leaves out."""

    def __init__(self, checkpoint: str | None, **architecture: Any) -> None:
        self.checkpoint = checkpoint
        self.architecture = architecture

    @abstractmethod
    def new_network(self, width: int) -> nn.Module:
        """An untrained network for features of ``width``, initialised from torch's global generator."""

    @abstractmethod
    def load_network(self, checkpoint: Checkpoint) -> tuple[nn.Module, int, Mapping[str, Any]]:
        """A checkpoint's network, the width of its features, and its architecture settings."""

    @abstractmethod
    def objective(self, data: TrainingData) -> Objective:
        """The loss to minimise. Raises CondsimError where ``data`` lacks what it needs."""

    @abstractmethod
    def score_with(self, network: nn.Module, gallery: Gallery) -> Scorer:
        """A scorer with this network, which is in evaluation mode on the gallery's device."""

    @abstractmethod
    def settings_of(self, network: nn.Module) -> Mapping[str, Any]:
        """The architecture settings of a network, none of them None, as ``load_network`` returns them."""

    def prepare(self, gallery: Gallery) -> Scorer:
        network = self.trained_network(gallery.features.shape[1])
        return self.score_with(network.to(gallery.features.device).eval(), gallery)

    def trained_with(self) -> Mapping[str, Any]:
        """The settings below ``training`` that `condsim train` had, and how many triplets of which sources."""
        if self.checkpoint is None:
            return {}
        about = read_checkpoint(self.checkpoint, self.wrappers).settings
        settings = about.get("settings", {}).get("training", {})
        sources = about.get("triplets", {})
        counted = {"triplets": sum(sources.values()), "sources": ", ".join(sources)} if sources else {}
        return {**settings, **counted}

    def trained_network(self, width: int) -> nn.Module:
        """The checkpoint's network. Raises CondsimError where its architecture or feature width is another."""
        if self.checkpoint is None:
            raise CondsimError("the method has no weights: set method.checkpoint=FILE, or train it: `condsim train`")
        checkpoint = read_checkpoint(self.checkpoint, self.wrappers)
        network, trained_width, found = self.load_network(checkpoint)
        for key, wanted in self.architecture.items():
            if wanted is not None and wanted != found[key]:
                raise CondsimError(
                    f"method.{key}={wanted}, but checkpoint {checkpoint.path} has {key}={found[key]}: leave "
                    f"method.{key} out to use it, or train another: condsim train method.{key}={wanted}"
                )
        if trained_width != width:
            raise CondsimError(
                f"checkpoint {checkpoint.path} is for features of width {trained_width}, this backbone's have width "
                f"{width}: choose the backbone that it was trained on, or train another for this one: `condsim train`"
                + (f". Published: {self.source}" if self.source else "")
            )
        return network.requires_grad_(False)
