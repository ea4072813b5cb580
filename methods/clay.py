"""CLAY (Lim et al., CVPR 2026): similarity within the subspace that a condition's texts span. Training-free."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import lru_cache

import torch

from condsim.harness.errors import CondsimError
from condsim.harness.files.memory_map import free_pages, gather, is_mapped
from condsim.harness.method import Gallery, Method, Queries, Scorer, TwoSided
from condsim.harness.one_vector import inner_products, taken, unit
from condsim.harness.process.tensors import Tensor
from condsim.harness.task import Condition, Task, condition_text
from condsim.methods.phrases.lexicon import phrase_source
from condsim.methods.phrases.source import Phrases, check_conditions
from condsim.methods.shared.checks import at_least, has_slot, one_of
from condsim.methods.shared.one_thread import one_thread
from condsim.methods.shared.sphere import direction_sum, log_map, log_map_features, mean_direction, rotate

SUBSPACES = ("text", "single", "random")
SEVERAL = ("stacked", "balanced", "qr_union", "mean")
_PROJECTED_AT_ONCE = 32768
"""Gallery items: their coordinates are still in the processor's cache when they are made unit vectors. They divide
``GRAIN``, as the blocks of the log map do."""
_PROJECTED_ON_GPU = 1 << 18
"""The same on a GPU, where the time of small blocks is that of their start."""


@dataclass(frozen=True)
class Subspace:
    """A linear subspace: a ``base`` point of the sphere [D] and an orthonormal ``basis`` [D, k].

    Where it comes from log-mapped points it is tangent to the sphere at ``base``.
    """

    base: Tensor
    basis: Tensor


def leading_directions(points: Tensor, rank: int) -> Tensor:
    """[D, k] the first k right singular vectors of ``points`` [n, D] float64, k = ``rank`` or the numerical rank if
    that is less: singular values as small as the rounding of unit float32 features do not count."""
    _, values, directions = torch.linalg.svd(points, full_matrices=False)
    noise = values[:1].clamp(min=1) * max(points.shape) * torch.finfo(torch.float32).eps
    leading: Tensor = directions[: min(rank, int((values > noise).sum()))]
    return leading.T


def text_subspace(
    texts: Tensor, rank: int, *, manifold: bool = True, centering: bool = False, weights: Tensor | None = None
) -> Subspace:
    """The subspace that text features [n, D] span (CLAY): SVD of log_mu(t_i) at their mean direction mu.

    Args:
        manifold: False takes the unit text features themselves instead of their log maps.
        centering: subtract the mean of the points before the SVD.
        weights: [n] the weight of each text in the means and in the SVD; None: equal.
    """
    texts = unit(texts.double())
    weights = torch.ones(len(texts), dtype=torch.float64) if weights is None else weights.double()
    weights = (weights / weights.mean())[:, None]
    base = unit((weights * texts).mean(dim=0))
    points = log_map(texts, base) if manifold else texts
    if centering:
        points = points - (weights * points).mean(dim=0)
    return Subspace(base, leading_directions(weights.sqrt() * points, rank))


def single_prompt_subspace(prompt: Tensor, base: Tensor, manifold: bool = True) -> Subspace:
    """The one direction from ``base`` [D] to a text feature [D]; without manifold that feature's own direction."""
    point = unit(prompt.double())[None]
    return Subspace(base, leading_directions(log_map(point, base) if manifold else point, 1))


