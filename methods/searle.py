"""SEARLE (Baldrati et al., ICCV 2023) and LinCIR (Gu et al., CVPR 2024): one form of phi, trained in different ways."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import gelu

from condsim.harness.one_vector import unit
from condsim.methods.shared.pseudo_words import Layers, PseudoWords, perceptron

_PROMPT = "a photo of $ that {}"


class Searle(PseudoWords):
    """query = text("a photo of $ that {}") with the word phi(ref): two layers with GELU and a linear one.

    Args:
        checkpoint: a released ``SEARLE_ViT-B32.pt`` or ``SEARLE_ViT-L14.pt`` (network under ``Phi``), or phi alone.
        prompt: the text, with "$" for the word.
    """

    layers = ("layers.0", "layers.3", "layers.6")
    wrappers = ("Phi",)
    source = (
        "from github.com/miccunifi/SEARLE (release weights) SEARLE_ViT-B32.pt for backbone=ViT-B-32/openai or "
        "SEARLE_ViT-L14.pt for backbone=ViT-L-14/openai"
    )

    def __init__(self, checkpoint: str | None = None, prompt: str = _PROMPT) -> None:
        super().__init__(checkpoint, prompt)

    def words(self, layers: Layers, reference: Tensor) -> Tensor:
        return perceptron(layers, gelu, reference)


class LinCIR(Searle):
    """As ``Searle``, with weights that were trained on texts alone.

    Args:
        checkpoint: released weights of LinCIR (network under ``Phi``), or phi alone.
        prompt: the text, with "$" for the word.
        normalize: phi gets the unit feature, as with the released code's ``--l2_normalize``.
    """

    source = (
        "weights of github.com/navervision/lincir: phi for ViT-L-14/openai, ViT-H-14/laion2b_s32b_b79k or "
        "ViT-bigG-14/laion2b_s39b_b160k"
    )

    def __init__(self, checkpoint: str | None = None, prompt: str = _PROMPT, normalize: bool = False) -> None:
        super().__init__(checkpoint, prompt)
        self.normalize = normalize

    def words(self, layers: Layers, reference: Tensor) -> Tensor:
        return super().words(layers, unit(reference) if self.normalize else reference)
