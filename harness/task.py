"""The task contract: the output of every benchmark loader. A task holds no pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from condsim.harness.errors import CondsimError, did_you_mean
from condsim.harness.files.name_list import NameList
from condsim.harness.names import unusable_character

Rows = NDArray[np.int64]
_PER_QUERY = ("reference", "relevant", "candidates", "excluded", "subset", "target", "clusters", "query_ids")
"""Fields of a task with one entry per query, where they are set; ``condition`` says how many queries there are."""
_AT_ONCE = 1 << 20
"""Names or rows that are hashed at once."""
OnError = Literal["raise", "skip"]
CropRule = Literal["genecis", "plain"]
Condition = tuple[str, ...]
"""The text of one condition. More than one text means several conditions at once ("color" and "shape")."""


def condition_text(condition: Condition) -> str:
    """The condition as one text, as it is encoded and shown: "color and shape"."""
    return " and ".join(condition)


@dataclass(frozen=True)
class Ragged:
    """Integer lists of different lengths in one array (CSR): list ``i`` is ``values[offsets[i]:offsets[i + 1]]``.

    >>> relevant = Ragged.of([[4, 7], [], [1]])  # of query 0: rows 4 and 7; of query 1: none; of query 2: row 1
    >>> relevant[0].tolist(), relevant.lengths.tolist()
    ([4, 7], [2, 0, 1])
    >>> Ragged.of([[3], [5]]).values.tolist()
    [3, 5]
    """

    offsets: Rows
    values: Rows

    @classmethod
    def of(cls, lists: Iterable[ArrayLike]) -> Ragged:
        parts = [np.asarray(part, dtype=np.int64).reshape(-1) for part in lists]
        offsets = np.zeros(len(parts) + 1, dtype=np.int64)
        np.cumsum([len(part) for part in parts], out=offsets[1:])
        return cls(offsets, np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> Rows:
        return self.values[self.offsets[i] : self.offsets[i + 1]]

    @property
    def lengths(self) -> Rows:
        return np.diff(self.offsets)

    @property
    def owner(self) -> Rows:
        """[len(values)] the list that holds each value."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def among(self, others: Ragged) -> NDArray[np.bool_]:
        """[len(values)] whether each value of list ``i`` is in list ``i`` of ``others``; -1 never is."""
        size = 1 + max(int(self.values.max(initial=0)), int(others.values.max(initial=0)))
        among: NDArray[np.bool_] = np.isin(self.owner * size + self.values, others.owner * size + others.values)
        return among & (self.values >= 0)

    def take(self, which: Rows) -> Ragged:
        """The lists ``which``, in that order."""
        lengths = self.lengths[which]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        return Ragged(offsets, self.values[np.repeat(self.offsets[:-1][which], lengths) + within])

    def part(self, start: int, stop: int) -> Ragged:
        """The lists from ``start`` to ``stop``, without copying them."""
        offsets = self.offsets[start : stop + 1]
        return Ragged(offsets - offsets[0], self.values[offsets[0] : offsets[-1]])

    def keep(self, which: NDArray[np.bool_]) -> Ragged:
        """The lists with those of ``values`` that ``which`` marks."""
        return Ragged(np.concatenate([[0], np.cumsum(which)]).astype(np.int64)[self.offsets], self.values[which])

    def padded(self, fill: int = -1) -> Rows:
        """[len(self), longest list], short lists filled up with ``fill``."""
        lengths = self.lengths
        out = np.full((len(self), int(lengths.max(initial=0))), fill, dtype=np.int64)
        out[np.arange(out.shape[1]) < lengths[:, None]] = self.values
        return out