def random_subspace(base: Tensor, rank: int, seed: int, manifold: bool = True) -> Subspace:
    """A uniformly random subspace of ``rank`` dimensions, tangent at ``base`` [D] if ``manifold``."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(len(base), rank, generator=generator, dtype=torch.float64)
    if manifold:
        points = points - base[:, None] * (base @ points)
    return Subspace(base, torch.linalg.qr(points)[0])


def union(bases: Sequence[Tensor]) -> Tensor:
    """[D, K] an orthonormal basis of the sum of the spans of ``bases`` [D, k_i], by QR without dependent columns."""
    q, r = torch.linalg.qr(torch.cat(tuple(bases), dim=1))
    basis: Tensor = q[:, r.diagonal().abs() > 1e-6]
    return basis


class Clay(Method):
    """csim(q, d) = cos(V^T log_c(R q), V^T log_c(R d)): see docs/methods.md.

    The gallery's mean direction is a sum of integers (``sphere.direction_sum``), the same for any division of the
    gallery.
    """

    protocol = 2  # 1: the mean direction was a sum of float64
    reads_mapped = True
    sharded = True

    def __init__(
        self,
        rank: int = 50,
        template: str = "a photo of {}",
        prompts: int | None = None,
        manifold: bool = True,
        rotation: bool = True,
        symmetric: bool = True,
        centering: bool = False,
        renormalize: bool = True,
        subspace: str = "text",
        several: str = "stacked",
        seed: int = 0,
        phrases: Phrases | None = None,
    ) -> None:
        at_least(1, rank=rank)
        has_slot(template=template)
        if prompts is not None and prompts < 2:
            raise CondsimError(
                f"method.prompts must be 2 or more, not {prompts}; for one prompt, method.subspace=single"
            )
        one_of(SUBSPACES, subspace=subspace)
        one_of(SEVERAL, several=several)
        self.rank = rank
        self.template = template
        self.prompts = prompts
        self.manifold = manifold
        self.rotation = rotation
        self.symmetric = symmetric
        self.centering = centering
        self.renormalize = renormalize
        self.subspace = subspace
        self.several = several
        self.seed = seed
        self.phrases = phrase_source(phrases)

    def check(self, task: Task) -> None:
        super().check(task)
        check_conditions(self.phrases, task)

    def statistics(self, gallery: Gallery) -> Mapping[str, Tensor]:
        return {"directions": direction_sum(gallery.features)}

    def prepare(self, gallery: Gallery) -> Scorer:
        return ClayScorer(self, gallery, self._texts(gallery))

    def with_conditions(self, scorer: Scorer, gallery: Gallery) -> Scorer:
        assert isinstance(scorer, ClayScorer)
        return scorer.with_conditions(gallery.conditions, self._texts(gallery))

    def _texts(self, gallery: Gallery) -> dict[str, Tensor]:
        """Condition text -> features [1 + n, D] of ``prompts_of`` it."""
        prompts = {text: self.prompts_of(text) for condition in gallery.conditions for text in condition}
        distinct = sorted({prompt for several in prompts.values() for prompt in several})
        features = dict(zip(distinct, gallery.encode_texts(distinct).cpu(), strict=True))
        return {text: torch.stack([features[prompt] for prompt in several]) for text, several in prompts.items()}

    def prompts_of(self, text: str) -> list[str]:
        """The prompt of the condition's own name, then those of its values."""
        return [self.template.format(value) for value in (text, *self.phrases.values(text)[: self.prompts])]

    def subspaces(self, condition: Condition, texts: dict[str, Tensor]) -> list[Subspace]:
        """The condition's subspaces on the side of the texts: one, or one per text where they are combined later.

        ``texts``: condition text -> features [1 + n, D] of ``prompts_of`` it.
        """
        if self.subspace == "text" and self.several in ("stacked", "balanced"):
            parts = [texts[text][1:] for text in condition]
            share = 1.0 if self.several == "stacked" else None
            weights = torch.cat([torch.full((len(part),), share or 1 / len(part)) for part in parts])
            return [self._text_subspace(torch.cat(parts), weights)]
        return [self._subspace_of(text, texts[text]) for text in condition]

    def _subspace_of(self, text: str, features: Tensor) -> Subspace:
        spanned = self._text_subspace(features[1:])
        if self.subspace == "single":
            return single_prompt_subspace(features[0], spanned.base, self.manifold)
        if self.subspace == "random":
            seed = zlib.crc32(f"{self.seed} {text}".encode())
            return random_subspace(spanned.base, spanned.basis.shape[1], seed, self.manifold)
        return spanned

    def _text_subspace(self, features: Tensor, weights: Tensor | None = None) -> Subspace:
        return text_subspace(features, self.rank, manifold=self.manifold, centering=self.centering, weights=weights)


