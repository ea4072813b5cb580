"""Methods that turn the reference image into a word and put it into a text with the condition."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch

from condsim.harness.errors import CondsimError, NotApplicable
from condsim.harness.files.state_dict import Checkpoint
from condsim.harness.method import Gallery, Queries, Scorer
from condsim.harness.one_vector import InnerProduct, unit
from condsim.harness.process.tensors import Tensor, nn
from condsim.harness.task import condition_text
from condsim.methods.shared.checks import at_least
from condsim.methods.training.checkpoints import fit_names, load_weights
from condsim.methods.training.method import EncodeWords, TrainedMethod, TrainingData

MARK, CONDITION = "$", "{}"


class PseudoWords(TrainedMethod):
    """query = unit(text(prompt with the word phi(ref))); score = query . unit(d), phi a small network on raw features.

    A task with several texts for a condition (FashionIQ: both orders of its captions) has the mean of their unit
    features. Subclasses say what phi is.
    """

    needs_text = False
    sharded = True

    layers: ClassVar[tuple[str, ...]]
    """Names of phi's linear layers in the released weights, in order."""

    def __init__(
        self, checkpoint: str | None, prompt: str, hidden: int | None, word_width: int | None, dropout: float
    ) -> None:
        super().__init__(checkpoint, hidden=hidden, word_width=word_width)
        if MARK not in prompt or CONDITION not in prompt:
            raise CondsimError(f"method.prompt={prompt!r} needs $ for the image's word and {{}} for the condition")
        at_least(1, hidden=hidden, word_width=word_width)
        if not 0 <= dropout < 1:
            raise CondsimError(f"method.dropout must be in [0, 1), not {dropout}")
        self.prompt, self.dropout = prompt, dropout

    @abstractmethod
    def phi(self, width: int, hidden: int | None, word_width: int) -> nn.Module:
        """An untrained phi whose linear layers have the names ``layers``; ``hidden`` None: the published size."""

    def words(self, network: nn.Module, reference: Tensor) -> Tensor:
        """Raw image features [B, D] -> word vectors [B, E]."""
        vectors: Tensor = network(reference)
        return vectors

    def new_network(self, width: int) -> nn.Module:
        return self.phi(width, self.architecture["hidden"], self.architecture["word_width"] or width)

    def load_network(self, checkpoint: Checkpoint) -> tuple[nn.Module, int, Mapping[str, Any]]:
        """Sizes are read off the shapes."""
        expected = {f"{layer}.weight": 2 for layer in self.layers} | {f"{layer}.bias": 1 for layer in self.layers}
        state = fit_names(checkpoint, expected, f"mapping of {type(self).__name__}")
        shapes = [tuple(state[f"{layer}.weight"].shape) for layer in self.layers]
        network = self.phi(shapes[0][1], shapes[0][0], shapes[-1][0])
        load_weights(network, state, checkpoint, "the sizes of its layers contradict each other")
        return network, shapes[0][1], self.settings_of(network)

    def settings_of(self, network: nn.Module) -> Mapping[str, Any]:
        first, last = (network.get_submodule(self.layers[place]) for place in (0, -1))
        return {"hidden": first.out_features, "word_width": last.out_features}

    def trained_network(self, width: int) -> nn.Module:
        if self.checkpoint is None:
            raise CondsimError(f"the method has no weights of its own: set method.checkpoint=FILE, {self.source}")
        return super().trained_network(width)

    def prepare(self, gallery: Gallery) -> Scorer:
        self._encoder(gallery)  # says what the backbone lacks before any weights are read
        return super().prepare(gallery)

    def score_with(self, network: nn.Module, gallery: Gallery) -> Scorer:
        encode, device = self._encoder(gallery), gallery.features.device
        width = self.settings_of(network)["word_width"]
        encode([], torch.zeros(0, width, device=device))  # refuses another width of words before any work
        prompts = [[self._prompt(text) for text in texts] for texts in texts_of(gallery)]
        embed = partial(self._embed, network, prompts, encode)
        return InnerProduct(unit(gallery.features), embed)

    def encode_words(self, data: TrainingData) -> EncodeWords:
        """The text tower for training. Raises CondsimError where the backbone has none that takes vectors."""
        if data.encode_words is None:
            raise CondsimError(
                "the method is trained through the text tower, which this backbone does not offer "
                "(condsim.harness.trainable.Trainable): choose one of open_clip's models"
            )
        if not len(data.images):
            raise CondsimError("the method is trained with a frozen backbone: set training.backbone=false")
        return data.encode_words

    def _encoder(self, gallery: Gallery) -> EncodeWords:
        if gallery.encode_texts_with is None:
            raise NotApplicable(
                "the method makes a word of the image, and this backbone cannot encode a text with such a "
                "word (condsim.harness.backbone.EncodesPseudoWords): choose one of open_clip's models"
            )
        return gallery.encode_texts_with

    def _embed(
        self, network: nn.Module, prompts: Sequence[Sequence[str]], encode: EncodeWords, queries: Queries
    ) -> Tensor:
        """[B, D]"""
        own = [prompts[condition] for condition in queries.condition.tolist()]
        query = torch.tensor(
            [row for row, texts in enumerate(own) for _ in texts], dtype=torch.long, device=queries.reference.device
        )
        with torch.no_grad():
            vectors = self.words(network, queries.reference)
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


def texts_of(gallery: Gallery) -> tuple[tuple[str, ...], ...]:
    """For each condition its texts, one or more."""
    return gallery.texts or tuple((condition_text(condition),) for condition in gallery.conditions)
