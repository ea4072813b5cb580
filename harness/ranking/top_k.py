"""Streaming top-k per row: ties keep the order of positions, and a gallery in chunks gives the result of the whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from condsim.harness.ranking.counting import Floats, pick
from condsim.harness.task import Rows

_FOLD = 8
"""Number of positions per fold. Top-k first searches the maxima of the folds."""
_WIDE_FOLD = 16
"""Number of positions per fold in the search for scores above the k-th best so far, which are few."""


@dataclass(frozen=True)
class Top:
    """[B, k] the best scores and their positions, best first; padded with -inf at position -1."""

    scores: Tensor
    positions: Tensor


def top_positions(scores: Tensor, k: int) -> Top:
    """The k highest of [B, N] scores; ties keep the order of positions. Scores of -inf are left out."""
    items = scores.shape[1]
    width, folds = min(k, items), items // _FOLD
    if folds <= 4 * width:
        best, where = scores.sort(dim=1, descending=True, stable=True)
        return _filled_up(best[:, :width], where[:, :width], k)
    # The best are in the `width` folds with the highest maxima, so the rest of the row is read only once.
    maxima = scores[:, : folds * _FOLD].reshape(-1, _FOLD, folds).amax(dim=1)
    highest, chosen = maxima.topk(width, dim=1)
    device = scores.device
    inside = chosen[:, None, :] + folds * torch.arange(_FOLD, device=device)[:, None]
    tail = torch.arange(folds * _FOLD, items, device=device).expand(len(scores), -1)
    where = torch.cat([inside.flatten(1), tail], dim=1).sort(dim=1).values
    best, order = scores.gather(1, where).sort(dim=1, descending=True, stable=True)
    best, where = best[:, :width], where.gather(1, order[:, :width])
    # A fold that was not chosen may contain ties of the last score at earlier positions: such rows are sorted in full.
    last = best[:, -1:]
    left_out = (maxima >= last).sum(dim=1) > (highest >= last).sum(dim=1)
    for row in (left_out & torch.isfinite(last[:, 0])).nonzero().flatten().tolist():
        full, place = scores[row].sort(descending=True, stable=True)
        best[row], where[row] = full[:width], place[:width]
    return _filled_up(best, where, k)


def _filled_up(best: Tensor, where: Tensor, k: int) -> Top:
    missing = (0, k - best.shape[1])
    where = where.masked_fill(best == -torch.inf, -1)
    return Top(
        torch.nn.functional.pad(best, missing, value=-torch.inf), torch.nn.functional.pad(where, missing, value=-1)
    )


def drop(top: Top, owner: Rows, position: Rows, k: int) -> Top:
    """The first k of ``top`` without the entries (query, position); ``top`` needs k columns plus one per entry."""
    if not len(owner):
        return Top(top.scores[:, :k], top.positions[:, :k])
    where = top.positions.cpu().numpy()
    dropped = _among(np.arange(len(where))[:, None], where, owner, position) & (where >= 0)
    scores = top.scores.masked_fill(torch.from_numpy(dropped).to(top.scores.device), -torch.inf)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    return _filled_up(scores[:, :k], top.positions.gather(1, order)[:, :k], k)


def _among(row: Rows, position: Rows, owner: Rows, place: Rows) -> NDArray[np.bool_]:
    """Which entries (``row``, ``position``) are among the entries (``owner``, ``place``), at least one."""
    width = 1 + max(position.max(initial=0), place.max())
    return np.isin(row * width + position, owner * width + place)


class Best:
    """The k best of each of B rows, from scores that arrive in chunks of the gallery.

    The entries (row ``owner[i]``, ``position[i]``) are left out. Once each row has k scores, only scores above the k-th
    matter. They are few, so they are collected and merged in batches.
    """

    def __init__(self, k: int, owner: Rows, position: Rows) -> None:
        self._k = k
        self._owner, self._position = owner, position
        self._top: Top | None = None
        self._last: Floats | None = None
        """[B, 1] the k-th best, where every row has k on the CPU."""
        # Rows, positions and scores since the last merge, in buffers of fixed size: many small arrays would fragment
        # the heap, and memory would grow with the gallery.
        self._buffers: tuple[Rows, Rows, Floats] | None = None
        self._used = 0

    def add(self, scores: Tensor, start: int) -> None:
        """Add the next [B, n] scores, from position ``start`` on."""
        if self._last is not None:
            higher = _above(self._last, scores)
            if higher is not None:
                row, place, score = higher
                self._collect(row, place + start, score)
                return
        self._merge()
        inside = (self._position >= start) & (self._position < start + scores.shape[1])
        owner, place = self._owner[inside], self._position[inside] - start
        most = int(np.bincount(owner).max(initial=0))
        piece = drop(top_positions(scores, self._k + most), owner, place, self._k)
        self._keep(_merged(self._top, piece, start))

    def top(self) -> Top:
        """The k best of all added scores. Needs at least one ``add``."""
        self._merge()
        assert self._top is not None
        return self._top

    def _collect(self, *entries: NDArray[Any]) -> None:
        """Store ``entries`` (rows, positions, scores) for the next merge; merge now if the buffers are full."""
        assert self._top is not None
        if self._buffers is None:
            size = self._top.scores.numel()
            self._buffers = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, entries[2].dtype)
        new = slice(self._used, self._used + len(entries[0]))
        if new.stop > len(self._buffers[0]):
            self._merge(*entries)
            return
        for buffer, part in zip(self._buffers, entries, strict=True):
            buffer[new] = part
        self._used = new.stop

    def _merge(self, *more: NDArray[Any]) -> None:
        """Merge the collected entries, and ``more``."""
        if self._top is None or self._buffers is None:
            return
        parts: list[NDArray[Any]] = [buffer[: self._used] for buffer in self._buffers]
        if more:
            parts = [np.concatenate(pair) for pair in zip(parts, more, strict=True)]
        self._used = 0
        row, position, score = parts
        if len(row) and len(self._owner):
            ranked = ~_among(row, position, self._owner, self._position)
            row, position, score = row[ranked], position[ranked], score[ranked]
        if len(row):
            self._keep(_with(self._top, row, position, score))

    def _keep(self, top: Top) -> None:
        self._top = top
        last = top.scores[:, -1:]
        # On other devices the best of a chunk are quicker than ``_above``, which waits for the device.
        full = last.device.type == "cpu" and bool((last > -torch.inf).all())
        self._last = last.numpy() if full else None


def _above(last: Floats, scores: Tensor) -> tuple[Rows, Rows, Floats] | None:
    """Row, column and score of the scores above ``last`` [B, 1], flat; None if they are many."""
    rows, items = scores.shape
    folds = items // _WIDE_FOLD
    inside = folds * _WIDE_FOLD
    maxima = scores[:, :inside].reshape(rows, _WIDE_FOLD, folds).amax(dim=1)
    row, fold = _places_above(last, maxima.numpy())
    if 8 * _WIDE_FOLD * len(row) > scores.numel():
        return None
    place = (fold[:, None] + folds * np.arange(_WIDE_FOLD)).ravel()
    row = np.repeat(row, _WIDE_FOLD)
    if inside < items:
        tail_row, tail = _places_above(last, scores[:, inside:].numpy())
        row, place = np.append(row, tail_row), np.append(place, tail + inside)
    score = pick(scores, row, place)
    above = score > last[row, 0]
    return row[above], place[above], score[above]


def _places_above(last: Floats, values: Floats) -> tuple[Rows, Rows]:
    """Rows and columns of the ``values`` above ``last``."""
    # NumPy vectorises the comparison, torch does not. NumPy's search is slow in a matrix and fast in a flat array.
    flags = values > last
    return np.divmod(np.flatnonzero(flags), max(1, flags.shape[1]))


def _with(best: Top, row: Rows, position: Rows, value: Floats) -> Top:
    """``best``, which has k scores per row, with more entries at later positions merged in."""
    k = best.scores.shape[1]
    touched, among = np.unique(row, return_inverse=True)
    which = torch.from_numpy(touched)
    rows = np.concatenate([np.repeat(np.arange(len(touched)), k), among])
    scores = np.concatenate([best.scores[which].flatten().numpy(), value])
    positions = np.concatenate([best.positions[which].flatten().numpy(), position])
    order = np.lexsort((positions, -scores, rows))
    first = np.searchsorted(rows[order], np.arange(len(touched)))
    highest = order[np.arange(len(order)) - first[rows[order]] < k]
    merged = (torch.from_numpy(part[highest].reshape(-1, k)) for part in (scores, positions))
    return Top(best.scores.index_copy(0, which, next(merged)), best.positions.index_copy(0, which, next(merged)))


def _merged(best: Top | None, chunk: Top, start: int) -> Top:
    """Merge ``best``, of the gallery before position ``start``, with the top of the chunk from ``start`` on."""
    positions = torch.where(chunk.positions < 0, -1, chunk.positions + start)
    if best is None:
        return Top(chunk.scores, positions)
    scores = torch.cat([best.scores, chunk.scores], dim=1)
    order = scores.sort(dim=1, descending=True, stable=True)
    k = best.scores.shape[1]
    where = torch.cat([best.positions, positions], dim=1).gather(1, order.indices)
    return Top(order.values[:, :k], where[:, :k])
