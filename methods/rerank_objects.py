"""``NeighborhoodRerank`` by objects, on top of text only: regions that the backbone sees, and an oracle. Ours."""

from __future__ import annotations

from condsim.harness.errors import NotApplicable
from condsim.harness.method import Method
from condsim.harness.task import Task
from condsim.methods.inner_product import TextOnly
from condsim.methods.neighborhood_rerank import NeighborhoodRerank


class RerankRegions(NeighborhoodRerank):
    """The text's phrases are matched with ``grid`` x ``grid`` regions of each candidate (``mode`` regions)."""

    def __init__(
        self,
        base: Method | None = None,
        solver: str = "hungarian",
        split: str = "objects",
        grid: int = 2,
        weight: float = 0.5,
        around: str = "text",
        shortlist: int = 100,
        seed: int = 0,
    ) -> None:
        super().__init__(
            base or TextOnly(),
            "regions",
            solver,
            shortlist,
            weight=weight,
            around=around,
            split=split,
            grid=grid,
            seed=seed,
        )


class RerankOracle(NeighborhoodRerank):
    """An oracle: the text's phrases are matched with the true objects of each candidate (``mode`` parts).

    ``parts`` lists them. It shows what perfect parts would give, and is no method for comparison.
    """

    def __init__(
        self,
        base: Method | None = None,
        parts: str | None = None,
        solver: str = "hungarian",
        split: str = "objects",
        weight: float = 0.5,
        around: str = "text",
        shortlist: int = 100,
        seed: int = 0,
    ) -> None:
        super().__init__(
            base or TextOnly(),
            "parts",
            solver,
            shortlist,
            weight=weight,
            around=around,
            parts=parts or "",
            split=split,
            seed=seed,
        )

    def check(self, task: Task) -> None:
        if not self.parts:
            raise NotApplicable("rerank_oracle needs method.parts=FILE, a table (image, category) of the true objects")
        super().check(task)
