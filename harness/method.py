"""The method contract: what every way of conditioning similarity implements.

Most methods compute one vector per query: subclass ``condsim.OneVector`` instead (``harness.one_vector``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from condsim.harness.errors import CondsimError, NotApplicable
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
    """What a method may prepare from, once per task: N items of width D. Features are raw (not normalised) float32.

    All tensors are read-only: a method that writes into them is refused. Clone them first.
    """

    features: Tensor
    """[N, D]. With ``reads_mapped`` they may be in a mapped file (``harness.files.memory_map``) and float16."""
    conditions: tuple[Condition, ...]
    condition_features: Tensor
    """[C, D] the features of the conditions' texts, without a template; several texts are joined by " and "."""
    encode_texts: Callable[[Sequence[str]], Tensor]
    """Texts -> [len, D] raw features, through the feature store."""
    train: Callable[[], TrainFeatures]
    """The training split, encoded at the first call. Raises NotApplicable where the benchmark has none."""
    table: ImageTable
    """The image table, for methods that look images up by name (a detector's output)."""
    rows: Rows
    """[N] the row of each gallery item in ``table``."""
    texts: tuple[tuple[str, ...], ...] | None = None
    """For each condition the texts whose unit features are averaged, as in ``Task.texts``; None: its texts joined."""
    encode_images: Callable[[ImageTable], Tensor] | None = None
    """An image table, such as regions of the pictures of ``table`` -> [len, D] raw features, through the feature store.
    None during training."""
    encode_texts_with: Callable[[Sequence[str], Tensor], Tensor] | None = None
    """Texts with a "$" and the word vectors [len, E] in its place -> [len, D] raw features, through the feature store
    (``harness.backbone.EncodesPseudoWords``). None: the backbone has no such part."""
    encode_jointly: Callable[[Rows, Sequence[str]], Tensor] | None = None
    """Rows of ``table`` [n] and a text for each -> [n, D] raw features of image and text together, through the feature
    store (``harness.backbone.EncodesJointly``). None: the backbone has no such part."""
    query_names: tuple[str, ...] = ()
    """The name of each query of the task in files of others (``Task.query_names``)."""
    statistics: Mapping[str, Tensor] | None = None
    """``Method.statistics`` summed over all parts of a gallery, of which these items are one part. None: these items
    are the whole gallery."""


@dataclass(frozen=True)
class Queries:
    """A batch of B queries, sorted by condition: a batch holds few distinct ones."""

    reference: Tensor
    """[B, D] raw image features; zeros where ``reference_row`` is -1."""
    text: Tensor
    """[B, D] raw text features of the condition; zeros where ``condition`` is -1."""
    condition: Tensor
    """int64 [B] index into ``Gallery.conditions``; -1: none."""
    reference_row: Tensor
    """int64 [B] row in ``Gallery.table``; -1: none."""
    row: Tensor | None = None
    """int64 [B] index into ``Gallery.query_names``; None: queries that the task does not have (those of a bank)."""

    def __len__(self) -> int:
        return len(self.condition)

    def part(self, which: slice) -> Queries:
        """The queries ``which`` of the batch."""
        return Queries(
            self.reference[which],
            self.text[which],
            self.condition[which],
            self.reference_row[which],
            None if self.row is None else self.row[which],
        )


class Scorer(Protocol):
    """A method prepared for one task."""

    def __call__(self, queries: Queries, rows: Tensor | None = None) -> Tensor:
        """Scores, higher is more similar, finite float32.

        ``rows`` chooses the gallery items:

        - None: all of them; returns [B, N].
        - int64 [C]: the same items for every query; returns [B, C].
        - int64 [B, C]: one list per query; returns [B, C]. An entry of -1 is padding: any finite score will do.
        """
        ...


class TwoSided(ABC):
    """A scorer that computes what it needs of the queries once per batch, for any number of items, wherever these are.

    The engine calls ``query_side`` once and ``score`` per chunk of the gallery, perhaps in other processes.
    """

    @property
    def concurrent(self) -> bool:
        """True (set ``concurrent = True``): several threads may call ``score`` at once. It changes neither ``self`` nor
        anything else that is shared, except what its first call for a ``side`` keeps: the engine makes that call, for
        one item, before it starts threads. Chunks of the gallery are then scored at once, on one core each."""
        return False

    @abstractmethod
    def query_side(self, queries: Queries) -> Any:
        """What scores need of the queries: tensors, or plain containers of tensors (it travels by pickle)."""

    @abstractmethod
    def score(self, side: Any, rows: Tensor | None = None) -> Tensor:
        """As ``Scorer``, for the queries of ``side``."""

    def __call__(self, queries: Queries, rows: Tensor | None = None) -> Tensor:
        return self.score(self.query_side(queries), rows)


def query_side(scorer: Scorer, queries: Queries) -> Any:
    """What any ``scorer`` scores with: its ``TwoSided.query_side``, else the queries themselves."""
    return scorer.query_side(queries) if isinstance(scorer, TwoSided) else queries


def score_side(scorer: Scorer, side: Any, rows: Tensor | None = None) -> Tensor:
    """The scores of ``scorer`` for a ``query_side`` of it."""
    return scorer.score(side, rows) if isinstance(scorer, TwoSided) else scorer(side, rows)


@runtime_checkable
class Explains(Protocol):
    """An optional part of a scorer: why an item has its score, in a few words for a user who looks at the pictures."""

    def why(self, queries: Queries, rows: Tensor) -> list[list[str]]:
        """One text per entry of ``rows``, int64 [B, C]: the best gallery items of each query, best first.

        It names what the score is made of ("image 0.52, text 0.11"); "": there is nothing to say.
        """
        ...


