"""The compact letter display: which runs share a letter. Free of NumPy, so that a leaderboard reads letters at once."""

from __future__ import annotations

import re
from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def letters(alike: NDArray[np.bool_]) -> tuple[str, ...]:
    """A compact letter display of the symmetric [R, R] ``alike``: two runs share a letter exactly where it is true.

    Insert and absorb (Piepho, 2004): split every column of runs that holds a separable pair, and drop the columns that
    others contain. Letters go from the first run on.
    """
    runs = len(alike)
    columns = [frozenset(range(runs))]
    for i, j in combinations(range(runs), 2):
        if alike[i, j]:
            continue
        split = [
            part for column in columns for part in ([column - {i}, column - {j}] if {i, j} <= column else [column])
        ]
        distinct = sorted(set(split), key=lambda column: (-len(column), sorted(column)))
        columns = []
        for column in distinct:
            if not any(column <= kept for kept in columns):
                columns.append(column)
    columns.sort(key=sorted)
    names = [_letter(i) for i in range(len(columns))]
    return tuple("".join(name for name, column in zip(names, columns, strict=True) if i in column) for i in range(runs))


def _letter(i: int) -> str:
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return alphabet[i] if i < len(alphabet) else f"({i + 1})"


def share_letter(one: str, other: str) -> bool:
    """Whether two runs' letters say that they are not separable."""
    return not set(_LETTER.findall(one)).isdisjoint(_LETTER.findall(other))


_LETTER = re.compile(r"\([0-9]+\)|[A-Za-z]")
