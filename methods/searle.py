"""SEARLE (Baldrati et al., ICCV 2023) and LinCIR (Gu et al., CVPR 2024): one form of phi, trained in different ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from condsim.harness.errors import CondsimError
from condsim.harness.one_vector import unit
from condsim.methods.shared.checks import at_least
from condsim.methods.shared.keywords import Masked
from condsim.methods.shared.pseudo_words import PseudoWords
from condsim.methods.training.method import Batch, Objective, TrainingData

if TYPE_CHECKING:  # torch is imported when it is used: harness/deferred.py
    from torch import Tensor, nn

_PROMPT = "a photo of $ that {}"


class Searle(PseudoWords):
    """query = text("a photo of $ that {}") with the word phi(ref): two layers with GELU and a linear one.

    Args:
        checkpoint: a released ``SEARLE_ViT-B32.pt`` or ``SEARLE_ViT-L14.pt`` (network under ``Phi``), or phi alone.
        prompt: the text, with "$" for the word.
        hidden, word_width: sizes of phi. None: as in the checkpoint.
        dropout: in training.
    """

    layers = ("layers.0", "layers.3", "layers.6")
    wrappers = ("Phi",)
    source = (
        "from github.com/miccunifi/SEARLE (release weights) SEARLE_ViT-B32.pt for backbone=ViT-B-32/openai or "
        "SEARLE_ViT-L14.pt for backbone=ViT-L-14/openai"
    )

    def __init__(
        self,
        checkpoint: str | None = None,
        prompt: str = _PROMPT,
        hidden: int | None = None,
        word_width: int | None = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(checkpoint, prompt, hidden, word_width, dropout)

    def phi(self, width: int, hidden: int | None, word_width: int) -> nn.Module:
        from condsim.methods.shared.word_networks import Phi

        return Phi(width, hidden or 4 * width, word_width, self.dropout)

    def objective(self, data: TrainingData) -> Objective:
        raise CondsimError(
            "SEARLE's training (optimisation-based inversion of every image, then distillation) is not built here: "
            "train method=lincir, which has the same phi, or use released weights"
        )


class LinCIR(Searle):
    """As ``Searle``, with weights that were trained on texts alone.

    Trained so that a caption t with the word phi(t + noise) in place of its keywords keeps its feature: the mean
    squared error of both features; noise = scale u n, u uniform in [0, 1) per caption, n normal.

    Args:
        checkpoint: released weights of LinCIR (network under ``Phi``), or phi alone.
        prompt: the text, with "$" for the word.
        normalize: phi gets the unit feature, as with the released code's ``--l2_normalize``.
        hidden, word_width: sizes of phi. None: as in the checkpoint; 4 D and D in training, D the features' width.
        dropout: in training.
        noise: its scale, 1 in the released code, where features of CLIP are longer than those of other backbones.
    """

    trains_on = ("text",)
    source = (
        "weights of github.com/navervision/lincir: phi for ViT-L-14/openai, ViT-H-14/laion2b_s32b_b79k or "
        "ViT-bigG-14/laion2b_s39b_b160k"
    )

    def __init__(
        self,
        checkpoint: str | None = None,
        prompt: str = _PROMPT,
        normalize: bool = False,
        hidden: int | None = None,
        word_width: int | None = None,
        dropout: float = 0.5,
        noise: float = 1.0,
    ) -> None:
        super().__init__(checkpoint, prompt, hidden, word_width, dropout)
        at_least(0, noise=noise)
        self.normalize, self.noise = normalize, noise

    def words(self, network: nn.Module, reference: Tensor) -> Tensor:
        return super().words(network, unit(reference) if self.normalize else reference)

    def objective(self, data: TrainingData) -> Objective:
        encode, masked = self.encode_words(data), Masked()

        def loss(network: nn.Module, batch: Batch) -> Tensor:
            assert batch.text_row is not None
            texts = masked([data.texts[row] for row in batch.text_row.tolist()])
            size = torch.rand(len(batch.text), 1, device=batch.text.device)
            noisy = batch.text + self.noise * size * torch.randn_like(batch.text)
            return torch.nn.functional.mse_loss(encode(texts, self.words(network, noisy)), batch.text)

        return loss
