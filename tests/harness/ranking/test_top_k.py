"""The best of a row: by score, equals by position, whole or in pieces, against a full sort."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from condsim.harness.ranking.counting import count
from condsim.harness.ranking.top_k import Best, top_positions


def by_definition(row: np.ndarray, k: int) -> list[int]:
    best = [i for i in np.argsort(-row, kind="stable").tolist() if np.isfinite(row[i])][:k]
    return best + [-1] * (k - len(best))


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(0, 10) | st.integers(300, 700), st.integers(1, 200))
def test_the_top_breaks_ties_by_position(seed: int, k: int, width: int, levels: int) -> None:
    scores = np.random.default_rng(seed).integers(0, levels, (3, width)).astype(np.float32)
    scores[scores == 2] = -np.inf
    top = top_positions(torch.from_numpy(scores), k)
    for row, positions in zip(scores, top.positions.tolist(), strict=True):
        assert positions == by_definition(row, k)


@given(
    st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 1500), st.integers(10, 700), st.integers(2, 5000),
    st.sampled_from(["any", "rising", "falling"]), st.integers(0, 6),
)  # fmt: skip
def test_a_gallery_in_pieces_is_as_if_it_were_whole(
    seed: int, k: int, items: int, size: int, levels: int, order: str, gone: int
) -> None:
    """Ties within pieces and across them, pieces that all beat what came before, excluded entries among the best."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (4, items)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.01] = -np.inf
    if order != "any":
        scores = np.sort(scores, axis=1)[:, :: 1 if order == "rising" else -1].copy()
    owner, position = np.repeat(np.arange(4), gone), rng.integers(0, items, 4 * gone)
    position[::2] = np.argmax(scores, axis=1)[owner[::2]]
    pieces = Best(k, owner, position)
    for start in range(0, items, size):
        piece = torch.from_numpy(scores[:, start : start + size].copy())
        pieces.add(piece, start)
        total = count(piece, np.zeros((4, 0), dtype=np.float32)).total
        assert np.isfinite(total) == bool(torch.isfinite(piece).all())
    best = pieces.top()
    scores[owner, position] = -np.inf
    for row, positions, values in zip(scores, best.positions.tolist(), best.scores.tolist(), strict=True):
        expected = by_definition(row, k)
        assert positions == expected
        assert values == [row[i] if i >= 0 else -np.inf for i in expected]
