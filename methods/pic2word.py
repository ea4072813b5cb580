"""Pic2Word (Saito et al., CVPR 2023): the reference image becomes one word of a text."""

from __future__ import annotations

from condsim.harness.one_vector import unit
from condsim.harness.process.tensors import Tensor, nn
from condsim.methods.shared.checks import above_zero
from condsim.methods.shared.pseudo_words import PseudoWords
from condsim.methods.training.losses import in_batch_loss
from condsim.methods.training.method import Batch, Objective, TrainingData

HIDDEN = 512
"""Width of the released network."""
TRAINING_PROMPT = "a photo of $"


class Pic2Word(PseudoWords):
    """query = text("a photo of $ , {}") with the word phi(ref): two layers with ReLU and a linear one.

    Trained on images alone: unit(text("a photo of $")) has to find the image of its word among the images of the batch,
    and the image its text (the mean of both cross-entropies).
    """

    layers = ("layers.0.0", "layers.1.0", "fc_out")
    wrappers = ("state_dict_img2text",)
    trains_on = ()
    source = (
        "the weights that github.com/google-research/composed_image_retrieval links to, for backbone=ViT-L-14/openai"
    )

    def __init__(
        self,
        checkpoint: str | None = None,
        prompt: str = "a photo of $ , {}",
        hidden: int | None = None,
        word_width: int | None = None,
        dropout: float = 0.1,
        temperature: float = 0.01,
    ) -> None:
        super().__init__(checkpoint, prompt, hidden, word_width, dropout)
        above_zero(temperature=temperature)
        self.temperature = temperature

    def phi(self, width: int, hidden: int | None, word_width: int) -> nn.Module:
        from condsim.methods.shared.word_networks import Im2Text

        return Im2Text(width, hidden or HIDDEN, word_width, self.dropout)

    def objective(self, data: TrainingData) -> Objective:
        encode = self.encode_words(data)

        def loss(network: nn.Module, batch: Batch) -> Tensor:
            texts = unit(encode([TRAINING_PROMPT] * len(batch.target), self.words(network, batch.target)))
            scores = texts @ unit(batch.target).T
            both = (in_batch_loss(side, batch.target_row, self.temperature) for side in (scores, scores.T))
            return sum(both, scores.new_zeros(())) / 2

        return loss
