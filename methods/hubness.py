"""NNN and QB-Norm: another method's scores less what makes an item a hub, which a bank of other queries shows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import torch

from condsim.harness.errors import CondsimError, NotApplicable
from condsim.harness.method import Gallery, Method, Queries, Scorer, TwoSided, query_side, score_side
from condsim.harness.process.tensors import Tensor
from condsim.methods.shared.base_method import Wrapper
from condsim.methods.shared.checks import above_zero, at_least

_ELEMENTS_AT_ONCE = 1 << 23
"""Scores of bank queries or queries against the whole gallery at a time: 32 MiB."""
_Runs = list[tuple[int, "Tensor"]]
"""(key of a bank, int64 places of its queries in the batch) of each key."""
_KEPT = 64
"""Conditions whose statistics are kept: they are [N] each, and batches come in runs of conditions."""


class WithBank(Wrapper):
    """A base method corrected by what a bank of queries scores.

    The bank: images as references, each with the condition of the query at hand, where the base needs a reference; else
    the phrases of the training split as texts. [ours]
    """

    transductive: ClassVar[bool] = False
    """True: the bank is the test gallery's own images. Such a method has a name of its own."""

    def __init__(self, base: Method | None, size: int | None) -> None:
        at_least(1, size=size)
        super().__init__(base)
        self.size = size
        self.reads_train = self.reads_train or not self.transductive
        name = type(self.base).__name__
        if self.base.needs_row:
            raise CondsimError(f"a bank has no rows in the image table, which its base {name} looks pictures up by")
        if self.transductive and not self.base.needs_reference:
            raise CondsimError(f"a bank of the gallery's images says nothing about {name}, which needs no reference")

    def prepare(self, gallery: Gallery) -> Scorer:
        return self.corrected(self.base.prepare(gallery), Bank(self, gallery))

    @abstractmethod
    def corrected(self, base: Scorer, bank: Bank) -> Scorer:
        """The corrected scorer."""


class Bank:
    """Queries that are not the task's, for each condition."""

    def __init__(self, method: WithBank, gallery: Gallery) -> None:
        self.gallery = gallery
        self.by_condition = method.base.needs_reference and method.base.needs_condition
        self.references: Tensor | None = None
        if method.transductive:
            self.references = self._some(gallery.features, method.size)
        elif method.base.needs_reference:
            self.references = self._some(gallery.train().images.to(gallery.features), method.size)
        else:
            phrases = gallery.train().phrases
            if not phrases:
                raise NotApplicable("the training split has no phrases to make a bank of")
            self.texts = self._some(gallery.encode_texts(phrases).to(gallery.features), method.size)

    @staticmethod
    def _some(features: Tensor, size: int | None) -> Tensor:
        count = len(features) if size is None else min(size, len(features))
        return features[torch.linspace(0, len(features) - 1, count, device=features.device).round().long()]

    def runs(self, queries: Queries) -> _Runs:
        """The queries of each bank: of one per condition, or of the bank -1 where it depends on none."""
        keys = queries.condition if self.by_condition else torch.full_like(queries.condition, -1)
        return [(key, (keys == key).nonzero()[:, 0]) for key in torch.unique(keys).tolist()]

    def queries(self, key: int) -> Queries:
        """The bank for one ``key``."""
        if self.references is None:
            text, reference = self.texts, torch.zeros_like(self.texts)
        else:
            reference = self.references
            own = self.gallery.condition_features[key].to(reference) if key >= 0 else torch.zeros_like(reference[0])
            text = own.expand_as(reference)
        condition = torch.full((len(text),), key, device=text.device)
        return Queries(reference, text, condition, torch.full_like(condition, -1))


