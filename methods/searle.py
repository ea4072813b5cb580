"""SEARLE (Baldrati et al., ICCV 2023) and LinCIR (Gu et al., CVPR 2024): one form of phi, trained in different ways."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import torch

from condsim.harness.errors import CondsimError
from condsim.harness.files.state_dict import read_state_dict, write_state_dict
from condsim.harness.one_vector import unit
from condsim.harness.process.tensors import Tensor, nn
from condsim.methods.phrases.lexicon import phrase_source
from condsim.methods.phrases.source import Phrases
from condsim.methods.shared.checks import above_zero, at_least
from condsim.methods.shared.concepts import Concepts, read_phrases
from condsim.methods.shared.inversion import Inversion
from condsim.methods.shared.keywords import Masked
from condsim.methods.shared.pseudo_words import PseudoWords
from condsim.methods.shared.word_list import word_list
from condsim.methods.training.losses import distillation_loss
from condsim.methods.training.method import Batch, Objective, TrainingData

_PROMPT = "a photo of $ that {}"


class _Phi(PseudoWords):
    """query = text("a photo of $ that {}") with the word phi(ref): two layers with GELU and a linear one."""

    layers = ("layers.0", "layers.3", "layers.6")
    wrappers = ("Phi",)

    def phi(self, width: int, hidden: int | None, word_width: int) -> nn.Module:
        from condsim.methods.shared.word_networks import Phi

        return Phi(width, hidden or 4 * width, word_width, self.dropout)


class Searle(_Phi):
    """query = text("a photo of $ that {}") with the word phi(ref): two layers with GELU and a linear one.

    Trained on images alone. ``inversion`` finds a word vector for every image; then phi learns these vectors: the loss
    is lambda_distil L_distil + lambda_gpt L_gpt, with L_distil the contrastive loss between the vectors of phi and of
    the inversion (``distillation_loss``), and L_gpt = 1 - cos(text(phrase), text(phrase with phi(image) in place of its
    concept)) for a random phrase of one of the image's concepts.
    """

    trains_on = ()
    before_training = "the inversion of every image"
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
        lambda_distil: float = 1.0,
        lambda_gpt: float = 0.25,
        temperature: float = 0.25,
        concepts: str = "category",
        gpt_phrases: str | None = None,
        inversion: Inversion | None = None,
        phrases: Phrases | None = None,
    ) -> None:
        super().__init__(checkpoint, prompt, hidden, word_width, dropout)
        above_zero(temperature=temperature, lambda_distil=lambda_distil)
        at_least(0, lambda_gpt=lambda_gpt)
        self.lambda_distil, self.lambda_gpt, self.temperature = lambda_distil, lambda_gpt, temperature
        self.concepts, self.gpt_phrases = concepts, gpt_phrases
        self.inversion = inversion or Inversion()
        self.phrases = phrase_source(phrases)

    def objective(self, data: TrainingData) -> Objective:
        encode_words, encode_texts = self.encode_words(data), data.encode_texts
        assert encode_texts is not None
        concepts = self._concepts(data, encode_texts)
        nearest = concepts.nearest(data.images, self.inversion.top_k)
        inverted: list[Tensor] = []

        def loss(network: nn.Module, batch: Batch) -> Tensor:
            if not inverted:
                inverted.append(self._inverted(data, self.settings_of(network)["word_width"], concepts))
            made = self.words(network, batch.target)
            taught = inverted[0][batch.target_row]
            total = self.lambda_distil * distillation_loss(taught, made, batch.target_row, self.temperature)
            if self.lambda_gpt:
                phrases, masked = zip(*concepts.draw(nearest[batch.target_row]), strict=True)
                cos = torch.cosine_similarity(encode_words(masked, made), encode_texts(phrases).to(made))
                total = total + self.lambda_gpt * (1 - cos).mean()
            return total

        return loss

    def _concepts(self, data: TrainingData, encode_texts: Callable[[Sequence[str]], Tensor]) -> Concepts:
        names = word_list(
            self.concepts,
            self.phrases,
            "method.concepts",
            "OpenImages V7's class names (CC BY 4.0), as data/oidv7-class-descriptions.csv with the code of "
            "github.com/miccunifi/SEARLE",
        )
        texts = read_phrases(self.gpt_phrases, "method.gpt_phrases") if self.gpt_phrases else data.texts
        return Concepts(names, texts, self.inversion.templates, encode_texts)

    def _inverted(self, data: TrainingData, width: int, concepts: Concepts) -> Tensor:
        """[M, width]; of a trial random vectors."""
        keep = data.keep
        if keep is None:
            return torch.randn(len(data.images), width, device=data.images.device)
        assert data.encode_words is not None
        assert data.encode_texts is not None
        done: list[Tensor] = []
        if keep.is_file():
            with suppress(CondsimError):  # damaged: the inversion starts again
                whole = read_state_dict(keep).state["words"].to(data.images.device)
                done = list(torch.split(whole, self.inversion.batch_size))

        def save(batches: list[Tensor]) -> None:
            write_state_dict(keep, {"words": torch.cat(batches)}, {})

        return self.inversion(data.images, width, concepts, data.encode_words, data.encode_texts, done, save)


class LinCIR(_Phi):
    """As ``Searle``, with a phi that is trained on texts alone.

    Trained so that a caption t with the word phi(t + noise) in place of its keywords keeps its feature: the mean
    squared error of both features; noise = scale u n, u uniform in [0, 1) per caption, n normal.
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