class ClayScorer(TwoSided):
    """CLAY prepared for a gallery: gallery-wide work is done once, the work of a condition once per condition.

    R is parallel transport, so log_c(R x) = R log_v(x) with v the gallery's mean direction, and the gallery's log map
    holds for every condition: a condition is only the matrix R^T V. The log map is kept, unless the features are in a
    mapped file: then each condition computes it again, block by block, and only its coordinates [N, k] are in memory.
    """

    concurrent = True

    def __init__(self, method: Clay, gallery: Gallery, texts: dict[str, Tensor]) -> None:
        self.method = method
        self.features = gallery.features
        self.mean_image = mean_direction(method.totals(gallery)["directions"])
        self.points: Tensor | None = None
        self.lengths: Tensor | None = None
        self.mapped = is_mapped(gallery.features)
        if not self.mapped and (method.rotation or not method.manifold):
            self.points = self.map(gallery.features, self.mean_image)
            self.lengths = self.points.norm(dim=-1)
        self._set_conditions(gallery.conditions, texts)

    def with_conditions(self, conditions: tuple[Condition, ...], texts: dict[str, Tensor]) -> ClayScorer:
        """A scorer for other conditions that shares the work on the gallery."""
        other = copy(self)
        other._set_conditions(conditions, texts)
        return other

    def _set_conditions(self, conditions: tuple[Condition, ...], texts: dict[str, Tensor]) -> None:
        self.conditions = conditions
        self.texts = texts
        self.subspaces = lru_cache(maxsize=512)(one_thread()(self._subspaces))
        self.whole = lru_cache(maxsize=1)(self._whole)

    def query_side(self, queries: Queries) -> list[tuple[int, Tensor, list[Tensor]]]:
        """(condition, places [b] of its queries in the batch, their projections) of each condition of the batch."""
        side = []
        for condition in torch.unique(queries.condition).tolist():
            mine = (queries.condition == condition).nonzero()[:, 0]
            side.append((condition, mine, self.project_queries(condition, queries.reference[mine])))
        return side

    def score(self, side: list[tuple[int, Tensor, list[Tensor]]], rows: Tensor | None = None) -> Tensor:
        if len(side) == 1:
            ((condition, _, projections),) = side
            return self.similarity(condition, projections, rows)
        count = sum(len(mine) for _, mine, _ in side)
        shape = (count, len(self.features) if rows is None else rows.shape[-1])
        scores = torch.empty(shape, device=self.features.device)
        for condition, mine, projections in side:
            own = rows[mine] if rows is not None and rows.ndim == 2 else rows
            scores[mine] = self.similarity(condition, projections, own, alone=False)
        return scores

    def project_queries(self, condition: int, reference: Tensor) -> list[Tensor]:
        """Projections of b queries of one condition, from their features ``reference`` [b, D]; one per subspace."""
        projections = []
        for subspace in self.subspaces(condition):
            inside = self._coordinates(subspace, reference)
            # If only queries are projected: the projection as a vector of the whole space, V V^T y.
            projections.append(inside if self.method.symmetric else inside @ subspace.basis.T)
        return projections

    def _coordinates(self, subspace: Subspace, features: Tensor) -> Tensor:
        """[n, k] of raw ``features`` [n, D]."""
        points = self.map(features, subspace.base)
        out = points.new_empty(len(points), subspace.basis.shape[1])
        self.project(subspace, points, points.norm(dim=-1), out)
        return out

    def similarity(self, condition: int, projections: list[Tensor], rows: Tensor | None, alone: bool = True) -> Tensor:
        """[b, N or C] similarities for the ``projections`` of b queries of one condition, ``alone`` in its batch."""
        if rows is None:
            return _mean_products(projections, self.whole(condition))
        if rows.ndim == 1:
            return _mean_products(projections, self._items(condition, rows, alone))
        used, places = torch.unique(rows.clamp(min=0), return_inverse=True)
        return _mean_products(projections, [self.at(s, used) for s in self.subspaces(condition)], places)

    def _items(self, condition: int, rows: Tensor, alone: bool) -> list[Tensor]:
        """The vectors of the gallery items ``rows`` [C] that queries are multiplied with, one per subspace."""
        # One whole gallery is kept: chunks under several conditions in turn would compute it again and again. Without
        # projection it would be another N x D in memory.
        if not alone or (self.mapped and not self.method.symmetric):
            return [self.at(s, rows) for s in self.subspaces(condition)]
        return [taken(items, rows) for items in self.whole(condition)]

    def why(self, queries: Queries, rows: Tensor) -> list[list[str]]:
        """The two values of each condition text that an item is nearest to, and that of the query: "red 0.83, pink 0.41
        (query: red 0.90)". The numbers are cosines within the subspace of the text's own values."""
        if self.method.subspace != "text":  # values say nothing about the other subspaces
            return [[""] * rows.shape[1] for _ in rows]
        return [
            self._why(self.conditions[condition], queries.reference[i : i + 1], rows[i])
            for i, condition in enumerate(queries.condition.tolist())
        ]

    def _why(self, condition: Condition, reference: Tensor, rows: Tensor) -> list[str]:
        alone = self.with_conditions(tuple((text,) for text in condition), self.texts)
        parts = []
        for i, text in enumerate(condition):
            (subspace,) = alone.subspaces(i)
            values = self._coordinates_of_values(text, subspace)
            own = alone._coordinates(subspace, reference)
            items = alone._coordinates(subspace, gather(self.features, rows).float())
            (query,) = self._nearest_values(text, own, values, 1)
            named = f"{text}: " if len(condition) > 1 else ""
            parts.append([f"{named}{item} (query: {query})" for item in self._nearest_values(text, items, values, 2)])
        return ["; ".join(of_item) for of_item in zip(*parts, strict=True)]

    def _coordinates_of_values(self, text: str, subspace: Subspace) -> Tensor:
        """[n, k] unit coordinates of the text's values in its ``subspace`` on the side of the images."""
        values = unit(self.texts[text][1:].double())
        base = unit(values.mean(dim=0))
        points = log_map(values, base) if self.method.manifold else values
        if self.method.rotation:
            points = rotate(points, base, self.mean_image.cpu())
        return unit(points.to(subspace.basis) @ subspace.basis)

    def _nearest_values(self, text: str, coordinates: Tensor, values: Tensor, count: int) -> list[str]:
        names = self.method.phrases.values(text)[: self.method.prompts]
        best, places = (unit(coordinates) @ values.T).topk(count, dim=1)
        return [
            ", ".join(f"{names[place]} {cosine:.2f}" for place, cosine in zip(*nearest, strict=True))
            for nearest in zip(places.tolist(), best.tolist(), strict=True)
        ]

    def map(self, features: Tensor, base: Tensor) -> Tensor:
        """The vectors to project: the log map at ``base`` of raw features, or their unit vectors."""
        return log_map_features(features, base) if self.method.manifold else unit(features)

    def at(self, subspace: Subspace, rows: Tensor | None = None) -> Tensor:
        """What queries are multiplied with, [n, k or D], of the gallery items ``rows`` (None: all)."""
        count = len(self.features) if rows is None else len(rows)
        width = subspace.basis.shape[1] if self.method.symmetric else self.features.shape[1]
        out = torch.empty(count, width, device=self.features.device)
        step = _PROJECTED_AT_ONCE if out.device.type == "cpu" else _PROJECTED_ON_GPU
        for start in range(0, count, step):
            here = slice(start, start + step)
            points, lengths = self._points(subspace, here if rows is None else rows[here])
            self.project(subspace, points, lengths, out[here], self.method.symmetric)
        return out

    def _points(self, subspace: Subspace, which: slice | Tensor) -> tuple[Tensor, Tensor]:
        """The mapped gallery items, and their lengths."""
        if self.points is not None and self.lengths is not None:
            if isinstance(which, slice):
                return self.points[which], self.lengths[which]
            return taken(self.points, which), taken(self.lengths, which)
        features = self.features[which] if isinstance(which, slice) else gather(self.features, which)
        points = self.map(features.float(), subspace.base)  # without rotation the base is the condition's own
        free_pages(self.features)
        return points, points.norm(dim=-1)

    def project(self, subspace: Subspace, points: Tensor, lengths: Tensor, out: Tensor, projected: bool = True) -> None:
        """Coordinates of ``points`` [n, D] in the subspace (or the points as they are) into ``out`` [n, k or D], made
        unit vectors unless scores are inner products. A point outside the subspace, up to rounding, becomes 0 and so
        scores 0."""
        if not projected:
            out.copy_(unit(points) if self.method.renormalize else points)
            return
        torch.mm(points, subspace.basis, out=out)
        inside = out.norm(dim=-1)
        kept = inside > 1e-6 * lengths
        if self.method.renormalize:
            out /= inside.masked_fill(~kept, torch.inf)[:, None]
        else:
            out *= kept[:, None]

    def _whole(self, condition: int) -> list[Tensor]:
        return [self.at(s) for s in self.subspaces(condition)]

    def _subspaces(self, condition: int) -> list[Subspace]:
        """The condition's subspaces on the side of the images, float32 on their device: the bases R^T V."""
        method, device = self.method, self.features.device
        found = method.subspaces(self.conditions[condition], self.texts)
        mean_image = self.mean_image.cpu()
        if method.rotation:
            found = [Subspace(mean_image, rotate(s.basis.T, s.base, mean_image).T) for s in found]
        if len(found) > 1 and method.several != "mean":
            base = unit(torch.stack([s.base for s in found]).sum(dim=0))
            found = [Subspace(base, union([s.basis for s in found]))]
        for s in found:
            if s.basis.shape[1] == 0:
                name = condition_text(self.conditions[condition])
                raise CondsimError(
                    f"the prompts of the condition {name!r} all have the same features: give values that the backbone "
                    f"distinguishes. {method.phrases.how_to_add([name])}"
                )
        return [Subspace(s.base.to(device), s.basis.to(device, torch.float32)) for s in found]


def _mean_products(projections: list[Tensor], items: list[Tensor], places: Tensor | None = None) -> Tensor:
    products = [inner_products(query, item, places) for query, item in zip(projections, items, strict=True)]
    return products[0] if len(products) == 1 else torch.stack(products).mean(dim=0)
