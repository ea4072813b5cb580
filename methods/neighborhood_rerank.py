"""Re-rank a method's best candidates by how well their neighbourhood matches the query's.

The idea is that of "Geometry-Aware CLIP Retrieval via Local Cross-Modal Alignment and Steering" (2026), whose equations
could not be read: everything here is this project's own reading. See docs/methods.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from condsim.harness.categories import categories_of, read_categories
from condsim.harness.errors import CondsimError, NotApplicable
from condsim.harness.files.paths import resolve
from condsim.harness.method import Gallery, Method, Queries, Reranks, Scorer
from condsim.harness.one_vector import unit
from condsim.harness.process.cores import one_core_each
from condsim.harness.process.tensors import Tensor
from condsim.harness.task import ImageTable, Ragged, Task, condition_text
from condsim.methods.shared.assignment import all_pairs, chamfer, fused_gromov_wasserstein, hungarian, in_order
from condsim.methods.shared.base_method import Wrapper
from condsim.methods.shared.checks import at_least, one_of, share
from condsim.methods.shared.object_parts import grid_regions, object_phrases, words

BY_OBJECT = ("parts", "regions")
MODES = ("phrases", "images", *BY_OBJECT)
SPLITS: Mapping[str, Callable[[str], tuple[str, ...]]] = {
    "objects": object_phrases,
    "words": words,
    "none": lambda text: (text,),
}
SOLVERS = {"hungarian": hungarian, "mean": all_pairs, "chamfer": chamfer, "random": in_order}
AROUND = ("both", "reference", "text")

_LOOKED_UP = 4096
"""Up to this many entries the similarities of all pairs are kept (64 MiB); beyond, they are computed as needed."""
_ELEMENTS_AT_ONCE = 1 << 20
"""Pairwise similarities at a time: 8 MiB in float64, within a core's cache or near it."""
_PARTS_AT_ONCE = 4
"""Parts of a batch that are re-ranked at once. Beyond ``_LOOKED_UP``, each gathers 200 MiB of features of width 512."""


