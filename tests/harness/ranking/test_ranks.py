"""The file of ranks: what is read is what was written, and nothing else is taken for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from condsim.harness.errors import CondsimError
from condsim.harness.ranking.ranks import Ranks


def some_ranks() -> Ranks:
    offsets, above = np.array([0, 2, 2, 3]), np.array([0, 4, 7])
    relevant, irrelevant = np.array([1, 2, 1]), np.array([0, 3, 2])
    return Ranks(offsets, above, relevant, irrelevant, np.array([3, 0, 1]), np.array([20, 20, 10]), complete=True)


def assert_same(one: Ranks, other: Ranks) -> None:
    for name in ("offsets", "above", "relevant", "irrelevant", "total", "candidates"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.complete == other.complete


def test_ranks_come_back_as_saved(tmp_path: Path) -> None:
    some_ranks().save(tmp_path / "ranks.npz")
    some_ranks().save(tmp_path / "again.npz")
    assert_same(Ranks.load(tmp_path / "ranks.npz"), some_ranks())
    assert (tmp_path / "ranks.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()


def test_joining_and_taking() -> None:
    twice = Ranks.join([some_ranks(), some_ranks()])
    assert_same(twice.take(np.array([3, 4, 5])), some_ranks())
    turned = twice.take(np.array([2, 0]))
    assert turned.above.tolist() == [7, 0, 4]
    assert turned.rank.tolist() == [9.0, 1.0]


def test_the_rank_of_several_among_equals_is_the_expected_place_of_the_first() -> None:
    # Two relevant among three others of equal score, four above: the first is one of places 5 to 8.
    columns = [np.array(x) for x in ([0, 1], [4], [2], [3], [2], [9])]
    ranks = Ranks(*columns, complete=True)  # type: ignore[misc, arg-type]
    places = [5, 5, 5, 5, 6, 6, 6, 7, 7, 8]  # 10 equally likely pairs of places
    assert ranks.rank[0] == pytest.approx(np.mean(places))


def damage(path: Path, kind: str) -> None:
    whole = path.read_bytes()
    if kind == "missing":
        path.unlink()
    elif kind == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "flipped":
        path.write_bytes(whole[:80] + bytes([whole[80] ^ 255]) + whole[81:])
    elif kind == "text":
        path.write_text("not ranks")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "pickle":
        np.savez(path, offsets=np.array([{}], dtype=object))
    elif kind == "foreign":
        np.savez(path, values=np.arange(3))
    else:
        arrays = dict(np.load(path))
        wrong = {"short": arrays["total"][:1], "negative": -arrays["total"], "floats": arrays["total"] + 0.5}
        np.savez(path, **(arrays | {"total": wrong[kind]}))


KINDS = ["missing", "truncated", "flipped", "text", "empty", "pickle", "foreign", "short", "negative", "floats"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "ranks.npz"
    some_ranks().save(path)
    damage(path, kind)
    with pytest.raises(CondsimError, match=r"ranks\.npz cannot be read as ranks"):
        Ranks.load(path)
