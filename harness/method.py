"""The method contract: what every way of conditioning similarity implements. A method knows no benchmark."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from condsim.harness.errors import NotApplicable
from condsim.harness.task import Condition, ImageTable, Rows, Task

if TYPE_CHECKING:  # to name a method needs no torch
    from torch import Tensor


@dataclass(frozen=True)
class TrainFeatures:
    """The training split as features: [M, D] raw float32 image features, and the split's vocabulary."""

    images: Tensor
    table: ImageTable
    phrases: tuple[str, ...]


@dataclass(frozen=True)
class Gallery:
    """All that may be prepared once before scoring. N items of width D; features are raw (not normalised) float32.

    All of it is for reading only: a method that writes into its tensors is refused. Clone them first.
    """

    features: Tensor
    """[N, D]. For a method that ``reads_mapped`` perhaps in a mapped file (``harness.memory_map``), perhaps float16."""
    conditions: tuple[Condition, ...]
    condition_features: Tensor
    """[C, D] the features of the conditions' bare texts; several texts are joined by " and "."""
    encode_texts: Callable[[Sequence[str]], Tensor]
    """Texts -> [len, D] raw features, through the feature store."""
    train: Callable[[], TrainFeatures]
    """The training split, encoded when first asked for. Raises NotApplicable where the benchmark has none."""
    table: ImageTable
    """The image table, for methods that look pictures up by name (a detector's output)."""
    rows: Rows
    """[N] each gallery item's row in ``table``."""


@dataclass(frozen=True)
class Queries:
    """A batch of B queries. The engine sorts queries by condition, so a batch holds few distinct ones, in runs."""

    reference: Tensor
    """[B, D] raw image features; zeros where ``reference_row`` is -1."""
    text: Tensor
    """[B, D] raw text features of the condition; zeros where ``condition`` is -1."""
    condition: Tensor
    """int64 [B] index into ``Gallery.conditions``; -1: none."""
    reference_row: Tensor
    """int64 [B] row in ``Gallery.table``; -1: none."""

    def __len__(self) -> int:
        return len(self.condition)


class Scorer(Protocol):
    """A method prepared for one gallery."""

    def __call__(self, queries: Queries, rows: Tensor | None = None) -> Tensor:
        """Scores, higher is more similar, finite float32.

        ``rows`` None: every gallery item, [B, N]. int64 [C]: these gallery items for every query, [B, C]. int64
        [B, C]: one list a query, [B, C]; an entry of -1 is padding and may get any finite score.
        """
        ...


class Method(ABC):
    """Scores candidates for queries, from features alone.

    Subclasses are plain classes whose constructor arguments are their settings (one YAML in ``conf/method``).
    """

    needs_reference: bool = True
    needs_condition: bool = True
    needs_text: bool = True
    """False: text features are never read, so the method also works with a backbone that has none."""
    pointwise: bool = True
    """True: a candidate's score does not depend on the other candidates, so galleries may be scored in chunks. A
    re-ranker sets it to False and is then always given all of a query's candidates at once."""
    reads_train: bool = False
    """True: ``prepare`` may call ``Gallery.train``. The pictures and phrases of the training split then count as a part
    of the run's identity."""
    protocol: int = 1
    """Part of the run's identity. Increase it when the same settings may give other scores than before, through this
    class or through code that it calls; finished runs of this method are then run again."""
    reads_mapped: bool = False
    """True: galleries larger than memory may come as they are in a mapped file, and are read a piece at a time."""

    def check(self, task: Task) -> None:
        """Raise NotApplicable where this method cannot be asked this task's question."""
        name = type(self).__name__
        if self.needs_reference and (task.reference < 0).any():
            raise NotApplicable(f"{name} needs a reference image, and {task.full_name} has queries without one")
        if self.needs_condition and (task.condition < 0).any():
            raise NotApplicable(f"{name} needs a condition, and {task.full_name} has queries without one")

    @abstractmethod
    def prepare(self, gallery: Gallery) -> Scorer:
        """Everything that depends on the gallery as a whole, on the conditions or on the training split, done once."""
