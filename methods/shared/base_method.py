"""A method on top of another: its base."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from condsim.harness.errors import CondsimError
from condsim.harness.method import Method, Queries, Scorer, TwoSided, query_side, score_side
from condsim.harness.process.tensors import Tensor
from condsim.harness.task import Task
from condsim.methods.inner_product import ImagePlusText


def base_method(base: Method | None, setting: str = "base") -> Method:
    """``base``, or image + text if None. Raises CondsimError for the name of a method instead of a method.

    ``setting``: how it is called.
    """
    if base is None:
        return ImagePlusText()
    if not isinstance(base, Method):
        raise CondsimError(
            f"{setting}={base!r} is a name, not a method: choose the {setting} method with method.{setting}={base} on "
            "the command line, or with a defaults list in YAML"
        )
    return base


class Wrapper(Method):
    """A method on top of another. It needs what its base needs; a constructor that needs more sets it afterwards."""

    def __init__(self, base: Method | None) -> None:
        self.base = base_method(base)
        self.needs_reference = self.base.needs_reference
        self.needs_condition = self.base.needs_condition
        self.needs_text = self.base.needs_text
        self.needs_row = self.base.needs_row
        self.reads_train = self.base.reads_train
        self.pointwise = self.base.pointwise

    def check(self, task: Task) -> None:
        super().check(task)
        self.base.check(task)


@dataclass(frozen=True)
class ChangedQueries(TwoSided):
    """The scorer of a base that receives ``change``(queries)."""

    base: Scorer
    change: Callable[[Queries], Queries]

    @property
    def concurrent(self) -> bool:
        return isinstance(self.base, TwoSided) and self.base.concurrent

    def query_side(self, queries: Queries) -> Any:
        return query_side(self.base, self.change(queries))

    def score(self, side: Any, rows: Tensor | None = None) -> Tensor:
        return score_side(self.base, side, rows)
