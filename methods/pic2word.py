"""Pic2Word (Saito et al., CVPR 2023): the reference image becomes one word of a text."""

from __future__ import annotations

import torch
from torch import Tensor

from condsim.methods.shared.pseudo_words import Layers, PseudoWords, perceptron


class Pic2Word(PseudoWords):
    """query = text("a photo of $ , {}") with the word phi(ref): two layers with ReLU and a linear one.

    Args:
        checkpoint: the released ``pic2word_model.pt`` (network under ``state_dict_img2text``), or the network alone.
        prompt: the text, with "$" for the word.
    """

    layers = ("layers.0.0", "layers.1.0", "fc_out")
    wrappers = ("state_dict_img2text",)
    source = (
        "the weights that github.com/google-research/composed_image_retrieval links to, for backbone=ViT-L-14/openai"
    )

    def __init__(self, checkpoint: str | None = None, prompt: str = "a photo of $ , {}") -> None:
        super().__init__(checkpoint, prompt)

    def words(self, layers: Layers, reference: Tensor) -> Tensor:
        return perceptron(layers, torch.relu, reference)
