"""WeiMoCIR: candidates are compared by their images and by their captions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

from condsim.harness.condition_features import mean_features
from condsim.harness.errors import CondsimError
from condsim.harness.method import Gallery, Method, Queries, Scorer, TwoSided
from condsim.harness.one_vector import inner_products, unit
from condsim.harness.outside import TextTable, reference_rows
from condsim.harness.process.tensors import Tensor
from condsim.harness.task import Rows, Task
from condsim.methods.shared.checks import one_of, share


class WeiMoCIR(Method):
    """q = unit((1 - alpha) ref + alpha text); s = beta mean_k q . c_k(d) + (1 - beta) q . d (Wu et al., 2024).

    c_1(d), ..., c_K(d) are the unit features of a candidate's captions. The paper compares them with q, the released
    code with unit((1 - alpha) c_k(ref) + alpha text), so all images need equally many captions.
    """

    def __init__(
        self,
        captions: str | None = None,
        alpha: float = 0.65,
        beta: float = 0.65,
        caption_query: Literal["fused", "own"] = "fused",
        normalize: bool = True,
    ) -> None:
        share(alpha=alpha, beta=beta)
        one_of(("fused", "own"), caption_query=caption_query)
        self.captions = None if captions is None else TextTable(captions, "image")
        self.alpha, self.beta, self.caption_query, self.normalize = alpha, beta, caption_query, normalize

    def check(self, task: Task) -> None:
        super().check(task)
        if self.captions is None:
            raise CondsimError(
                "weimocir needs captions of the images: set method.captions=FILE, such as one from `condsim captions`"
            )
        needed = set(task.gallery_rows.tolist())
        if self.caption_query == "own":
            needed |= set(task.reference.tolist())
        captions = self.captions.of([task.images.keys[row] for row in sorted(needed)])
        if self.caption_query == "own" and len(counts := sorted({len(several) for several in captions})) > 1:
            raise CondsimError(
                f"{self.captions.path}: some images have {counts[0]} captions and others {counts[-1]}: "
                "method.caption_query=own needs equally many"
            )

    def prepare(self, gallery: Gallery) -> Scorer:
        images = unit(gallery.features)
        if self.caption_query == "fused":  # linear in d: one inner product with the weighted mean
            means = mean_features(self._captions(gallery, gallery.rows), gallery.encode_texts).to(images)
            items = torch.lerp(images, means, self.beta)
            return _Scorer(items, lambda queries: self._fused(queries.reference, queries))

        def embed(queries: Queries) -> Tensor:
            own = self._caption_features(gallery, reference_rows(queries)).unbind(dim=1)
            return torch.cat([self._fused(reference, queries) for reference in (queries.reference, *own)], dim=1)

        captions = unit(self._caption_features(gallery, gallery.rows)).unbind(dim=1)
        weighted = [(1 - self.beta) * images, *(self.beta / len(captions) * features for features in captions)]
        return _Scorer(torch.cat(weighted, dim=1), embed)

    def _captions(self, gallery: Gallery, rows: Rows) -> list[tuple[str, ...]]:
        assert self.captions is not None
        return self.captions.of([gallery.table.keys[row] for row in rows])

    def _caption_features(self, gallery: Gallery, rows: Rows) -> Tensor:
        """[len(rows), K, D] raw features of the K captions of each row of the image table."""
        captions = self._captions(gallery, rows)
        place = {text: i for i, text in enumerate(dict.fromkeys(text for own in captions for text in own))}
        features = gallery.encode_texts(list(place)).to(gallery.features)
        return features[torch.tensor([[place[text] for text in own] for own in captions])]

    def _fused(self, reference: Tensor, queries: Queries) -> Tensor:
        text = queries.text
        if self.normalize:
            reference, text = unit(reference), unit(text)
        return unit(torch.lerp(reference, text, self.alpha))


class _Scorer(TwoSided):
    """``embed``(queries) . ``items`` [N, D'], neither made unit: the score is the sum of weighted cosines."""

    concurrent = True

    def __init__(self, items: Tensor, embed: Callable[[Queries], Tensor]) -> None:
        self.items, self.embed = items, embed

    def query_side(self, queries: Queries) -> Tensor:
        return self.embed(queries)

    def score(self, side: Tensor, rows: Tensor | None = None) -> Tensor:
        return inner_products(side, self.items, rows)