class NeighborhoodRerank(Wrapper, Reranks):
    """s' = (1 - weight) z(s) + weight z(H) within the shortlist, which stays above everything else. [ours]"""

    def __init__(
        self,
        base: Method | None = None,
        mode: str = "phrases",
        solver: str = "hungarian",
        shortlist: int = 100,
        neighbors: int = 10,
        weight: float = 0.5,
        around: str = "both",
        structure: float = 0.5,
        parts: str | None = None,
        split: str = "objects",
        grid: int = 2,
        seed: int = 0,
    ) -> None:
        one_of(MODES, mode=mode)
        one_of((*SOLVERS, "fgw"), solver=solver)
        one_of(AROUND, around=around)
        one_of(SPLITS, split=split)
        share(weight=weight, structure=structure)
        at_least(1, shortlist=shortlist, neighbors=neighbors, grid=grid)
        if mode != "parts" and parts is not None:
            raise CondsimError("method.parts=FILE (a table image -> categories) is for method.mode=parts")
        super().__init__(base)
        self.mode = mode
        self.solver = solver
        self.shortlist = shortlist
        self.neighbors = neighbors
        self.weight = weight
        self.around = around
        self.structure = structure
        self.parts = parts
        self.split = split
        self.grid = grid
        self.seed = seed
        self.pointwise = False
        self.reads_train = self.reads_train or (weight > 0 and mode not in BY_OBJECT)
        self.needs_reference = self.needs_reference or around != "text"
        self.needs_condition = self.needs_condition or around != "reference"
        self.needs_text = self.needs_text or weight > 0
        self.needs_row = self.needs_row or (mode in BY_OBJECT and around != "text")

    @property
    def in_two_steps(self) -> bool:
        return super().in_two_steps and self.solver != "random"  # it shuffles the items of the whole gallery

    def check(self, task: Task) -> None:
        super().check(task)
        if self.mode == "parts" and self.parts is None:
            raise NotApplicable("method.mode=parts needs method.parts=FILE, a table (image, category) of the objects")
        if self.parts is not None:
            _listed(self.parts, task.images)
        if self.mode == "regions" and any(task.images.box(row) is not None for row in range(len(task.images))):
            raise NotApplicable(f"method.mode=regions divides whole images, and {task.full_name} has crops of images")

    def prepare(self, gallery: Gallery) -> Scorer:
        base = self.base.prepare(gallery)
        if self.weight == 0:
            return base
        return RerankScorer(self, base, self.neighborhoods(gallery))

    def neighborhoods(self, gallery: Gallery) -> Neighborhoods:
        """The neighbourhoods of all gallery items, and what finds those of queries."""
        if self.mode in BY_OBJECT:
            found = self._by_object(gallery)
        else:
            found = _nearest(*self._bank(gallery), gallery, self.neighbors)
        if self.solver == "random":
            found = found.shuffled(self.seed)
        return found

    def _by_object(self, gallery: Gallery) -> Neighborhoods:
        """Every picture's parts or regions, and the members of each condition's text as texts."""
        if self.mode == "parts":
            assert self.parts is not None  # ``check``
            listed = _listed(self.parts, gallery.table)
            names = sorted({name for categories in listed for name in categories})
            number = {name: i for i, name in enumerate(names)}
            bank = gallery.encode_texts(names).to(gallery.features)
            members = Ragged.of([number[name] for name in sorted(categories)] for categories in listed)
        else:
            if gallery.encode_images is None:
                raise NotApplicable("method.mode=regions encodes regions of images, which is not possible here")
            bank = gallery.encode_images(grid_regions(gallery.table, self.grid)).to(gallery.features)
            members = Ragged.of(np.arange(len(bank)).reshape(len(gallery.table), -1))
            names = [f"{name} part {i + 1}" for name in gallery.table.names for i in range(len(members[0]))]
        texts = [SPLITS[self.split](condition_text(condition)) for condition in gallery.conditions]
        place = {text: len(bank) + i for i, text in enumerate(dict.fromkeys(text for own in texts for text in own))}
        bank = torch.cat((bank, gallery.encode_texts(list(place)).to(bank)))
        of_condition = Ragged.of([place[text] for text in own] for own in texts)
        references, conditions = (_padded(sets).to(bank.device) for sets in (members, of_condition))
        items = references[torch.from_numpy(gallery.rows)]
        return Neighborhoods(unit(bank), (*names, *place), items, references, conditions)

    def _bank(self, gallery: Gallery) -> tuple[Tensor, Sequence[str]]:
        """[P, D] unit rows, and what each is called."""
        train = gallery.train()
        if self.mode == "images":
            return unit(train.images.to(gallery.features)), train.table.names
        if not train.phrases:
            raise NotApplicable("the training split has no phrases for neighbourhoods: try method.mode=images")
        return unit(gallery.encode_texts(train.phrases).to(gallery.features)), train.phrases


