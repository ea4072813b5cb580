"""InDiReCT (Kobs et al., WACV 2023): a linear map fitted to a condition's texts, without images and labels."""

from __future__ import annotations

import zlib

import torch

from condsim.harness.method import Gallery, Method, Scorer
from condsim.harness.one_vector import unit
from condsim.harness.process.tensors import Tensor
from condsim.harness.task import Condition, Task, condition_text
from condsim.methods.phrases.lexicon import phrase_source
from condsim.methods.phrases.source import Phrases, check_conditions
from condsim.methods.shared.checks import above_zero, at_least, has_slot
from condsim.methods.shared.conditional_map import ConditionalMap
from condsim.methods.shared.one_thread import one_thread


def reconstruction_angle(texts: Tensor, projection: Tensor) -> Tensor:
    """Mean angle in radians between unit ``texts`` [n, D] and unit(unit(x U^T) U), U = ``projection`` [k, D].

    The angle is taken as 2 arcsin(|x - y| / 2), which has a gradient where arccos(x . y) has none.
    """
    rebuilt = unit(unit(texts @ projection.T) @ projection)
    half = (texts - rebuilt).square().sum(dim=1).clamp(min=1e-14).sqrt() / 2
    return 2 * torch.asin(half.clamp(max=1.0)).mean()


@one_thread()
def fitted_projection(
    texts: Tensor, components: int, *, rate: float = 0.01, patience: int = 100, steps: int = 10_000, seed: int = 0
) -> Tensor:
    """U [components, D] with the smallest ``reconstruction_angle`` of ``texts`` [n, D] that Adam came to.

    Starts from N(0, 0.1); stops after ``patience`` steps without a smaller loss, or after ``steps``.
    """
    generator = torch.Generator().manual_seed(seed)
    texts = unit(texts.float().cpu())
    projection = 0.1 * torch.randn(components, texts.shape[1], generator=generator)
    first, second = torch.zeros_like(projection), torch.zeros_like(projection)
    best, best_loss, best_step = projection.clone(), torch.inf, 0
    for step in range(steps):
        with torch.enable_grad():
            variable = projection.clone().requires_grad_()
            loss = reconstruction_angle(texts, variable)
            (gradient,) = torch.autograd.grad(loss, variable)
        if (value := float(loss.detach())) < best_loss:
            best, best_loss, best_step = projection.clone(), value, step
        elif step - best_step >= patience:
            break
        # Adam by hand: torch's takes seconds to import, and sets an environment variable.
        first.lerp_(gradient, 1 - 0.9)
        second.lerp_(gradient.square(), 1 - 0.999)
        scale = (second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
        projection -= rate * first / (1 - 0.9 ** (step + 1)) / scale
    return best


class Indirect(Method):
    """score = cos(U ref, U d), U fitted to the texts of the condition's values."""

    sharded = True

    def __init__(
        self,
        components: int = 128,
        template: str = "a photo of {}",
        rate: float = 0.01,
        patience: int = 100,
        seed: int = 0,
        phrases: Phrases | None = None,
    ) -> None:
        at_least(1, components=components, patience=patience)
        above_zero(rate=rate)
        has_slot(template=template)
        self.components = components
        self.template = template
        self.rate = rate
        self.patience = patience
        self.seed = seed
        self.phrases = phrase_source(phrases)

    def check(self, task: Task) -> None:
        super().check(task)
        check_conditions(self.phrases, task)

    def prepare(self, gallery: Gallery) -> Scorer:
        maps = [self._map(condition, gallery) for condition in gallery.conditions]

        def embed(condition: int, features: Tensor) -> Tensor:
            return unit(unit(features) @ maps[condition])

        return ConditionalMap(gallery.features, embed)

    def _map(self, condition: Condition, gallery: Gallery) -> Tensor:
        """U^T [D, k] for a condition; several texts share one map, fitted to all of their values. [ours]"""
        values = dict.fromkeys(value for text in condition for value in self.phrases.values(text))
        texts = gallery.encode_texts([self.template.format(value) for value in values])
        components = min(self.components, max(1, texts.shape[1] // 4))
        seed = zlib.crc32(f"{self.seed} {condition_text(condition)}".encode())
        fitted = fitted_projection(texts, components, rate=self.rate, patience=self.patience, seed=seed)
        return fitted.T.to(gallery.features)
