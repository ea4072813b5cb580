"""The best of each row: equals in the order of their positions, a gallery in pieces as if it were whole."""

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
"""The best of a row are looked for among the maxima of so many places at a time."""
_WIDE_FOLD = 16
"""And places that beat the best so far, which are few, among the maxima of so many."""


@dataclass(frozen=True)
class Top:
    """[B, k] the best scores and their positions, best first; -inf at position -1 where there are no more."""

    scores: Tensor
    positions: Tensor


def top_positions(scores: Tensor, k: int) -> Top:
    """The k highest of [B, N] scores, equals in the order of their positions. -inf scores take no place."""
    items = scores.shape[1]
    width, folds = min(k, items), items // _FOLD
    if folds <= 4 * width:
        best, where = scores.sort(dim=1, descending=True, stable=True)
        return _filled_up(best[:, :width], where[:, :width], k)
    # Each of the best is in one of the `width` folds with the highest maxima: the rest of the row is read only once.
    maxima = scores[:, : folds * _FOLD].reshape(-1, _FOLD, folds).amax(dim=1)
    highest, chosen = maxima.topk(width, dim=1)
    device = scores.device
    inside = chosen[:, None, :] + folds * torch.arange(_FOLD, device=device)[:, None]
    tail = torch.arange(folds * _FOLD, items, device=device).expand(len(scores), -1)
    where = torch.cat([inside.flatten(1), tail], dim=1).sort(dim=1).values
    best, order = scores.gather(1, where).sort(dim=1, descending=True, stable=True)
    best, where = best[:, :width], where.gather(1, order[:, :width])
    # A fold that was not chosen may hold equals of the last one, at earlier positions: such rows are sorted in full.
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
    """The first k of ``top`` without the entries (query, position): wide enough if it has k more than any query's."""
    if not len(owner):
        return Top(top.scores[:, :k], top.positions[:, :k])
    where = top.positions.cpu().numpy()
    gone = _among(np.arange(len(where))[:, None], where, owner, position) & (where >= 0)
    scores = top.scores.masked_fill(torch.from_numpy(gone).to(top.scores.device), -torch.inf)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    return _filled_up(scores[:, :k], top.positions.gather(1, order)[:, :k], k)


def _among(row: Rows, position: Rows, owner: Rows, place: Rows) -> NDArray[np.bool_]:
    """Which of the entries (``row``, ``position``) are among the entries (``owner``, ``place``), at least one."""
    width = 1 + max(position.max(initial=0), place.max())
    return np.isin(row * width + position, owner * width + place)


class Best:
    """The k best of each of B rows, of scores that come in pieces along the gallery.

    The entries (row ``owner[i]``, ``position[i]``) are left out.
    Once each row has k, only scores above the last of them matter. They are few, and merged now and then.
    """

    def __init__(self, k: int, owner: Rows, position: Rows) -> None:
        self._k = k
        self._owner, self._position = owner, position
        self._top: Top | None = None
        # What was found since the last merge, in arrays of one size: small ones that stay would lie between the large
        # ones that come and go, and memory would grow with the gallery.
        self._found: tuple[Rows, Rows, Floats] | None = None
        self._used = 0

    def add(self, scores: Tensor, start: int) -> None:
        """The next [B, n] scores, which begin at position ``start``."""
        if self._top is not None and bool((self._top.scores[:, -1] > -torch.inf).all()):
            found = _above(self._top.scores[:, -1:], scores)
            if found is not None:
                row, place, score = found
                self._keep(row, place + start, score)
                return
        self._merge()
        inside = (self._position >= start) & (self._position < start + scores.shape[1])
        owner, place = self._owner[inside], self._position[inside] - start
        most = int(np.bincount(owner).max(initial=0))
        piece = drop(top_positions(scores, self._k + most), owner, place, self._k)
        self._top = _merged(self._top, piece, start)

    def top(self) -> Top:
        """The best of what was added so far, at least one piece."""
        self._merge()
        assert self._top is not None
        return self._top

    def _keep(self, *found: NDArray[Any]) -> None:
        """Rows, positions and scores, for the next merge, which is now where there is no room for them."""
        assert self._top is not None
        if self._found is None:
            room = self._top.scores.numel()
            self._found = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, found[2].dtype)
        new = slice(self._used, self._used + len(found[0]))
        if new.stop > len(self._found[0]):
            self._merge(*found)
            return
        for kept, part in zip(self._found, found, strict=True):
            kept[new] = part
        self._used = new.stop

    def _merge(self, *more: NDArray[Any]) -> None:
        """Merge what was found, and ``more``."""
        if self._top is None or self._found is None:
            return
        parts: list[NDArray[Any]] = [kept[: self._used] for kept in self._found]
        if more:
            parts = [np.concatenate(pair) for pair in zip(parts, more, strict=True)]
        self._used = 0
        row, position, score = parts
        if len(row) and len(self._owner):
            kept = ~_among(row, position, self._owner, self._position)
            row, position, score = row[kept], position[kept], score[kept]
        if len(row):
            self._top = _with(self._top, row, position, score)