@dataclass(frozen=True)
class Neighborhoods:
    """Sets of entries of a common ``bank`` [P, D] of unit rows. Lists are padded with -1 at their end."""

    bank: Tensor
    names: Sequence[str]
    """[P] what each entry of the bank is called."""
    items: Tensor
    """int64 [N, k]: the set of each gallery item."""
    references: Tensor | None = None
    """int64 [images of the table, k]: the set of each possible reference; None: those nearest to it."""
    conditions: Tensor | None = None
    """int64 [C, m]: the set of each condition, with ``references``."""

    def shuffled(self, seed: int) -> Neighborhoods:
        """The same sets, those of the items in a random order (padding stays at the end)."""
        keys = torch.rand(self.items.shape, generator=torch.Generator().manual_seed(seed)).to(self.items.device)
        order = keys.masked_fill(self.items < 0, 2.0).argsort(dim=1)
        return replace(self, items=self.items.gather(1, order))

    def of(self, queries: Queries, around: str, k: int) -> Tensor:
        """int64 [B, k or fewer]: the sets of queries, padded with -1 at their end."""
        if self.references is not None and self.conditions is not None:
            sides = []
            if around != "reference":
                sides.append(self.conditions[queries.condition])
            if around != "text":
                sides.append(self.references[queries.reference_row])
            joined = torch.cat(sides, dim=1)
            return joined.gather(1, (joined < 0).long().argsort(dim=1, stable=True))  # padding to the end
        k = min(k, len(self.bank))
        from_reference = {"reference": k, "text": 0, "both": k // 2}[around]
        reference, text = (unit(side) @ self.bank.T for side in (queries.reference, queries.text))
        nearest = reference.topk(from_reference, dim=1).indices
        others = text.scatter(1, nearest, -torch.inf).topk(k - from_reference, dim=1).indices
        return torch.cat((nearest, others), dim=1)


def _nearest(bank: Tensor, names: Sequence[str], gallery: Gallery, k: int) -> Neighborhoods:
    k = min(k, len(bank))
    chunk = max(1, 8 * _ELEMENTS_AT_ONCE // len(bank))
    starts = range(0, len(gallery.features), chunk)
    parts = [(unit(gallery.features[start : start + chunk]) @ bank.T).topk(k, dim=1).indices for start in starts]
    return Neighborhoods(bank, names, torch.cat(parts))


def _padded(lists: Ragged) -> Tensor:
    """int64 [len(lists), longest list or 1], short lists filled up with -1."""
    return torch.from_numpy(lists.padded() if len(lists.values) else np.full((len(lists), 1), -1))


def _listed(parts: str, table: ImageTable) -> tuple[frozenset[str], ...]:
    """The categories of each image of ``table`` that the file ``parts`` lists."""
    file = str(resolve(parts, table.root))
    return categories_of(table.names, read_categories(file), file)


class RerankScorer:
    """The base's scores, the best of them re-ranked."""

    def __init__(self, method: NeighborhoodRerank, base: Scorer, sets: Neighborhoods) -> None:
        self.method = method
        self.base = base
        self.sets = sets
        self.gram = sets.bank @ sets.bank.T if len(sets.bank) <= _LOOKED_UP else None

    def __call__(self, queries: Queries, rows: Tensor | None = None) -> Tensor:
        scores = self.base(queries, rows)
        items = rows if rows is not None else torch.arange(scores.shape[1], device=scores.device)
        items = items.expand(scores.shape)
        each = min(self.method.shortlist, scores.shape[1]) * self.sets.items.shape[1] * self.method.neighbors
        step = max(1, _ELEMENTS_AT_ONCE // each)

        def reranked(start: int) -> Tensor:
            part = slice(start, start + step)
            own = self.sets.of(queries.part(part), self.method.around, self.method.neighbors)
            return self.rerank(scores[part], items[part], own)

        starts = range(0, len(scores), step)
        threads = min(torch.get_num_threads(), len(starts), _PARTS_AT_ONCE)
        if scores.device.type != "cpu" or threads == 1:
            return torch.cat([reranked(start) for start in starts])
        with one_core_each(threads) as pool:  # the operations of a part are too small to divide between cores
            return torch.cat(list(pool.map(reranked, starts)))

    def rerank(self, scores: Tensor, items: Tensor, own: Tensor) -> Tensor:
        """New scores [b, C] from the base's [b, C] for gallery items [b, C] (-1: padding) and the queries' sets [b, k].

        The new scores of the shortlist are above all others, which are unchanged.
        """
        hidden = scores.masked_fill(items < 0, -torch.inf)
        best, places = hidden.topk(min(self.method.shortlist, scores.shape[1]), dim=1)
        listed = best > -torch.inf
        matched = self.alikeness(own, self.sets.items[items.gather(1, places).clamp(min=0)])
        weight = self.method.weight
        combined = (1 - weight) * standardized(best, listed) + weight * standardized(matched, listed)
        others = hidden.scatter(1, places, -torch.inf).amax(dim=1, keepdim=True).double()
        floor = torch.where(others.isinf(), 0.0, others) + 1
        lowest = combined.masked_fill(~listed, torch.inf).amin(dim=1, keepdim=True)
        new = torch.where(listed, floor + combined - lowest, scores.gather(1, places))
        return scores.scatter(1, places, new.to(scores.dtype))

    def why(self, queries: Queries, rows: Tensor) -> list[list[str]]:
        """The three best pairs of the optimal matching between the query's neighbourhood and the item's."""
        if self.method.solver != "hungarian":  # the other solvers match no pairs
            return [[""] * rows.shape[1] for _ in rows]
        own = self.sets.of(queries, self.method.around, self.method.neighbors)
        return [
            [self._pairs(own[i], item) if place < self.method.shortlist else "" for place, item in enumerate(listed)]
            for i, listed in enumerate(rows.tolist())
        ]

    def _pairs(self, own: Tensor, item: int) -> str:
        from scipy.optimize import linear_sum_assignment

        others = self.sets.items[item]
        own, others = own[own >= 0], others[others >= 0]
        similarity = self.similarities(own[None], others[None, None])[0, 0].cpu().numpy()
        left, right = own.tolist(), others.tolist()
        pairs = sorted(
            zip(*linear_sum_assignment(similarity, maximize=True), strict=True), key=lambda p: -similarity[p]
        )
        names = self.sets.names
        return ", ".join(f"{names[left[i]]} ~ {names[right[j]]} {similarity[i, j]:.2f}" for i, j in pairs[:3])

    def alikeness(self, own: Tensor, others: Tensor) -> Tensor:
        """[b, K] similarity of the sets ``own`` [b, n] and ``others`` [b, K, m] of bank entries, by the solver."""
        b, count, m = others.shape
        similarity = self.similarities(own, others).reshape(b * count, own.shape[1], m)
        padded = bool((own < 0).any() or (others < 0).any())
        left = (own >= 0).sum(dim=1).repeat_interleave(count) if padded else None
        right = (others >= 0).sum(dim=2).reshape(-1) if padded else None
        if self.method.solver == "fgw":
            within = (
                self.similarities(own, own[:, None]).expand(b, count, -1, -1).reshape(b * count, *own.shape[1:], -1)
            )
            flat = others.reshape(b * count, m)
            inside = self.similarities(flat, flat[:, None]).reshape(b * count, m, m)
            found = fused_gromov_wasserstein(similarity, within, inside, self.method.structure, left, right)
        else:
            found = SOLVERS[self.method.solver](similarity, left, right)
        return found.reshape(b, count)

    def similarities(self, left: Tensor, right: Tensor) -> Tensor:
        """[b, K, n, m] similarities of the members of ``left`` [b, n] with those of ``right`` [b, K, m]."""
        left, right = left.clamp(min=0), right.clamp(min=0)
        b, count, m = right.shape
        if self.gram is not None:
            near = self.gram[left]
            found = near.gather(2, right.reshape(b, 1, count * m).expand(-1, left.shape[1], -1))
        else:
            found = torch.bmm(self.sets.bank[left], self.sets.bank[right.reshape(b, count * m)].mT)
        return found.reshape(b, left.shape[1], count, m).transpose(1, 2)


def standardized(values: Tensor, members: Tensor) -> Tensor:
    """z-scores [b, K] in float64 over each row's ``members`` [b, K]; 0 where a row's members do not differ."""
    values = values.double().masked_fill(~members, 0)
    count = members.sum(dim=1, keepdim=True).clamp(min=1)
    apart = (values - values.sum(dim=1, keepdim=True) / count).masked_fill(~members, 0)
    spread = (apart.square().sum(dim=1, keepdim=True) / count).sqrt()
    differs = spread > 1e-12 * values.abs().amax(dim=1, keepdim=True)
    return torch.where(differs, apart / torch.where(differs, spread, 1.0), 0.0)
