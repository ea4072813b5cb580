"""Product, slerp and WeiCom: other ways than a sum to join the image's and the text's similarity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from condsim.harness.method import Gallery, Method, Queries, Scorer, TwoSided
from condsim.harness.one_vector import OneVector, inner_products, named_numbers, unit
from condsim.harness.process.tensors import Tensor
from condsim.methods.shared.checks import share

NEARLY_PARALLEL = 0.9995
"""Above this absolute cosine slerp falls back to linear interpolation (released code of Slerp)."""


class Product(Method):
    """score = max(ref . d, 0) max(text . d, 0) on unit features (baseline of i-CIR and FreeDom)."""

    reads_conditions = False
    sharded = True

    def __init__(self, clamp: bool = True) -> None:
        self.clamp = clamp

    def prepare(self, gallery: Gallery) -> Scorer:
        return ProductScorer(unit(gallery.features), self.clamp)


@dataclass(frozen=True)
class ProductScorer(TwoSided):
    """The product prepared for a gallery of unit ``items`` [N, D]."""

    items: Tensor
    clamp: bool
    concurrent = True

    def query_side(self, queries: Queries) -> tuple[Tensor, Tensor]:
        return unit(queries.reference), unit(queries.text)

    def score(self, side: tuple[Tensor, Tensor], rows: Tensor | None = None) -> Tensor:
        image, text = self._factors(side, rows)
        return image * text

    def why(self, queries: Queries, rows: Tensor) -> list[list[str]]:
        """The two factors of the score."""
        image, text = self._factors(self.query_side(queries), rows)
        return named_numbers({"image": image, "text": text}, rows)

    def _factors(self, side: tuple[Tensor, Tensor], rows: Tensor | None) -> tuple[Tensor, Tensor]:
        image, text = (inner_products(query, self.items, rows) for query in side)
        return (image.clamp(min=0), text.clamp(min=0)) if self.clamp else (image, text)


def slerp(start: Tensor, end: Tensor, share: float) -> Tensor:
    """Unit vectors [B, D] a ``share`` of the way along the great circle from unit ``start`` to unit ``end`` [B, D].

    sin((1 - t) theta) / sin theta start + sin(t theta) / sin theta end, theta = arccos(start . end); the normalised
    linear interpolation where |start . end| > 0.9995. Opposite vectors at ``share`` 0.5 give 0: many great circles join
    them.
    """
    cosine = (start * end).sum(dim=-1, keepdim=True)
    parallel = cosine.abs() > NEARLY_PARALLEL
    theta = torch.acos(cosine.masked_fill(parallel, 0.0))
    along = torch.sin((1 - share) * theta) * start + torch.sin(share * theta) * end
    return unit(torch.where(parallel, torch.lerp(start, end, share), along / torch.sin(theta)))


class Slerp(OneVector):
    """query = slerp(unit(text), unit(ref), weight), spherical linear interpolation (Jang et al.)."""

    def __init__(self, weight: float = 0.5) -> None:
        share(weight=weight)
        self.weight = weight

    def embed(self, queries: Queries) -> Tensor:
        return slerp(unit(queries.text), unit(queries.reference), self.weight)

    def parts(self, queries: Queries) -> Mapping[str, Tensor]:
        image, text = unit(queries.reference), unit(queries.text)
        query = slerp(text, image, self.weight)
        # The query is in the plane of both, so two inner products give its coordinates.
        cosine = (image * text).sum(dim=-1, keepdim=True)
        along = [(query * side).sum(dim=-1, keepdim=True) for side in (image, text)]
        squared = 1 - cosine.square()
        apart = squared > 1e-6  # else both are one direction, and the weights say which is which
        shares = [(own - cosine * other) / squared for own, other in (along, along[::-1])]
        of_image, of_text = (
            torch.where(apart, share, weight)
            for share, weight in zip(shares, (self.weight, 1 - self.weight), strict=True)
        )
        return {"image": of_image * image, "text": of_text * text}


class WeiCom(Method):
    """score = weight Phi(z(ref . d)) + (1 - weight) Phi(z(text . d)) (Psomas et al., IGARSS 2024).

    z is the similarity minus its mean over the gallery, divided by its unbiased standard deviation; Phi is the normal
    distribution function.
    """

    reads_conditions = False

    def __init__(self, weight: float = 0.5) -> None:
        share(weight=weight)
        self.weight = weight

    def prepare(self, gallery: Gallery) -> Scorer:
        return WeiComScorer(unit(gallery.features), self.weight)


class WeiComScorer(TwoSided):
    """WeiCom prepared for a gallery of unit ``items`` [N, D].

    The mean of q . d over the gallery is q . m and its variance q^T S q, with m and S the gallery's mean and unbiased
    covariance: a query needs no pass over the gallery. Scores are WeiCom's less 1, as minus the upper tails: near 1,
    float32 would tie the best of a large gallery.
    """

    concurrent = True

    def __init__(self, items: Tensor, weight: float) -> None:
        self.items = items
        self.weight = weight
        self.mean, self.covariance = moments(items)

    def query_side(self, queries: Queries) -> tuple[Tensor, Tensor]:
        return unit(queries.reference), unit(queries.text)

    def score(self, side: tuple[Tensor, Tensor], rows: Tensor | None = None) -> Tensor:
        tails = [self._tail(query, rows) for query in side]
        return -(self.weight * tails[0] + (1 - self.weight) * tails[1])

    def why(self, queries: Queries, rows: Tensor) -> list[list[str]]:
        """The weighted Phi of both sides: their sum is WeiCom's score."""
        sides = {"image": (queries.reference, self.weight), "text": (queries.text, 1 - self.weight)}
        phis = {name: weight * (1 - self._tail(unit(side), rows)) for name, (side, weight) in sides.items()}
        return named_numbers(phis, rows)

    def _tail(self, query: Tensor, rows: Tensor | None) -> Tensor:
        """1 - Phi(z), [B, N or C]."""
        exact = query.double()
        mean = exact @ self.mean
        deviation = ((exact @ self.covariance) * exact).sum(dim=1).clamp(min=0).sqrt()
        # A gallery of one, or one that is all alike: z is 0.
        scale = torch.where(deviation > 1e-7, 1 / deviation, 0.0)
        z = inner_products(query, self.items, rows).sub_(mean.to(query)[:, None]).mul_(scale.to(query)[:, None])
        return torch.erfc(z.mul_(0.5**0.5)).mul_(0.5)


def moments(items: Tensor, rows_at_once: int = 4096) -> tuple[Tensor, Tensor]:
    """float64 mean [D] and unbiased covariance [D, D] of the rows of ``items`` [N, D]; zeros for a single row."""
    width = items.shape[1]
    mean = torch.zeros(width, dtype=torch.float64, device=items.device)
    for part in torch.split(items, rows_at_once):
        mean += part.double().sum(dim=0)
    mean /= len(items)
    scatter = torch.zeros(width, width, dtype=torch.float64, device=items.device)
    for part in torch.split(items, rows_at_once):
        apart = part.double() - mean
        scatter += apart.T @ apart
    return mean, scatter / max(1, len(items) - 1)