def _above(last: Tensor, scores: Tensor) -> tuple[Rows, Rows, Floats] | None:
    """Row, place and score, flat, of the scores above ``last`` [B, 1]; None where they are not few."""
    rows, items = scores.shape
    folds = items // _WIDE_FOLD
    inside = folds * _WIDE_FOLD
    maxima = scores[:, :inside].reshape(rows, _WIDE_FOLD, folds).amax(dim=1)
    row, fold = _places_above(last, maxima)
    if 8 * _WIDE_FOLD * len(row) > scores.numel():
        return None
    tail_row, tail = _places_above(last, scores[:, inside:])
    places = fold[:, None] + folds * np.arange(_WIDE_FOLD)
    row, place = np.append(np.repeat(row, _WIDE_FOLD), tail_row), np.append(places, tail + inside)
    score = pick(scores, row, place)
    above = score > last[:, 0].cpu().numpy()[row]
    return row[above], place[above], score[above]


def _places_above(last: Tensor, values: Tensor) -> tuple[Rows, Rows]:
    """Rows and columns of the ``values`` above ``last``."""
    # NumPy compares in vector instructions where torch does not; its own search of a matrix is slow.
    on_cpu = values.device.type == "cpu"
    flags = values.numpy() > last.numpy() if on_cpu else (values > last).cpu().numpy()
    return np.divmod(np.flatnonzero(flags), max(1, flags.shape[1]))


def _with(best: Top, row: Rows, position: Rows, value: Floats) -> Top:
    """``best``, its k places full, with more entries at later positions."""
    k = best.scores.shape[1]
    touched, among = np.unique(row, return_inverse=True)
    which = torch.from_numpy(touched).to(best.scores.device)
    rows = np.concatenate([np.repeat(np.arange(len(touched)), k), among])
    scores = np.concatenate([best.scores[which].flatten().cpu().numpy(), value])
    positions = np.concatenate([best.positions[which].flatten().cpu().numpy(), position])
    order = np.lexsort((positions, -scores, rows))
    first = np.searchsorted(rows[order], np.arange(len(touched)))
    kept = order[np.arange(len(order)) - first[rows[order]] < k]
    filled = (torch.from_numpy(part[kept].reshape(-1, k)).to(which.device) for part in (scores, positions))
    return Top(best.scores.index_copy(0, which, next(filled)), best.positions.index_copy(0, which, next(filled)))


def _merged(best: Top | None, chunk: Top, start: int) -> Top:
    """``best`` of the gallery before position ``start``, and the top of the chunk that begins there, as one."""
    positions = torch.where(chunk.positions < 0, -1, chunk.positions + start)
    if best is None:
        return Top(chunk.scores, positions)
    scores = torch.cat([best.scores, chunk.scores], dim=1)
    order = scores.sort(dim=1, descending=True, stable=True)
    k = best.scores.shape[1]
    where = torch.cat([best.positions, positions], dim=1).gather(1, order.indices)
    return Top(order.values[:, :k], where[:, :k])
