"""Optimisation-based textual inversion (SEARLE, Baldrati et al., ICCV 2023): one word vector per image, by gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from condsim.harness.errors import CondsimError
from condsim.harness.process.tensors import Tensor
from condsim.harness.terminal.progress import track
from condsim.methods.shared.checks import above_zero, at_least
from condsim.methods.shared.concepts import MARK, Concepts
from condsim.methods.training.method import EncodeWords

_KINDS, _VIEWS = ("photo", "illustration", "sketch", "diagram"), ("photo", "image", "illustration")
TEMPLATES = (
    *(f"{'An' if kind[0] == 'i' else 'A'} {kind} of a $" for kind in _KINDS),
    *(f"This is {'an' if kind[0] == 'i' else 'a'} {kind} of a $" for kind in _KINDS),
    *(f"This {kind} contains a $" for kind in _KINDS),
    *("$", "A $", "We see a $"),
    *(f"{frame} {view}" for frame in ("$", "We see a $", "We see a $ in this") for view in _VIEWS),
)
"""The 24 templates of PALAVRA, which SEARLE's released code has too."""
INITIAL_DEVIATION = 0.02
"""Of the normal distribution from which a word vector starts; the deviation of CLIP's own word vectors."""


class Inversion:
    """Images -> word vectors v that minimise (lambda_cos L_cos + lambda_gpt L_gpt) / (lambda_cos + lambda_gpt).

    L_cos = 1 - cos(image, text(template with v)) for a random template. L_gpt = 1 - cos(text(phrase), text(phrase with
    v in place of its concept)) for a random phrase of one of the image's ``top_k`` concepts. AdamW moves v; the result
    is the exponential moving average of v over the steps, from the first value on. SEARLE, section 3.1; defaults of its
    released code.
    """

    def __init__(
        self,
        steps: int = 350,
        learning_rate: float = 0.02,
        weight_decay: float = 0.01,
        lambda_cos: float = 1.0,
        lambda_gpt: float = 0.5,
        ema_decay: float = 0.99,
        top_k: int = 15,
        batch_size: int = 32,
        templates: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        at_least(1, **{"inversion.steps": steps, "inversion.top_k": top_k, "inversion.batch_size": batch_size})
        at_least(0, **{"inversion.lambda_gpt": lambda_gpt, "inversion.weight_decay": weight_decay})
        above_zero(**{"inversion.lambda_cos": lambda_cos, "inversion.learning_rate": learning_rate})
        if not 0 <= ema_decay < 1:
            raise CondsimError(f"method.inversion.ema_decay must be in [0, 1), not {ema_decay}")
        self.templates = TEMPLATES if templates is None else tuple(templates)
        if not self.templates or not all(MARK in template for template in self.templates):
            raise CondsimError(f"method.inversion.templates must be texts with {MARK}, not {list(self.templates)}")
        self.steps, self.learning_rate, self.weight_decay = steps, learning_rate, weight_decay
        self.lambda_cos, self.lambda_gpt, self.ema_decay = lambda_cos, lambda_gpt, ema_decay
        self.top_k, self.batch_size, self.seed = top_k, batch_size, seed

    def __call__(
        self,
        images: Tensor,
        width: int,
        concepts: Concepts,
        encode_words: EncodeWords,
        encode_texts: Callable[[Sequence[str]], Tensor],
        done: Sequence[Tensor] = (),
        on_batch: Callable[[list[Tensor]], None] = lambda batches: None,
    ) -> Tensor:
        """Raw image features [M, D] -> word vectors [M, ``width``].

        A batch depends on the seed and its number alone: an interrupted inversion ends in the same vectors.

        Args:
            done: vectors of the first batches, from an interrupted inversion.
            on_batch: receives the vectors of all batches so far, after each.
        """
        batches = list(done)
        with track(len(images), "inverting images") as advance:
            advance(sum(map(len, batches)))
            for number, part in enumerate(torch.split(images, self.batch_size)):
                if number < len(batches):
                    continue
                batches.append(self._invert(part, number, width, concepts, encode_words, encode_texts))
                on_batch(batches)
                advance(len(part))
        return torch.cat(batches)

    def _invert(
        self,
        images: Tensor,
        number: int,
        width: int,
        concepts: Concepts,
        encode_words: EncodeWords,
        encode_texts: Callable[[Sequence[str]], Tensor],
    ) -> Tensor:
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        nearest = concepts.nearest(images, self.top_k)
        start = INITIAL_DEVIATION * torch.randn(len(images), width, generator=draw)
        vectors = torch.nn.Parameter(start.to(images))
        average = vectors.detach().clone()
        optimizer = torch.optim.AdamW([vectors], lr=self.learning_rate, weight_decay=self.weight_decay)
        for _ in range(self.steps):
            chosen = torch.randint(len(self.templates), (len(images),), generator=draw).tolist()
            cos = torch.cosine_similarity(encode_words([self.templates[i] for i in chosen], vectors), images)
            loss = self.lambda_cos * (1 - cos).mean()
            if self.lambda_gpt:
                phrases, masked = zip(*concepts.draw(nearest, draw), strict=True)
                gpt = torch.cosine_similarity(encode_words(masked, vectors), encode_texts(phrases).to(images))
                loss = loss + self.lambda_gpt * (1 - gpt).mean()
            optimizer.zero_grad()
            (loss / (self.lambda_cos + self.lambda_gpt)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            average = self.ema_decay * average + (1 - self.ema_decay) * vectors.detach()
        return average
