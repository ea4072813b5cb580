"""A cheap method makes a shortlist, an expensive one ranks it. Ours: see docs/methods.md."""

from __future__ import annotations

import torch

from condsim.harness.method import Gallery, Method, Queries, Scorer
from condsim.harness.process.tensors import Tensor
from condsim.harness.task import Task
from condsim.methods.inner_product import ImagePlusTextUnit
from condsim.methods.query_adaptive import QueryAdaptive
from condsim.methods.shared.base_method import Wrapper, base_method
from condsim.methods.shared.checks import at_least

_BEST = 10
"""How many of the best items of a full scan the recall counts."""


class TwoStage(Wrapper):
    """``final`` scores the ``shortlist`` best items of ``base``; the others are below, in the base's order. [ours]"""

    def __init__(
        self,
        base: Method | None = None,
        final: Method | None = None,
        shortlist: int = 1000,
        check_every: int = 100,
    ) -> None:
        at_least(1, shortlist=shortlist)
        at_least(0, check_every=check_every)
        super().__init__(base or ImagePlusTextUnit())
        self.final = base_method(final or QueryAdaptive(), "final")
        self.shortlist = shortlist
        self.check_every = check_every
        self.pointwise = False
        for need in ("needs_reference", "needs_condition", "needs_text", "needs_row", "reads_train"):
            setattr(self, need, getattr(self.base, need) or getattr(self.final, need))
        self.reads_conditions = self.base.reads_conditions or self.final.reads_conditions

    def check(self, task: Task) -> None:
        super().check(task)
        self.final.check(task)

    def prepare(self, gallery: Gallery) -> Scorer:
        return TwoStageScorer(self, self.base.prepare(gallery), self.final.prepare(gallery), len(gallery.features))


class TwoStageScorer:
    """The two prepared methods, and what the checked queries showed."""

    def __init__(self, method: TwoStage, base: Scorer, final: Scorer, items: int) -> None:
        self.method, self.base, self.final, self.items = method, base, final, items
        self.checked = self.wanted = self.listed = 0
        """Checked queries, their best items in a full scan, and those of them in the shortlist."""

    def __call__(self, queries: Queries, rows: Tensor | None = None) -> Tensor:
        if self.method.shortlist >= (self.items if rows is None else rows.shape[-1]):
            return self.final(queries, rows)
        scores = self.base(queries, rows)
        padding = rows < 0 if rows is not None and rows.ndim == 2 else None
        ranked = scores if padding is None else scores.masked_fill(padding, -torch.inf)
        places = ranked.topk(self.method.shortlist, dim=1).indices
        if padding is None:
            shortlist = places if rows is None else rows[places]
        else:
            assert rows is not None
            shortlist = rows.gather(1, places)
        final = self.final(queries, shortlist)
        self._check(queries, rows, places)
        lowest = final.masked_fill(shortlist < 0, torch.inf).amin(dim=1, keepdim=True)
        highest = ranked.scatter(1, places, -torch.inf).amax(dim=1, keepdim=True)
        apart = (lowest - highest - 1).nan_to_num(0.0, 0.0, 0.0)  # infinite where one of the two is empty
        others = torch.minimum(scores + apart, torch.nextafter(lowest, lowest.new_tensor(-torch.inf)))
        return others.to(torch.promote_types(others.dtype, final.dtype)).scatter(1, places, final.to(others.dtype))

    def _check(self, queries: Queries, rows: Tensor | None, places: Tensor) -> None:
        every = self.method.check_every
        if not every or queries.row is None:
            return
        for i in (queries.row % every == 0).nonzero()[:, 0].tolist():
            one = slice(i, i + 1)
            listed = rows if rows is None or rows.ndim == 1 else rows[one]
            scores = self.final(queries.part(one), listed)[0]
            if listed is not None and listed.ndim == 2:
                scores = scores[listed[0] >= 0]  # padding is at the end
            best = scores.topk(min(_BEST, len(scores))).indices
            self.checked += 1
            self.wanted += len(best)
            self.listed += int(torch.isin(best, places[i]).sum())

    def notes(self) -> list[str]:
        """The recall of the shortlist, where it was measured."""
        if not self.wanted:
            return []
        share = 100 * self.listed / self.wanted
        return [
            f"two stages: the shortlist of {self.method.shortlist:,} has {share:.1f} % of the {_BEST} best items of a "
            f"full scan by {type(self.method.final).__name__} ({self.checked:,} queries checked)"
        ]
