"""A gallery in several shards has the ranks, the best items and the scores of the same gallery in one."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise
from threading import get_ident
from time import sleep
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from builders import image_table
from condsim.harness.engine.local import LocalEngine
from condsim.harness.errors import CondsimError
from condsim.harness.method import Queries, TwoSided
from condsim.harness.one_vector import InnerProduct, unit
from condsim.harness.ranking.candidates import CandidateLists
from condsim.harness.ranking.engine import Grid, Ranking, queries_of, rank_shards, rank_task
from condsim.harness.ranking.shards import HeldShards, Shard
from condsim.harness.task import Ragged, Task
from encoders import cores


class Scores:
    """Scores from a table [conditions, items] by the query's condition."""

    def __init__(self, table: Tensor) -> None:
        self.table = table

    def __call__(self, queries: Queries, rows: Tensor | None = None) -> Tensor:
        scores = self.table[queries.condition]
        return scores if rows is None else scores[:, rows]


class AtOnce(TwoSided):
    """``Scores`` that several threads may compute; keeps the thread and the number of cores of each call."""

    concurrent = True

    def __init__(self, table: Tensor) -> None:
        self.table = table
        self.calls: set[tuple[int, int]] = set()

    def query_side(self, queries: Queries) -> Tensor:
        return queries.condition

    def score(self, side: Tensor, rows: Tensor | None = None) -> Tensor:
        self.calls.add((get_ident(), torch.get_num_threads()))
        scores = self.table[side]
        return scores if rows is None else scores[:, rows]


def one_query(items: int, relevant: list[int], **more: Any) -> Task:
    fixed: dict[str, Any] = {"metrics": ("map",), "gallery": range(items)}
    zero = np.zeros(1, dtype=np.int64)
    return Task("toy", "test", image_table(items), (("",),), zero, zero, Ragged.of([relevant]), **fixed | more)


def in_shards(task: Task, scorers: list[Any], cuts: list[int], grid: Grid, features: Tensor, top: int) -> Ranking:
    """The ranking by ``scorers``, one for the items between each two of ``cuts``."""
    shards = [
        partial(Shard, scorer, start, stop, torch.device("cpu"), task.full_name)
        for scorer, (start, stop) in zip(scorers, pairwise(cuts), strict=True)
    ]

    def side(which: Any) -> Any:
        reference = features[torch.from_numpy(task.reference[which])]
        queries = queries_of(task, which, reference, torch.zeros(len(task.conditions), features.shape[1]))
        return shards[0]().query_side(queries)

    return rank_shards(task, CandidateLists.of(task), grid, HeldShards(LocalEngine().hold(shards)), side, top=top)