@dataclass(frozen=True)
class ImageTable:
    """Every distinct picture of a task, once; all other fields refer to it by row.

    ``names`` identify the pictures, the same on every machine: paths relative to ``root``, with ``/``; ``files`` has
    the paths that differ from the name. ``boxes`` is float64 [n, 4] in pixels, NaN for a whole image. A row with a box
    is cropped by the rule ``crop`` (``harness.images.crop_by_rule``): "genecis" reads a box as (x, y, width, height)
    and dilates it by ``dilation``, "plain" reads it as (left, top, right, bottom).
    """

    root: Path
    names: Sequence[str]
    """A tuple, or a ``NameList`` for millions of pictures."""
    boxes: NDArray[np.float64] | None = None
    dilation: float = 0.7
    files: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Name -> path relative to ``root``, if the two differ: the same pictures in other folders."""
    crop: CropRule = "genecis"

    def __post_init__(self) -> None:
        if self.boxes is not None and self.boxes.shape != (len(self.names), 4):
            raise CondsimError(f"{self.root}: boxes of shape {self.boxes.shape} for {len(self.names)} pictures")

    def __len__(self) -> int:
        return len(self.names)

    def file(self, name: str) -> str:
        """The path relative to ``root`` of the picture ``name``."""
        return self.files.get(name, name)

    def path(self, row: int) -> Path:
        return self.root / self.file(self.names[row])

    def box(self, row: int) -> NDArray[np.float64] | None:
        """float64 [4], None where the row is the whole image."""
        if self.boxes is None or np.isnan(self.boxes[row]).all():
            return None
        box: NDArray[np.float64] = self.boxes[row]
        return box

    @cached_property
    def keys(self) -> Sequence[str]:
        """The name of each row in files of others: the picture's, and the box of a row that is cropped:
        "street.jpg#10,20,64,48.5"."""
        if self.boxes is None:
            return self.names
        boxes = map(self.box, range(len(self)))
        return tuple(
            name if box is None else f"{name}#{','.join(map(_shortest, box.tolist()))}"
            for name, box in zip(self.names, boxes, strict=True)
        )

    def take(self, rows: Rows) -> ImageTable:
        names = self.names
        some = names.take(rows) if isinstance(names, NameList) else tuple(names[row] for row in rows)
        return replace(self, names=some, boxes=None if self.boxes is None else self.boxes[rows])


@dataclass(frozen=True)
class Kinds:
    """The kind of each entry of ``Task.candidates.values``: ``names[codes[i]]`` (-1: not known)."""

    names: tuple[str, ...]
    codes: Rows


@dataclass(frozen=True)
class Labels:
    """Labels of the queries, by which results are broken down (CIRCO's semantic aspects)."""

    names: tuple[str, ...]
    codes: Ragged
    """Q lists of indices into ``names``; a query may have several labels or none."""


@dataclass(frozen=True)
class Submission:
    """The files for a benchmark's official server, which alone has the ground truth."""

    top: int
    """Number of best candidates per query in the files."""
    write: Callable[[Task, Rows, Rows, Path], object]
    """(task, best gallery rows [Q, top], best subset rows [Q, top], folder) -> the files, in that folder. Without
    subsets the third is [Q, 0]."""


@dataclass(frozen=True)
class Task:
    """One set of Q queries with one gallery and one list of metrics.

    A query ranks either its own ``candidates`` (rows of ``images``, one list per query, including the relevant rows; a
    list may contain a row twice) or the whole ``gallery`` (rows of ``images``) without its ``excluded`` rows. Exactly
    one of ``candidates`` and ``gallery`` is set.
    """

    benchmark: str
    name: str
    images: ImageTable
    conditions: tuple[Condition, ...]
    """The distinct conditions."""
    condition: Rows
    """[Q] index into ``conditions``; -1: no condition."""
    reference: Rows
    """[Q] row of ``images``; -1: no reference."""
    relevant: Ragged
    """Q lists of rows of ``images``; a query with an empty list is refused unless the task has no metrics or
    ``counts_unanswerable``."""
    metrics: tuple[str, ...]
    """For example ("recall@1", "subset_recall@1", "map", "map@50", "ndcg@50", "mrr"): see ``harness.ranking.metrics``.
    The first one is the headline metric: it is shown where only one is, and it is tested. Empty if the ground truth is
    withheld (CIRR test1)."""
    candidates: Ragged | None = None
    gallery: Rows | range | None = None
    """A range of consecutive rows takes no memory."""
    excluded: Ragged | None = None
    """Q lists of rows that the query does not rank, such as its own image."""
    subset: Ragged | None = None
    """Q lists of gallery rows in which the ``subset_`` metrics rank, with the same scores (CIRR's image sets)."""
    clusters: Rows | None = None
    """[Q] bootstrap cluster (GeneCIS and CIRR: the reference; MIT-States: the noun). None: independent queries."""
    cluster_name: str = "query"
    query_ids: tuple[str, ...] | None = None
    """[Q] the benchmark's own ids (CIRR's pairid); None: the position."""
    kinds: Kinds | None = None
    labels: Labels | None = None
    target: Rows | None = None
    """[Q] the relevant row for the ``target_`` metrics, if queries have several relevant rows (CIRCO)."""
    counts_unanswerable: bool = False
    """Whether queries with nothing relevant count 0 in every metric, as the released code of the benchmark counts them
    (FreeDom: 4,700 of ImageNet-R's 10,000 photographs have no origami of their class)."""
    texts: tuple[tuple[str, ...], ...] | None = None
    """For each condition the texts whose unit features are averaged into its text feature; None: its own text."""
    variant: str = ""
    """The settings, and the subset of queries, that give this task another question set than its default."""
    submission: Submission | None = None
    skipped: tuple[str, ...] = ()
    """One message per image or query that the loader left out because of ``on_error=skip``."""

    @property
    def full_name(self) -> str:
        return f"{self.benchmark}/{self.name}"

    @cached_property
    def query_names(self) -> tuple[str, ...]:
        """The name of each query in files of others, "<task>/<id>": with the benchmark's own id, else the position."""
        ids = self.query_ids or map(str, range(len(self)))
        return tuple(f"{self.name}/{ident}" for ident in ids)

    def described(self, query: int) -> str:
        """A query in words, for messages: "query 3 (id 17, reference a.png, condition 'color')"."""
        row, code = int(self.reference[query]), int(self.condition[query])
        parts = [f"id {self.query_ids[query]}"] if self.query_ids else []
        parts += [f"reference {self.images.keys[row]}"] if row >= 0 else []
        parts += [f"condition {condition_text(self.conditions[code])!r}"] if code >= 0 else []
        return f"query {query} ({', '.join(parts)})" if parts else f"query {query}"

    def __len__(self) -> int:
        return len(self.condition)

    def __post_init__(self) -> None:
        where = f"task {self.full_name}"
        queries, images = len(self.condition), len(self.images)
        if (self.candidates is None) == (self.gallery is None):
            raise CondsimError(f"{where}: set exactly one of candidates and gallery")
        for what, name in (("benchmark", self.benchmark), ("task", self.name)):
            if problem := "no letter" if name == "" else unusable_character(name):
                raise CondsimError(f"the name of the {what} holds {problem}: {name!a}")
        if queries == 0:
            raise CondsimError(f"{where}: the task has no queries")
        sizes = {label: len(part) for label in _PER_QUERY if (part := getattr(self, label)) is not None}
        sizes |= {} if self.labels is None else {"labels": len(self.labels.codes)}
        for label, size in sizes.items():
            if size != queries:
                raise CondsimError(f"{where}: {label} has {size} entries for {queries} queries")
        _within(f"{where}: condition", self.condition, -1, len(self.conditions))
        _within(f"{where}: reference", self.reference, -1, images)
        for label in ("relevant", "candidates", "excluded", "subset"):
            lists: Ragged | None = getattr(self, label)
            if lists is not None:
                _within(f"{where}: {label}", lists.values, 0, images)
        if self.gallery is not None:
            bounds = self.gallery
            if isinstance(bounds, range):
                bounds = np.array([bounds.start, bounds.stop - 1]) if bounds.step == 1 else np.asarray(bounds)
            elif not (np.diff(bounds) > 0).all() and len(np.unique(bounds)) < len(bounds):
                raise CondsimError(f"{where}: the gallery has a row twice")
            _within(f"{where}: gallery", bounds, 0, images)
            if len(self.gallery) == 0:
                raise CondsimError(f"{where}: the gallery is empty")
        if self.texts is not None and (len(self.texts) != len(self.conditions) or not all(self.texts)):
            raise CondsimError(f"{where}: texts has to name at least one text for each of the conditions")
        if self.labels is not None:
            _within(f"{where}: labels", self.labels.codes.values, 0, len(self.labels.names))
        if self.metrics and not self.relevant.lengths.all() and not self.counts_unanswerable:
            first = int(np.flatnonzero(self.relevant.lengths == 0)[0])
            raise CondsimError(f"{where}: query {first} has nothing relevant in the gallery")
        self._require(self.relevant, "a relevant row", "candidates")
        if self.target is not None:
            _within(f"{where}: target", self.target, 0, images)
            self._require(Ragged.of(self.target[:, None]), "the target", "relevant rows")
        if self.kinds is not None and self.candidates is not None:
            entries, codes = len(self.candidates.values), len(self.kinds.codes)
            if codes != entries:
                raise CondsimError(f"{where}: kinds has {codes} codes for {entries} candidates")

    @cached_property
    def gallery_rows(self) -> Rows:
        """The rows of all images that are a candidate of at least one query, each row once."""
        if self.gallery is not None:
            return np.asarray(self.gallery, dtype=np.int64)
        assert self.candidates is not None
        return np.unique(self.candidates.values)

    @property
    def gallery_size(self) -> int:
        """The number of ``gallery_rows``."""
        return len(self.gallery_rows if self.gallery is None else self.gallery)

    def rows_at(self, positions: Rows) -> Rows:
        """The image rows of gallery ``positions``, of any shape."""
        if self.gallery_range is not None:
            return positions + self.gallery_range.start
        rows: Rows = self.gallery_rows[positions]
        return rows

    def positions_of(self, rows: Rows) -> Rows:
        """The gallery positions of image ``rows``; -1 where a row is not in the gallery."""
        if (here := self.gallery_range) is not None:
            return np.where((rows >= here.start) & (rows < here.stop), rows - here.start, -1)
        place = np.full(len(self.images), -1, dtype=np.int64)
        place[self.gallery_rows] = np.arange(self.gallery_size)
        return place[rows]

    @cached_property
    def gallery_range(self) -> range | None:
        """The gallery, where its rows follow each other."""
        if isinstance(self.gallery, range):
            return self.gallery if self.gallery.step == 1 else None
        if self.gallery is None or not (np.diff(self.gallery) == 1).all():
            return None
        return range(int(self.gallery[0]), int(self.gallery[-1]) + 1)

    def _require(self, lists: Ragged, what: str, among: str) -> None:
        """Raises CondsimError for an entry that is not among the candidates, or the relevant rows, of its query."""
        own = self.relevant if among == "relevant rows" else self.candidates
        missing = self.positions_of(lists.values) < 0 if own is None else ~lists.among(own)
        if missing.any():
            query = int(lists.owner[missing][0])
            raise CondsimError(f"task {self.full_name}: {what} of query {query} is not among its {among}")

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all inputs of a metric except pixels; the same on every machine and for every folder layout."""
        digest = hashlib.blake2b(digest_size=16)

        def add(label: str, array: NDArray[np.generic] | None) -> None:
            digest.update(f"|{label}:".encode())
            if array is not None:
                digest.update(f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())

        digest.update(repr((self.full_name, self.conditions, self.metrics, self.images.dilation)).encode())
        for start in range(0, len(self.images.names), _AT_ONCE):
            names = "\0".join(self.images.names[start : start + _AT_ONCE])
            digest.update((f"\0{names}" if start else names).encode())
        add("boxes", self.images.boxes)
        add("condition", self.condition)
        add("reference", self.reference)
        if isinstance(self.gallery, range):  # as the array of its rows
            digest.update(f"|gallery:int64{(len(self.gallery),)}".encode())
            for start in range(0, len(self.gallery), _AT_ONCE):
                digest.update(np.asarray(self.gallery[start : start + _AT_ONCE], dtype=np.int64).tobytes())
        else:
            add("gallery", self.gallery)
        add("clusters", self.clusters)
        if self.images.crop != "genecis":
            digest.update(f"|crop:{self.images.crop}".encode())
        if self.texts is not None:  # tasks without these fields keep the fingerprints that their records have
            digest.update(f"|texts:{self.texts!r}".encode())
        if self.target is not None:
            add("target", self.target)
        for label in ("relevant", "candidates", "excluded", "subset"):
            lists: Ragged | None = getattr(self, label)
            add(f"{label}.offsets", None if lists is None else lists.offsets)
            add(f"{label}.values", None if lists is None else lists.values)
        return digest.hexdigest()


@dataclass(frozen=True)
class TrainSplit:
    """The training data for methods: pictures of the training split, and phrases."""

    images: ImageTable
    phrases: tuple[str, ...] = ()


Headline = tuple[tuple[str, str], ...]
"""(task name, metric) pairs whose plain mean is a headline number of the field."""


@dataclass(frozen=True)
class Benchmark:
    """A benchmark as loaded: its tasks, its training split, and the headline means over (task, metric) pairs."""

    name: str
    tasks: tuple[Task, ...]
    train: TrainSplit | None = None
    headlines: Mapping[str, Headline] = field(default_factory=dict)
    on_error: OnError | None = None
    """The user's setting for unusable images; None: the benchmark has no such setting."""
    notes: tuple[str, ...] = ()
    """Notes on the data for the user that are not in the records, one sentence each."""
    protocol: int = 1
    """Part of a run's identity. Increase it in the loader when numbers may change although tasks keep their
    fingerprints, as when another rule crops the pictures."""

    def select(self, names: Sequence[str] | None) -> Benchmark:
        """Only the tasks ``names`` (None: all of them)."""
        if names is None:
            return self
        known = {task.name: task for task in self.tasks}
        for name in names:
            if name not in known:
                raise CondsimError(f"benchmark {self.name} has no task {name!r}. {did_you_mean(name, known)}")
        return replace(self, tasks=tuple(known[name] for name in names))


def _shortest(number: float) -> str:
    return str(int(number)) if number.is_integer() else repr(number)


def _within(label: str, rows: Rows, low: int, high: int) -> None:
    if rows.dtype != np.int64:
        raise CondsimError(f"{label}: rows must be int64, not {rows.dtype}")
    if len(rows) and (rows.min() < low or rows.max() >= high):
        raise CondsimError(f"{label}: rows must be in [{low}, {high}), found {rows.min()} to {rows.max()}")