@runtime_checkable
class NotesScores(Protocol):
    """An optional part of a scorer: what a reader of the record should know about the scores that it gave."""

    def notes(self) -> list[str]:
        """One sentence each, after all queries are scored."""
        ...


class Method(ABC):
    """Scores candidates for queries from features alone.

    The constructor's arguments are the settings (one YAML file in ``conf/method``). A method knows no benchmark: it
    may look at the parts of a task (has every query a reference?), not at where they come from.

    >>> class Constant(Method):
    ...     def prepare(self, gallery: Gallery) -> Scorer:
    ...         def score(queries: Queries, rows: Tensor | None = None) -> Tensor:
    ...             shape = (len(queries), len(gallery.features) if rows is None else rows.shape[-1])
    ...             return gallery.features.new_zeros(shape)
    ...
    ...         return score
    """

    needs_reference: bool = True
    needs_condition: bool = True
    needs_text: bool = True
    """False: text features are never read, so the method also works with a backbone that has none."""
    needs_row: bool = False
    """True: references are looked up by their row in the image table, so each has to be one of its images."""
    reads_conditions: bool = True
    """False: neither ``prepare`` nor the scorer reads the gallery's conditions (``Queries.text`` has the query's own),
    so that one scorer serves every condition."""
    pointwise: bool = True
    """True: a candidate's score does not depend on the other candidates, so a gallery may be scored in chunks. False,
    for a re-ranker: the scorer always receives all candidates of a query at once."""
    reads_train: bool = False
    """True: ``prepare`` may call ``Gallery.train``. The images and phrases of the training split are then part of the
    run's identity."""
    protocol: int = 1
    """Part of the run's identity. Increase it when the same settings may give other scores than before, through this
    class or through code that it calls; finished runs of this method are then run again."""
    reads_mapped: bool = False
    """True: the method accepts a gallery larger than memory in a mapped file and reads it in pieces."""

    @property
    def sharded(self) -> bool:
        """True (set ``sharded = True``): the method ranks a gallery that is divided between several processes.

        It promises that the score of an item depends on the item, the query and ``statistics`` alone, and that its
        scorer is ``TwoSided``. ``prepare`` gets one part of the gallery, whose ``table`` and ``rows`` are the part's.
        Blocks of items that it computes together have a size that divides ``harness.files.gallery_parts.GRAIN``.
        """
        return False

    def check(self, task: Task) -> None:
        """Raise NotApplicable where the method does not apply to the task: its leaderboard cell stays empty."""
        if self.needs_reference and (task.reference < 0).any():
            raise NotApplicable(f"the method needs a reference image, and {task.full_name} has queries without one")
        if self.needs_condition and (task.condition < 0).any():
            raise NotApplicable(f"the method needs a condition, and {task.full_name} has queries without one")

    def statistics(self, gallery: Gallery) -> Mapping[str, Tensor]:
        """What ``prepare`` has to know of the gallery as a whole, as sums over its items: int64 tensors.

        Integers, because their sum is the same for any division of the gallery and in any order.
        """
        return {}

    def totals(self, gallery: Gallery) -> Mapping[str, Tensor]:
        """``statistics`` of the whole gallery of which ``gallery`` is a part, or all."""
        return self.statistics(gallery) if gallery.statistics is None else gallery.statistics

    @abstractmethod
    def prepare(self, gallery: Gallery) -> Scorer:
        """Do once what depends on the gallery, the conditions or the training split, and return the scorer."""

    def trained_with(self) -> Mapping[str, Any]:
        """How its weights were trained: names, and numbers or texts, such as "seed" and "steps". {} without weights and
        where their file does not say it. Shown beside a run; not part of its identity, since the weights are."""
        return {}

    def with_conditions(self, scorer: Scorer, gallery: Gallery) -> Scorer | None:
        """``scorer``, which this method has prepared, for ``gallery``: the same items with other conditions.

        It has the scores of ``prepare(gallery)`` and costs the work of the conditions alone, so that a search index
        takes a new condition quickly. None: the method has to prepare again.
        """
        return None if self.reads_conditions else scorer


class TwoSteps(Method):
    """A method on top of ``base`` that needs only the base's best items of a query: on a gallery in parts, the workers
    find these first (exactly), and the second step is done where the backbone is. Subclass one of the two kinds."""

    base: Method

    @property
    def in_two_steps(self) -> bool:
        """Whether these settings need only the base's best items."""
        return self.base.sharded and not self.needs_row


class Reranks(TwoSteps):
    """It scores the ``shortlist`` best items of its base again, above all others, which keep the base's scores.

    The new scores depend on the query and the ``shortlist`` + 1 best items alone. ``prepare`` then gets a gallery of
    such items, with the base's statistics of the whole gallery.
    """

    shortlist: int


class Expands(TwoSteps):
    """It ranks as its base, with queries that their ``neighbors`` best items have changed."""

    neighbors: int

    @abstractmethod
    def expanded(self, queries: Queries, items: Tensor, scores: Tensor) -> Queries:
        """The changed queries, from the raw features ``items`` [B, n, D] of the base's best items of each, without its
        own picture, and their ``scores`` [B, n]; -inf: there is no such item."""


def prepared_scorer(method: Method, gallery: Gallery) -> Scorer:
    """``method.prepare(gallery)``. Raises CondsimError where that is no function."""
    scorer: object = method.prepare(gallery)
    if not callable(scorer):
        raise CondsimError(
            f"{type(method).__qualname__}.prepare returned {type(scorer).__name__}, expected a function of (queries, "
            "rows) that returns scores"
        )
    return cast(Scorer, scorer)
