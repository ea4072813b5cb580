"""Methods that turn the reference image into a word and put it into a text with the condition."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from condsim.harness.errors import CondsimError, NotApplicable
from condsim.harness.method import Gallery, Method, Queries, Scorer
from condsim.harness.one_vector import InnerProduct, unit
from condsim.harness.task import Task, condition_text
from condsim.methods.shared.per_batch import PerBatch
from condsim.methods.training.checkpoints import fit_names, read_checkpoint

MARK, CONDITION = "$", "{}"

Layers = list[tuple[Tensor, Tensor]]
"""Weight [out, in] and bias [out] of each linear layer."""


class PseudoWords(Method):
    """query = unit(text(prompt with the word phi(ref))); score = query . unit(d), phi a small network on raw features.

    A task with several texts for a condition (FashionIQ: both orders of its captions) has the mean of their unit
    features. Subclasses say what phi is.

    Args:
        checkpoint: the weights of phi, as its authors released them, for the backbone in use.
        prompt: a text with "$" for the word and "{}" for the condition.
    """

    needs_text = False

    layers: ClassVar[tuple[str, ...]]
    """Names of phi's linear layers in the released weights, in order."""
    wrappers: ClassVar[tuple[str, ...]]
    """Keys under which the released files store them."""
    source: ClassVar[str]
    """Where the weights are published, and for which backbones."""

    def __init__(self, checkpoint: str | None, prompt: str) -> None:
        if MARK not in prompt or CONDITION not in prompt:
            raise CondsimError(f"method.prompt={prompt!r} needs $ for the image's word and {{}} for the condition")
        self.checkpoint, self.prompt = checkpoint, prompt

    @abstractmethod
    def words(self, layers: Layers, reference: Tensor) -> Tensor:
        """phi: raw image features [B, D] -> word vectors [B, E]."""

    def check(self, task: Task) -> None:
        super().check(task)
        self._file()  # before anything is encoded

    def prepare(self, gallery: Gallery) -> Scorer:
        encode, width = gallery.encode_texts_with, gallery.features.shape[1]
        if encode is None:
            raise NotApplicable(
                f"{type(self).__name__} makes a word of the image, and this backbone cannot encode a text with such a "
                "word (condsim.harness.backbone.EncodesPseudoWords): choose one of open_clip's models"
            )
        layers = [(weight.to(gallery.features), bias.to(gallery.features)) for weight, bias in self._layers(width)]
        encode([], layers[-1][0].new_zeros(0, len(layers[-1][0])))  # refuses another width of words before any work
        prompts = [[self._prompt(text) for text in texts] for texts in texts_of(gallery)]
        embed = partial(self._embed, layers, prompts, encode)
        return InnerProduct(unit(gallery.features), PerBatch(embed))

    def _embed(
        self,
        layers: Layers,
        prompts: Sequence[Sequence[str]],
        encode: Callable[[Sequence[str], Tensor], Tensor],
        queries: Queries,
    ) -> Tensor:
        """[B, D]"""
        own = [prompts[condition] for condition in queries.condition.tolist()]
        query = torch.tensor(
            [row for row, texts in enumerate(own) for _ in texts], dtype=torch.long, device=queries.reference.device
        )
        vectors = self.words(layers, queries.reference)
        features = unit(encode([text for texts in own for text in texts], vectors[query]).to(queries.reference))
        return torch.zeros_like(queries.reference).index_add_(0, query, features)

    def _prompt(self, condition: str) -> str:
        text = self.prompt.replace(CONDITION, condition)
        if text.find(MARK) != self.prompt.replace(CONDITION, " " * len(condition)).find(MARK):
            raise CondsimError(
                f"the condition {condition!r} has a $ before the prompt's own, which is the image's word: "
                f"set method.prompt to one with its $ before {CONDITION}"
            )
        return text

    def _file(self) -> str:
        if self.checkpoint is None:
            name = type(self).__name__
            raise CondsimError(f"{name} has no weights of its own: set method.checkpoint=FILE, {self.source}")
        return self.checkpoint

    def _layers(self, width: int) -> Layers:
        """phi's layers. Raises CondsimError where the file holds another network or one for another ``width``."""
        checkpoint = read_checkpoint(self._file(), self.wrappers)
        expected = {f"{layer}.weight": 2 for layer in self.layers} | {f"{layer}.bias": 1 for layer in self.layers}
        state = fit_names(checkpoint, expected, f"mapping of {type(self).__name__}")
        layers = [(state[f"{layer}.weight"].float(), state[f"{layer}.bias"].float()) for layer in self.layers]
        inputs = [weight.shape[1] for weight, _ in layers]
        outputs = [len(weight) for weight, _ in layers]
        if inputs[1:] != outputs[:-1] or outputs != [len(bias) for _, bias in layers]:
            shapes = ", ".join(
                f"{layer} {tuple(weight.shape)}" for layer, (weight, _) in zip(self.layers, layers, strict=True)
            )
            raise CondsimError(f"checkpoint {checkpoint.path}: the sizes of its layers contradict each other: {shapes}")
        if inputs[0] != width:
            raise CondsimError(
                f"checkpoint {checkpoint.path} is for features of width {inputs[0]}, this backbone's have width "
                f"{width}: choose the backbone that it was trained on"
            )
        return layers


def texts_of(gallery: Gallery) -> tuple[tuple[str, ...], ...]:
    """For each condition its texts, one or more."""
    return gallery.texts or tuple((condition_text(condition),) for condition in gallery.conditions)


def perceptron(layers: Layers, activation: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Linear layers [B, in] -> [B, out] with ``activation`` between them."""
    for weight, bias in layers[:-1]:
        x = activation(x @ weight.T + bias)
    weight, bias = layers[-1]
    return x @ weight.T + bias