def _in_parts(base: Scorer, queries: Queries, items: int) -> Iterator[Tensor]:
    """The base's scores of the whole gallery for ``queries``, [b, ``items``] at a time."""
    step = max(1, _ELEMENTS_AT_ONCE // max(1, items))
    for start in range(0, len(queries), step):
        yield base(queries.part(slice(start, start + step)), None)


@dataclass(frozen=True)
class _Corrected(TwoSided):
    """``scale`` times the base's scores; those of the queries that ``changed`` names less a number per item."""

    base: Scorer
    scale: float
    statistic: Callable[[int], Tensor]
    """Key of a bank -> [N]."""
    changed: Callable[[Queries], _Runs]

    def query_side(self, queries: Queries) -> tuple[Any, _Runs]:
        return query_side(self.base, queries), self.changed(queries)

    def score(self, side: tuple[Any, _Runs], rows: Tensor | None = None) -> Tensor:
        of_base, runs = side
        scores = self.scale * score_side(self.base, of_base, rows)
        for key, mine in runs:
            listed = rows[mine] if rows is not None and rows.ndim == 2 else rows
            of_items = self.statistic(key)
            scores[mine] -= of_items if listed is None else of_items[listed.clamp(min=0)]
        return scores


class NearestNeighborNormalization(WithBank):
    """s'(q, d) = s(q, d) - alpha x the mean of the k highest scores that queries of the bank give d.

    "Nearest Neighbor Normalization Improves Multimodal Retrieval" (Chowdhury et al., EMNLP 2024), NNN.
    """

    def __init__(
        self, base: Method | None = None, alpha: float = 0.75, neighbors: int = 128, size: int | None = 1024
    ) -> None:
        super().__init__(base, size)
        at_least(1, neighbors=neighbors)
        self.alpha = alpha
        self.neighbors = neighbors

    def corrected(self, base: Scorer, bank: Bank) -> Scorer:
        items = len(bank.gallery.features)

        @lru_cache(maxsize=_KEPT)
        def bias(key: int) -> Tensor:
            """[N] alpha x the mean of the k highest scores of each item."""
            best: Tensor | None = None
            for scores in _in_parts(base, bank.queries(key), items):
                together = scores if best is None else torch.cat((best, scores))
                best = together.topk(min(self.neighbors, len(together)), dim=0).values
            assert best is not None
            return self.alpha * best.mean(dim=0)

        return _Corrected(base, 1.0, bias, bank.runs)


class QueryBankNormalization(WithBank):
    """s'(q, d) = beta s(q, d) - log sum over the bank of exp(beta s(b, d)), for queries whose best item is a hub.

    "Cross Modal Retrieval with Querybank Normalisation" (Bogolin et al., CVPR 2022), QB-Norm with the dynamic inverted
    softmax, in logarithms: the ranking is that of exp(beta s) / sum exp(beta s_b). An item is a hub where it is among
    the k best of any query of the bank. Other queries keep the base's ranking.
    """

    def __init__(
        self, base: Method | None = None, beta: float = 20.0, neighbors: int = 1, size: int | None = 1024
    ) -> None:
        super().__init__(base, size)
        above_zero(beta=beta)
        at_least(1, neighbors=neighbors)
        self.beta = beta
        self.neighbors = neighbors

    def corrected(self, base: Scorer, bank: Bank) -> Scorer:
        items = len(bank.gallery.features)

        @lru_cache(maxsize=_KEPT)
        def statistics(key: int) -> tuple[Tensor, Tensor]:
            """log sum exp [N] of each item's scores, and whether it is a hub, bool [N]."""
            total = bank.gallery.features.new_full((items,), -torch.inf)
            hub = torch.zeros_like(total, dtype=torch.bool)
            for scores in _in_parts(base, bank.queries(key), items):
                total = torch.logaddexp(total, (self.beta * scores).logsumexp(dim=0))
                hub[scores.topk(min(self.neighbors, items), dim=1).indices] = True
            return total, hub

        def changed(queries: Queries) -> _Runs:
            """Those whose best item of the whole gallery is a hub."""
            best = torch.cat([scores.argmax(dim=1) for scores in _in_parts(base, queries, items)])
            return [(key, mine[statistics(key)[1][best[mine]]]) for key, mine in bank.runs(queries)]

        return _Corrected(base, self.beta, lambda key: statistics(key)[0], changed)


class TransductiveNearestNeighborNormalization(NearestNeighborNormalization):
    """NNN with the test gallery's images as its bank: it looks at the candidates, which other methods do not."""

    transductive = True


class TransductiveQueryBankNormalization(QueryBankNormalization):
    """QB-Norm with the test gallery's images as its bank: it looks at the candidates, which other methods do not."""

    transductive = True