def assert_same(found: Ranking, expected: Ranking) -> None:
    for ranks, others in ((found.ranks, expected.ranks), (found.subset_ranks, expected.subset_ranks)):
        assert (ranks is None) == (others is None)
        if ranks is not None:
            for name in ("offsets", "above", "relevant", "irrelevant", "total", "candidates"):
                np.testing.assert_array_equal(getattr(ranks, name), getattr(others, name))
    for name in ("top", "top_scores", "subset_top"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@st.composite
def galleries(draw: st.DrawFn) -> tuple[Task, Tensor, list[int], int]:
    """A task with many ties, exclusions and subsets, its scores, the cuts of its gallery and the chunk."""
    chunk, chunks, queries = draw(st.sampled_from([1, 2, 4])), draw(st.integers(2, 7)), draw(st.integers(1, 5))
    items = max(3, chunk * chunks - draw(st.integers(0, chunk - 1)))
    relevant, excluded, subset = [], [], []
    for _ in range(queries):
        order = draw(st.permutations(range(items)))
        hits = draw(st.integers(1, items - 1))
        relevant.append(order[:hits])
        excluded.append(order[hits : hits + draw(st.integers(0, items - hits))])
        subset.append([order[0], *draw(st.lists(st.sampled_from(order), max_size=4))])
    values = draw(st.lists(st.integers(-2, 2), min_size=queries * items, max_size=queries * items))
    edges = sorted(draw(st.sets(st.integers(0, len(range(0, items, chunk))), max_size=5)))
    task = Task(
        "toy", "test", image_table(items), tuple((str(i),) for i in range(queries)), np.arange(queries)[::-1].copy(),
        np.zeros(queries, dtype=np.int64), Ragged.of(relevant), draw(st.sampled_from([("recall@1",), ("map",)])),
        gallery=draw(st.sampled_from([range(items), np.arange(items)])), excluded=Ragged.of(excluded),
        subset=Ragged.of(subset),
    )  # fmt: skip
    cuts = [0, *(min(items, edge * chunk) for edge in edges), items]  # equal cuts are empty shards
    return task, torch.tensor(values, dtype=torch.float32).reshape(queries, items), cuts, chunk


@given(galleries(), st.integers(0, 4), st.sampled_from([1, 3, 512]), st.sampled_from([1, 3]))
def test_any_division_gives_the_ranking_of_the_whole(
    case: tuple[Task, Tensor, list[int], int], top: int, batch: int, threads: int
) -> None:
    task, table, cuts, chunk = case
    features = torch.zeros(len(task.images), 2)
    whole = rank_task(task, Scores(table), features, torch.zeros(len(task.conditions), 2), top=top)
    scorers = [AtOnce(table[:, start:stop]) for start, stop in pairwise(cuts)]
    with cores(threads):
        assert_same(in_shards(task, scorers, cuts, Grid(batch, chunk), features, top), whole)


def test_products_in_shards_have_the_bits_of_products_in_one() -> None:
    """Every product has the shape and the numbers that it has without shards, so no score differs in its last bit."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1500, 24, generator=generator)
    features[1::4] = features[::4]  # equal items in different shards
    task = Task(
        "toy", "real", image_table(1500), (("",),), np.zeros(40, dtype=np.int64), np.arange(40),
        Ragged.of([[i + 700, i + 1300, i + 2] for i in range(40)]), ("map",), gallery=range(1500),
        excluded=Ragged.of([[i] for i in range(40)]),
    )  # fmt: skip

    def scorer(start: int, stop: int) -> InnerProduct:
        return InnerProduct(unit(features[start:stop].clone()), lambda queries: queries.reference)

    grid = Grid(40, 128)
    one = in_shards(task, [scorer(0, 1500)], [0, 1500], grid, features, 20)
    for threads, cuts in (
        (1, [0, 1500]),
        (3, [0, 640, 1500]),
        (2, [0, 128, 1408, 1500]),
        (2, [0, 128, 128, 256, 1500]),
    ):
        scorers = [scorer(start, stop) for start, stop in pairwise(cuts)]
        with cores(threads):
            assert_same(in_shards(task, scorers, cuts, grid, features, 20), one)
    equal = one.top_scores[:, 1:] == one.top_scores[:, :-1]  # type: ignore[index]
    assert equal.sum() > 100, "equal items score equally"
    assert (np.diff(one.top, axis=1)[equal] > 0).all(), "and keep the order of the gallery"  # type: ignore[arg-type]


def test_chunks_are_scored_at_once_only_by_a_scorer_that_allows_it() -> None:
    task = one_query(12, [7])
    table, features, texts = torch.arange(12.0).neg()[None], torch.zeros(12, 1), torch.zeros(1, 1)
    allowed = AtOnce(table)
    refused = AtOnce(table)
    refused.concurrent = False  # type: ignore[misc]
    with cores(3):
        rankings = [rank_task(task, s, features, texts, top=12, budget_bytes=8) for s in (allowed, refused)]
        assert torch.get_num_threads() == 3
    assert_same(*rankings)
    assert refused.calls == {(get_ident(), 3)}
    first = (get_ident(), 3)  # the call for one item that comes before the threads
    assert first in allowed.calls
    assert {number for _, number in allowed.calls - {first}} == {1}
    assert len(allowed.calls) > 2


def test_a_range_as_gallery_is_the_array_of_its_rows() -> None:
    table, n = torch.tensor([[0.5, 2.0, 1.0, 2.0, 0.0]]), 5
    task = one_query(n, [2], gallery=range(1, 5), excluded=Ragged.of([[0, 4]]))
    same = replace(task, gallery=np.arange(1, 5))
    assert task.fingerprint == same.fingerprint
    rankings = [rank_task(t, Scores(table[:, 1:]), torch.zeros(n, 1), torch.zeros(1, 1), top=4) for t in (task, same)]
    assert_same(*rankings)
    assert rankings[0].top is not None
    assert rankings[0].top.tolist() == [[1, 3, 2, -1]]
    with pytest.raises(CondsimError, match=r"rows must be in \[0, 5\), found 1 to 5"):
        replace(task, gallery=range(1, 6))
    with pytest.raises(CondsimError, match="a relevant row of query 0"):
        replace(task, gallery=range(3, 5))


def test_a_score_that_is_not_finite_names_query_and_image_in_any_shard() -> None:
    table = torch.zeros(1, 8)
    table[0, 6] = torch.nan
    task = one_query(8, [1], query_ids=("first",))
    with pytest.raises(CondsimError, match=r"scored 6.jpg with nan for query 0 \(id first"):
        in_shards(task, [Scores(table[:, :4]), Scores(table[:, 4:])], [0, 4, 8], Grid(1, 4), torch.zeros(8, 2), 2)
    table[0, 7] = torch.inf
    with cores(3), pytest.raises(CondsimError, match=r"scored 6.jpg with nan"):  # the first in the gallery's order
        in_shards(task, [AtOnce(table)], [0, 8], Grid(1, 1), torch.zeros(8, 2), 2)


def test_threads_stop_where_one_has_failed() -> None:
    class Waits(AtOnce):
        """The second half of the gallery: its first chunk waits until the shard has stopped."""

        late = 0

        def score(self, side: Tensor, rows: Tensor | None = None) -> Tensor:
            if rows is not None and int(rows[0]) >= 4:
                self.late += 1
                for _ in range(10_000):
                    if shard._batch is None:
                        break
                    sleep(0.001)
            return super().score(side, rows)

    table = torch.tensor([[torch.nan] * 4 + [0.0] * 4])
    task = one_query(8, [], metrics=())
    waits = Waits(table)
    shard = Shard(waits, 0, 8, torch.device("cpu"), "toy")
    side = torch.zeros(1, dtype=torch.int64)
    with cores(2), pytest.raises(CondsimError, match=r"scored 0.jpg with nan"):
        rank_shards(task, CandidateLists.of(task), Grid(1, 1), shard, lambda which: side, top=2)
    assert waits.late <= 1, "at its next chunk"
