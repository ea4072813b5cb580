"""Somebody else's rankings as a method, so that they are measured and recorded as every other run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from condsim.harness.errors import CondsimError, nearest_id
from condsim.harness.exchange.run_file import QueryRanking
from condsim.harness.files.hashing import content_digest
from condsim.harness.method import Gallery, Method, Queries, Scorer
from condsim.harness.task import ImageTable, Rows, Task
from condsim.harness.variants.fewer_queries import unique_query_ids


@dataclass(frozen=True)
class Places:
    """The rankings of a task's queries, as places: 0 for the best score of a query, equal scores at one place."""

    key: Rows
    """[n] query * images + row of the image table, sorted."""
    place: Rows
    """[n]"""
    last: Rows
    """[Q] the place after the last one of each query: that of every candidate that the query does not list."""
    images: int

    @property
    def digest(self) -> str:
        """The same for the same rankings, in whatever file and order they come."""
        return content_digest(self.key.tobytes() + self.place.tobytes())


def bind(task: Task, rankings: Mapping[str, QueryRanking]) -> tuple[Places, list[str]]:
    """The rankings of the queries of ``task``, and what to say about them, one sentence each.

    Raises CondsimError for a query without a ranking, and for ids that the task does not have.
    """
    queries = unique_query_ids(task)
    _require_same_queries(task, queries, rankings)
    rows = {name: row for row, name in enumerate(task.images.keys)}
    is_ranked = np.zeros(len(task.images), dtype=bool)
    is_ranked[task.gallery_rows] = True
    keys, places, last = [], [], np.zeros(len(task), dtype=np.int64)
    ignored = incomplete = ties = 0
    for number, name in enumerate(queries):
        ranking = rankings[name]
        items = _rows(task, ranking, rows)
        place = np.unique(-np.asarray(ranking.scores, dtype=np.float64), return_inverse=True)[1].astype(np.int64)
        known = _each_once(ranking, items, place)
        items, place = items[known], place[known]
        candidates = None if task.candidates is None else np.unique(task.candidates[number])
        counts = is_ranked[items] if candidates is None else np.isin(items, candidates)
        ignored += int((~counts).sum())
        items, place = items[counts], place[counts]
        incomplete += len(items) < (len(task.gallery_rows) if candidates is None else len(candidates))
        ties += len(np.unique(place)) < len(place)
        keys.append(number * len(task.images) + items)
        places.append(place)
        last[number] = place.max(initial=-1) + 1
    key = np.concatenate(keys)
    order = np.argsort(key)
    counts_by_note = (
        (incomplete, "do not list every candidate: those that are missing tie for the last place"),
        (ties, "have candidates with equal scores: every metric is its mean over all orders of them"),
    )
    notes = [f"{count} of {len(task)} queries {what}" for count, what in counts_by_note if count]
    notes += [f"{ignored} entries that are no candidates of their query were ignored"] if ignored else []
    return Places(key[order], np.concatenate(places)[order], last, len(task.images)), notes


def _require_same_queries(task: Task, queries: Sequence[str], rankings: Mapping[str, QueryRanking]) -> None:
    unknown = next((ranking for name, ranking in rankings.items() if name not in set(queries)), None)
    if unknown is not None:
        raise CondsimError(
            f"{unknown.where}: {task.full_name} has no query {unknown.query!r}. {nearest_id(unknown.query, queries)} "
            "`condsim export` writes files with the ids of a task"
        )
    missing = [name for name in queries if name not in rankings]
    if missing:
        raise CondsimError(
            f"{len(missing)} of the {len(queries)} queries of {task.full_name} have no ranking, the first is query "
            f"{missing[0]!r}. To measure a part of the queries, list their ids in a file and give queries_from=FILE"
        )


def _rows(task: Task, ranking: QueryRanking, rows: Mapping[str, int]) -> Rows:
    try:
        return np.array([rows[item] for item in ranking.items], dtype=np.int64)
    except KeyError as error:
        item = str(error.args[0])
        raise CondsimError(
            f"{ranking.where}: query {ranking.query!r} ranks {item!r}, which is no image of {task.full_name}. "
            f"{nearest_id(item, rows)}"
        ) from None


def _each_once(ranking: QueryRanking, listed: Rows, place: Rows) -> NDArray[np.int64]:
    """Positions of the entries, each item once. Raises CondsimError where an item has two scores."""
    _, first, inverse = np.unique(listed, return_index=True, return_inverse=True)
    differs = np.flatnonzero(place != place[first][inverse])
    if len(differs):
        raise CondsimError(
            f"{ranking.where}: query {ranking.query!r} gives {ranking.items[differs[0]]!r} two different scores"
        )
    return np.asarray(first, dtype=np.int64)


class ImportedRanking(Method):
    """Scores that put the candidates in the order of :class:`Places`, with its ties."""

    needs_reference = needs_condition = needs_text = False

    def __init__(self, places: Places) -> None:
        self.places = places

    def prepare(self, gallery: Gallery) -> Scorer:
        places, table_rows = self.places, torch.as_tensor(gallery.rows).numpy()

        def score(queries: Queries, rows: Tensor | None = None) -> Tensor:
            assert queries.row is not None  # the engine's queries have it
            which = queries.row.cpu().numpy()[:, None]
            items = table_rows if rows is None else table_rows[rows.cpu().numpy()]
            wanted = which * places.images + (items if items.ndim == 2 else items[None, :])
            found = np.minimum(np.searchsorted(places.key, wanted), max(0, len(places.key) - 1))
            listed = places.key[found] == wanted if len(places.key) else np.zeros(wanted.shape, dtype=bool)
            place = np.where(listed, places.place[found] if len(places.key) else 0, places.last[which])
            return torch.from_numpy(-place.astype(np.float64))

        return score


class NoFeatures:
    """The backbone of a run that needs none: no picture is read."""

    def __init__(self, name: str, notes: Sequence[str] = ()) -> None:
        self.name, self._notes = name, list(notes)

    @property
    def identity(self) -> dict[str, str]:
        return {"features": "none"}

    @property
    def width(self) -> int:
        return 1

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def encode_images(self, table: ImageTable) -> Tensor:
        return torch.zeros(len(table), 1)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        return torch.zeros(len(texts), 1)

    def images_digest(self, table: ImageTable) -> str:
        return ""

    def notes(self, table: ImageTable, texts: Sequence[str]) -> list[str]:
        """What the import has to say, for the record."""
        return list(self._notes)
