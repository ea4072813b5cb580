"""The compact letter display: which runs share a letter. Does not import NumPy, so that a leaderboard loads fast."""

from __future__ import annotations

import re
from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def letters(alike: NDArray[np.bool_]) -> tuple[str, ...]:
    """A compact letter display of the symmetric [R, R] ``alike``: two runs share a letter exactly if it is true.

    Insert and absorb (Piepho, 2004): split every column of runs that contains a pair with a significant difference,
    and drop the columns that are part of others. The first run gets the first letter.
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
            if not any(column <= larger for larger in columns):
                columns.append(column)
    columns.sort(key=sorted)
    names = [_letter(i) for i in range(len(columns))]
    return tuple("".join(name for name, column in zip(names, columns, strict=True) if i in column) for i in range(runs))


def _letter(i: int) -> str:
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return alphabet[i] if i < len(alphabet) else f"({i + 1})"


def share_letter(first: str, second: str) -> bool:
    """Whether two runs, given their letters, share one: they do not differ significantly."""
    return not set(_LETTER.findall(first)).isdisjoint(_LETTER.findall(second))


_LETTER = re.compile(r"\([0-9]+\)|[A-Za-z]")
