"""Ranking against a naive implementation that sorts, in every mode: own lists, shared gallery, chunks, subsets."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from condsim.harness.errors import CondsimError
from condsim.harness.method import Queries
from condsim.harness.ranking import counting, engine
from condsim.harness.ranking.candidates import CandidateLists
from condsim.harness.ranking.counting import count, count_torch
from condsim.harness.ranking.engine import BUDGET, Grid, Ranking, budget_on, rank_task
from condsim.harness.ranking.metrics import chance_level, per_query
from condsim.harness.ranking.ranks import Ranks
from condsim.harness.task import ImageTable, Ragged, Task

ALL = ("recall@1", "map", "ndcg@3", "mrr")
FIRST = ("recall@1", "mrr")


class FromTable:
    """A scorer that looks scores up in a table [conditions, images] by the query's condition."""

    def __init__(self, table: Tensor, gallery_rows: np.ndarray) -> None:
        self.table = table[:, torch.from_numpy(gallery_rows)]
        self.widest = 0

    def __call__(self, queries: Queries, rows: Tensor | None = None) -> Tensor:
        scores = self.table[queries.condition]
        if rows is not None:
            scores = scores.gather(1, rows.clamp(min=0)) if rows.ndim == 2 else scores[:, rows]
        self.widest = max(self.widest, scores.shape[1])
        return scores


def images(n: int) -> ImageTable:
    return ImageTable(Path("/nowhere"), tuple(f"image{i}.png" for i in range(n)))


def a_task(queries: int, n: int, relevant: list[list[int]], **more: object) -> Task:
    defaults: dict[str, Any] = {
        "benchmark": "toy",
        "name": "test",
        "images": images(n),
        "conditions": tuple((f"condition {i}",) for i in range(queries)),
        "condition": np.arange(queries)[::-1].copy(),
        "reference": np.zeros(queries, dtype=np.int64),
        "relevant": Ragged.of(relevant),
        "metrics": ALL,
    }
    return Task(**(defaults | more))  # type: ignore[arg-type]


def rank(task: Task, table: np.ndarray, **options: object) -> Ranking:
    """Rank by ``table`` [conditions, images] of scores."""
    scorer = FromTable(torch.from_numpy(table.astype(np.float32)), task.gallery_rows)
    return rank_task(task, scorer, torch.zeros(len(task.images), 4), torch.zeros(len(task.conditions), 4), **options)  # type: ignore[arg-type]


def naive(scores: list[float], flags: list[bool]) -> list[tuple[int, int, int]]:
    """(above, relevant, irrelevant) of each group, by the definition."""
    levels = sorted({score for score, flag in zip(scores, flags, strict=True) if flag}, reverse=True)
    hits = [sum(flag for score, flag in zip(scores, flags, strict=True) if score == level) for level in levels]
    return [
        (sum(score > level for score in scores), hit, scores.count(level) - hit)
        for level, hit in zip(levels, hits, strict=True)
    ]


def groups(ranks: Ranks, query: int) -> list[tuple[int, int, int]]:
    here = slice(ranks.offsets[query], ranks.offsets[query + 1])
    return list(
        zip(ranks.above[here].tolist(), ranks.relevant[here].tolist(), ranks.irrelevant[here].tolist(), strict=True)
    )


@st.composite
def galleries(draw: st.DrawFn) -> tuple[Task, np.ndarray]:
    """A task over a shared gallery with exclusions, several positives, a subset, and scores with many ties."""
    n, queries = draw(st.integers(4, 12)), draw(st.integers(1, 5))
    gallery = np.array(draw(st.permutations(range(n))))[: draw(st.integers(4, n))]
    relevant, excluded, subset = [], [], []
    for _ in range(queries):
        order = draw(st.permutations(gallery.tolist()))
        hits = draw(st.integers(1, len(order) - 1))
        gone = draw(st.integers(0, len(order) - hits))
        relevant.append(order[:hits])
        # Rows outside the gallery and repeated ones may be excluded too: that changes nothing.
        excluded.append(order[hits : hits + gone] * 2 + [row for row in range(n) if row not in gallery][:1])
        subset.append([order[0], *draw(st.lists(st.sampled_from(order), max_size=5))])
    levels = draw(st.integers(1, 6))
    values = draw(st.lists(st.integers(-levels, levels), min_size=queries * n, max_size=queries * n))
    task = a_task(
        queries,
        n,
        relevant,
        gallery=gallery,
        excluded=Ragged.of(excluded),
        subset=Ragged.of(subset),
        metrics=draw(st.sampled_from([ALL, FIRST])),
    )
    return task, np.array(values, dtype=float).reshape(queries, n) / 3


@given(galleries(), st.sampled_from([1, 40, 200, 1 << 20]), st.booleans())
def test_a_shared_gallery_is_ranked_as_by_definition(case: tuple[Task, np.ndarray], budget: int, wait: bool) -> None:
    task, table = case
    ranking = rank(task, table, budget_bytes=budget, top=3, pointwise=not wait)
    assert task.gallery is not None
    assert task.excluded is not None
    assert task.subset is not None
    for query in range(len(task)):
        scores = table[task.condition[query]]
        relevant, excluded = task.relevant[query], task.excluded[query]
        ranked = [row for row in task.gallery_rows.tolist() if row not in excluded]
        members = [row for row in ranked if row in task.subset[query]]
        for got, rows in ((ranking.ranks, ranked), (ranking.subset_ranks, members)):
            assert got is not None
            expected = naive([scores[row] for row in rows], [row in relevant for row in rows])
            assert groups(got, query) == (expected if got.complete else expected[:1])
            assert got.total[query] == sum(row in relevant for row in rows)
            assert got.candidates[query] == len(rows)
        for top, rows in ((ranking.top, ranked), (ranking.subset_top, members)):
            assert top is not None
            best = sorted(rows, key=lambda row: -scores[row])[:3]  # a stable sort keeps the gallery's order
            assert top[query].tolist() == best + [-1] * (3 - len(best))


@st.composite
def own_lists(draw: st.DrawFn) -> tuple[Task, np.ndarray]:
    """A task with a list of candidates a query, in which rows repeat, and the target may be its own distractor."""
    n, queries = draw(st.integers(2, 8)), draw(st.integers(1, 5))
    lists = [draw(st.lists(st.integers(0, n - 1), min_size=2, max_size=7)) for _ in range(queries)]
    relevant = [row[: draw(st.integers(1, len(row) - 1))] for row in lists]
    values = draw(st.lists(st.integers(0, 3), min_size=queries * n, max_size=queries * n))
    task = a_task(queries, n, relevant, candidates=Ragged.of(lists), metrics=draw(st.sampled_from([ALL, FIRST])))
    return task, np.array(values, dtype=float).reshape(queries, n)


@given(own_lists(), st.sampled_from([1, 200, 1 << 20]))
def test_own_lists_are_ranked_as_by_definition(case: tuple[Task, np.ndarray], budget: int) -> None:
    task, table = case
    ranking = rank(task, table, budget_bytes=budget, top=4)
    assert task.candidates is not None
    assert ranking.top is not None
    for query in range(len(task)):
        scores, rows = table[task.condition[query]], task.candidates[query].tolist()
        left, flags = task.relevant[query].tolist(), []
        for row in rows:  # as many copies of a row are relevant as it is named relevant, the others are distractors
            flags.append(row in left)
            if row in left:
                left.remove(row)
        expected = naive([scores[row] for row in rows], flags)
        assert groups(ranking.ranks, query) == (expected if ranking.ranks.complete else expected[:1])
        best = sorted(rows, key=lambda row: -scores[row])[:4]
        assert ranking.top[query].tolist() == best + [-1] * (4 - len(best))


def test_the_target_as_its_own_distractor_is_a_tie_to_the_last_bit() -> None:
    # A scorer whose arithmetic depends on the place in the list, as batched products do.
    class Wobbly:
        def __call__(self, queries: Queries, rows: Tensor | None = None) -> Tensor:
            assert rows is not None
            return torch.arange(rows.shape[1], dtype=torch.float32).mul(1e-7).repeat(len(queries), 1)

    task = a_task(1, 3, [[1]], candidates=Ragged.of([[1, 0, 1, 2]]))
    ranks = rank_task(task, Wobbly(), torch.zeros(3, 4), torch.zeros(1, 4)).ranks
    assert groups(ranks, 0) == [(2, 1, 1)]
    assert ranks.rank[0] == 3.5


@pytest.mark.parametrize("metrics", [ALL, FIRST])
def test_a_constant_scorer_gets_chance_whatever_the_order_of_the_lists(metrics: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    lists = [rng.permutation(30)[:15].tolist() for _ in range(12)]
    own = a_task(12, 30, [row[:1] for row in lists], candidates=Ragged.of(lists), metrics=metrics)
    shared = a_task(12, 30, [row[:3] for row in lists], gallery=np.arange(30), metrics=metrics)
    excluding = replace(shared, excluded=Ragged.of([row[3:4] for row in lists]))
    for task, k, expected in ((own, 1, 1 / 15), (own, 3, 3 / 15), (shared, 1, 3 / 30), (excluding, 1, 3 / 29)):
        for budget in (100, 1 << 20):
            ranks = rank(task, np.full((12, 30), 0.25), budget_bytes=budget).ranks
            np.testing.assert_allclose(per_query(f"recall@{k}", ranks), expected, atol=1e-15)
            for metric in metrics:
                assert per_query(metric, ranks).mean() == pytest.approx(chance_level(metric, ranks), abs=1e-15)


class Cosine:
    """A real product, so that different shapes of it may round differently; every fourth image is a copy."""

    def __init__(self, gallery: Tensor) -> None:
        self.gallery = torch.nn.functional.normalize(gallery, dim=1)

    def __call__(self, queries: Queries, rows: Tensor | None = None) -> Tensor:
        query = queries.reference + queries.text
        if rows is None:
            return query @ self.gallery.T
        if rows.ndim == 2:
            return torch.einsum("bd,bcd->bc", query, self.gallery[rows.clamp(min=0)])
        return query @ self.gallery[rows].T


def cosine_case(relevant_each: int) -> tuple[Task, Tensor, Tensor]:
    rng = np.random.default_rng(3)
    features = torch.randn(1500, 24, generator=torch.Generator().manual_seed(0))
    features[1::4] = features[::4]
    reference = rng.integers(0, 1500, 100)
    relevant = [rng.choice(np.delete(np.arange(1500), row), relevant_each, replace=False) for row in reference]
    task = Task(
        "toy",
        "cosine",
        images(1500),
        tuple((str(i),) for i in range(9)),
        rng.integers(0, 9, 100),
        reference,
        Ragged.of(relevant),
        ALL if relevant_each > 1 else FIRST,
        gallery=np.arange(1500),
        excluded=Ragged.of(reference[:, None]),
    )
    return task, features, torch.randn(9, 24, generator=torch.Generator().manual_seed(1))


def test_references_from_elsewhere_and_scores_of_the_best() -> None:
    task, features, texts = cosine_case(1)
    references = features[torch.from_numpy(task.reference)]
    for budget in (40_000, 1 << 28):
        expected = rank_task(task, Cosine(features), features, texts, top=20, budget_bytes=budget)
        blind = replace(task, reference=np.full(len(task), -1))
        ranking = rank_task(
            blind, Cosine(features), features, texts, references=references, top=20, budget_bytes=budget
        )
        np.testing.assert_array_equal(ranking.top, expected.top)
        assert ranking.top is not None
        query = (references + texts[torch.from_numpy(task.condition)]).double()
        items = torch.nn.functional.normalize(features.double(), dim=1)
        scores = (query[:, None] * items[torch.from_numpy(ranking.top)]).sum(dim=2)
        np.testing.assert_allclose(ranking.top_scores, scores, atol=1e-5)


@pytest.mark.parametrize("relevant_each", [1, 12])
def test_chunks_of_the_gallery_give_the_ranks_of_the_whole(relevant_each: int) -> None:
    task, features, texts = cosine_case(relevant_each)
    whole = rank_task(task, Cosine(features), features, texts, top=20)
    # A candidate of the float64 product that is within rounding of a relevant one may be on either side.
    gallery = torch.nn.functional.normalize(features.double(), dim=1).numpy()
    query = (features[torch.from_numpy(task.reference)] + texts[torch.from_numpy(task.condition)]).double().numpy()
    for budget in (40_000, 300_000):
        chunked = rank_task(task, Cosine(features), features, texts, top=20, budget_bytes=budget)
        for ranking in (whole, chunked):
            for i in range(len(task)):
                scores = np.delete(query[i] @ gallery.T, task.reference[i])
                best = max(query[i] @ gallery[row] for row in task.relevant[i])
                low, high = (scores > best + 1e-5).sum(), (scores > best - 1e-5).sum()
                assert low + 1 <= ranking.ranks.rank[i] <= high
        np.testing.assert_array_equal(chunked.ranks.total, whole.ranks.total)
        assert chunked.top is not None
        assert whole.top is not None
        # Which of two items within rounding comes first is the processor's affair; the scores of the top are not.
        by_score = [
            np.sort((query @ gallery.T)[np.arange(len(task))[:, None], top]) for top in (chunked.top, whole.top)
        ]
        np.testing.assert_allclose(by_score[0], by_score[1], atol=1e-5)


class Product(Cosine):
    """Scores by inner product: exact in float32 in any order of summation, for features that are small integers."""

    def __init__(self, gallery: Tensor) -> None:
        self.gallery = gallery


@pytest.mark.parametrize("relevant_each", [1, 12])
def test_chunks_give_exactly_the_ranks_of_the_whole_where_scores_are_exact(relevant_each: int) -> None:
    task, features, texts = cosine_case(relevant_each)
    features, texts = (4 * features).round(), (4 * texts).round()
    whole = rank_task(task, Product(features), features, texts, top=20)
    for budget in (40_000, 300_000):
        chunked = rank_task(task, Product(features), features, texts, top=20, budget_bytes=budget)
        for name in ("offsets", "above", "relevant", "irrelevant", "total", "candidates"):
            np.testing.assert_array_equal(getattr(chunked.ranks, name), getattr(whole.ranks, name))
        np.testing.assert_array_equal(chunked.top, whole.top)


def test_memory_is_bounded_by_chunks_and_methods_that_need_all_candidates_get_them() -> None:
    task, features, _ = cosine_case(1)
    table = np.random.default_rng(0).random((9, 1500))
    scorer = FromTable(torch.from_numpy(table.astype(np.float32)), task.gallery_rows)
    finished: list[int] = []
    rank_task(task, scorer, features, torch.zeros(9, 24), budget_bytes=40_000, progress=finished.append)
    assert scorer.widest <= 40_000 // (4 * 24)
    assert sum(finished) == 100
    rank_task(task, scorer, features, torch.zeros(9, 24), budget_bytes=40_000, pointwise=False)
    assert scorer.widest == 1500


def test_queries_carry_raw_features_and_come_sorted_by_condition() -> None:
    seen: list[Queries] = []

    def scorer(queries: Queries, rows: Tensor | None = None) -> Tensor:
        seen.append(queries)
        return torch.zeros(len(queries), 3)

    task = a_task(
        4,
        3,
        [[0]] * 4,
        gallery=np.arange(3),
        condition=np.array([2, -1, 0, 2]),
        reference=np.array([1, 2, -1, 0]),
        conditions=(("a",), ("b",), ("c",)),
    )
    features, texts = torch.randn(3, 5).half(), torch.randn(3, 5)
    rank_task(task, scorer, features, texts)
    queries = seen[0]
    assert queries.condition.tolist() == [-1, 0, 2, 2]
    assert queries.reference_row.tolist() == [2, -1, 1, 0]
    expected = torch.stack([features[2].float(), torch.zeros(5), features[1].float(), features[0].float()])
    torch.testing.assert_close(queries.reference, expected)
    torch.testing.assert_close(queries.text, torch.stack([torch.zeros(5), texts[0], texts[2], texts[2]]))


def test_scores_that_the_method_keeps_are_left_alone() -> None:
    task, _, _ = cosine_case(12)
    kept = torch.randn(100, 1500)
    before = kept.clone()
    rank_task(task, lambda queries, rows=None: kept, torch.zeros(1500, 4), torch.zeros(9, 4), top=5)
    torch.testing.assert_close(kept, before, rtol=0, atol=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("budget", [60, 1 << 20])
def test_scores_that_are_not_finite_are_refused_by_name(value: float, budget: int) -> None:
    table = np.zeros((3, 6))
    table[2, 4] = value  # condition 2 is query 0's
    shared = a_task(3, 6, [[1]] * 3, gallery=np.array([1, 4, 0, 2]), query_ids=("p7", "p8", "p9"))
    own = a_task(3, 6, [[1], [1], [1]], candidates=Ragged.of([[1, 4], [1, 2], [1, 2, 3]]), query_ids=("p7", "p8", "p9"))
    for task in (shared, own):
        with pytest.raises(CondsimError, match=r"toy/test.*image4\.png.*query 0 \(id p7, "):
            rank(task, table, budget_bytes=budget)


def test_huge_finite_scores_are_fine() -> None:
    task = a_task(1, 3, [[1]], gallery=np.arange(3))
    assert rank(task, np.array([[3e38, 2e38, 3e38]])).ranks.rank.tolist() == [3.0]


def test_scores_of_the_wrong_shape_are_refused() -> None:
    task = a_task(2, 3, [[1], [0]], gallery=np.arange(3))
    for scores in (torch.zeros(2, 4), torch.zeros(3, 2), torch.zeros(2, 3, dtype=torch.int64)):
        with pytest.raises(CondsimError, match=r"expected float32 of shape \(2, 3\)"):
            rank_task(task, lambda queries, rows=None, s=scores: s, torch.zeros(3, 4), torch.zeros(2, 4))


def test_lists_that_contradict_each_other_are_refused_by_query() -> None:
    table = np.zeros((2, 4))
    four = np.arange(4)
    cases = {
        "query 1 is both relevant and excluded": a_task(
            2, 4, [[0], [1]], gallery=four, excluded=Ragged.of([[1], [0, 1]])
        ),
        "query 1 has nothing relevant in its subset": a_task(
            2, 4, [[0], [1]], gallery=four, subset=Ragged.of([[0], [2]])
        ),
        "query 1 lists a relevant row twice": a_task(2, 4, [[0], [1, 1]], gallery=four),
        "query 1 lists a relevant row more often": a_task(2, 4, [[0], [1, 1]], candidates=Ragged.of([[0, 2], [1, 2]])),
        "excluded and subset need a shared gallery": a_task(
            2, 4, [[0], [1]], candidates=Ragged.of([[0, 2], [1, 2]]), excluded=Ragged.of([[3], [3]])
        ),
    }
    for message, task in cases.items():
        with pytest.raises(CondsimError, match=message):
            rank(task, table)


def test_withheld_ground_truth_still_gives_the_best_candidates() -> None:
    task = a_task(2, 5, [[], []], gallery=np.arange(5), metrics=(), excluded=Ragged.of([[3], [0]]))
    task = replace(task, subset=Ragged.of([[1, 2, 3], [0, 4, 2]]))
    table = np.array([[5.0, 4, 3, 2, 1], [1.0, 2, 3, 9, 5]])  # query 0 has condition 1
    for budget in (20, 1 << 20):
        ranking = rank(task, table, top=3, budget_bytes=budget)
        assert ranking.top is not None
        assert ranking.subset_top is not None
        assert ranking.top.tolist() == [[4, 2, 1], [1, 2, 3]]
        assert ranking.subset_top.tolist() == [[2, 1, -1], [2, 4, -1]]
        assert ranking.ranks.total.tolist() == [0, 0]


@given(
    st.integers(0, 10_000), st.sampled_from([0, 1, 3, 5, 9]), st.sampled_from([1, 7, 1500]),
    st.sampled_from([None, np.nan, np.inf]), st.sampled_from([64, 4000, 1 << 18]),
)  # fmt: skip
def test_counting_agrees_on_every_path(seed: int, thresholds: int, width: int, odd: float | None, block: int) -> None:
    """Whole rows at a time and pieces of rows; a value that is not finite is noticed at every position."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 6, (5, width)).astype(np.float32)
    limits = -np.sort(-rng.integers(0, 6, (5, thresholds)).astype(np.float32), axis=1)
    limits[1, -1:] = np.inf
    if odd is not None:
        scores[rng.integers(5), rng.integers(width)] = odd
    expected = (scores[:, None] > limits[:, :, None]).sum(-1), (scores[:, None] == limits[:, :, None]).sum(-1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "_BLOCK", block)
        patch.setattr(counting, "_SORTED", block)
        found = count(torch.from_numpy(scores), limits), count_torch(torch.from_numpy(scores), torch.tensor(limits))
    for counts in found:
        assert np.isfinite(counts.total) == (odd is None)
        if odd is None:
            np.testing.assert_array_equal(counts.higher, expected[0])
            np.testing.assert_array_equal(counts.equal, expected[1])


def test_padding_is_not_counted() -> None:
    scores = np.array([[3.0, 1.0, -np.inf, -np.inf], [2.0, 2.0, 2.0, 1.0]], dtype=np.float32)
    for columns in (1, 6):
        limits = np.repeat(np.array([[1.0], [2.0]], dtype=np.float32), columns, axis=1)
        counts = count(torch.from_numpy(scores), limits)
        assert counts.higher.tolist() == [[1] * columns, [0] * columns]
        assert counts.equal.tolist() == [[1] * columns, [3] * columns]


def annotation_file(path: str) -> Path:
    root = Path(os.environ.get("CONDSIM_ANNOTATIONS", Path(__file__).parents[4] / "shared" / "data"))
    if not (root / path).exists():
        pytest.skip(f"set CONDSIM_ANNOTATIONS to a folder that holds {path}")
    return root / path


def test_genecis_gallery_14_is_an_exact_tie_and_costs_half_a_hit() -> None:
    """focus_attribute[14]: the target is also a distractor, so that even a perfect scorer hits it half the time."""
    templates = json.loads(annotation_file("genecis/focus_attribute.json").read_text())
    keys = [[json.dumps(item, sort_keys=True) for item in [t["target"], *t["gallery"]]] for t in templates]
    row = {key: i for i, key in enumerate(sorted({key for listed in keys for key in listed}))}
    lists = [[row[key] for key in listed] for listed in keys]
    task = a_task(
        len(lists),
        len(row),
        [listed[:1] for listed in lists],
        candidates=Ragged.of(lists),
        metrics=("recall@1",),
        conditions=(("any",),),
        condition=np.zeros(len(lists), dtype=np.int64),
    )

    def perfect(queries: Queries, rows: Tensor | None = None) -> Tensor:
        assert rows is not None  # the target is first in its list, so its row distinguishes it from the distractors
        return (rows == rows[:, :1]).float()

    def constant(queries: Queries, rows: Tensor | None = None) -> Tensor:
        assert rows is not None
        return torch.full(rows.shape, 0.3)

    def recall(scorer: object) -> np.ndarray:
        ranks = rank_task(task, scorer, torch.zeros(len(row), 2), torch.zeros(1, 2)).ranks  # type: ignore[arg-type]
        return per_query("recall@1", ranks)

    hits = recall(perfect)
    assert hits[14] == 0.5
    assert np.flatnonzero(hits < 1).tolist() == [14]
    np.testing.assert_array_equal(recall(constant), 0.1)


def test_cirr_val_constant_scorer_gets_chance_in_gallery_and_subset() -> None:
    captions = json.loads(annotation_file("cirr/captions/cap.rc2.val.json").read_text())
    names = sorted(json.loads(annotation_file("cirr/image_splits/split.rc2.val.json").read_text()))
    row = {name: i for i, name in enumerate(names)}
    reference = np.array([row[entry["reference"]] for entry in captions])
    members = [[row[name] for name in entry["img_set"]["members"]] for entry in captions]
    task = a_task(
        len(captions),
        len(names),
        [[row[entry["target_hard"]]] for entry in captions],
        gallery=np.arange(len(names)),
        excluded=Ragged.of(reference[:, None]),
        subset=Ragged.of(members),  # the reference among them: exclusion holds in the subset too
        metrics=("recall@1", "subset_recall@1"),
        reference=reference,
        conditions=(("any",),),
        condition=np.zeros(len(captions), dtype=np.int64),
    )
    ranking = rank(task, np.zeros((1, len(names))))
    assert len(task) == 4181
    assert per_query("recall@50", ranking.ranks, ranking.subset_ranks) == pytest.approx(50 / 2296)
    for k in (1, 2, 3):
        assert per_query(f"subset_recall@{k}", ranking.ranks, ranking.subset_ranks) == pytest.approx(k / 5)


@given(st.data())
def test_the_place_of_a_target_is_that_of_its_own_score(data: st.DataObject) -> None:
    queries, size = data.draw(st.integers(1, 4)), 9
    table = np.array(data.draw(st.lists(st.lists(st.integers(0, 3), min_size=size, max_size=size), min_size=queries,
                                        max_size=queries)))  # fmt: skip
    every = st.lists(st.integers(0, size - 1), min_size=1, max_size=4, unique=True)
    relevant = [data.draw(every) for _ in range(queries)]
    target = np.array([data.draw(st.sampled_from(rows)) for rows in relevant])
    shared: dict[str, Any] = {"target": target, "metrics": ("map", "target_mrr", "target_recall@2")}
    whole = a_task(queries, size, relevant, gallery=np.arange(size), **shared)
    own = a_task(queries, size, relevant, candidates=Ragged.of([range(size)] * queries), **shared)
    alone = replace(whole, relevant=Ragged.of(target[:, None]), target=None, metrics=("map", "mrr", "recall@2"))
    expected = rank(alone, table).ranks
    for ranks in (rank(whole, table).ranks, rank(own, table).ranks, rank(whole, table, budget_bytes=64).ranks):
        for metric in ("mrr", "recall@2"):
            np.testing.assert_allclose(per_query(f"target_{metric}", ranks), per_query(metric, expected), atol=1e-12)
            assert chance_level(f"target_{metric}", ranks) == pytest.approx(chance_level(metric, expected))


@pytest.mark.parametrize(("gigabytes", "budget"), [(4, BUDGET), (24, 3 << 28), (80, 5 << 29)])
def test_batches_grow_with_the_memory_of_a_gpu(gigabytes: int, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = SimpleNamespace(total_memory=gigabytes << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    assert budget_on(torch.device("cuda")) == budget
    assert budget_on(torch.device("cpu")) == BUDGET


def test_a_gpu_scores_a_large_gallery_at_once_where_its_scores_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_LARGE", 30)
    task = a_task(3, 40, [[1]] * 3, gallery=range(40))
    chunks = {
        (on_cpu, budget): Grid.of(task, CandidateLists.of(task), 4, on_cpu, budget, whole=False).chunk
        for on_cpu in (True, False)
        for budget in (3 * 40 * 4, 3 * 40 * 4 - 1)
    }
    assert chunks == {(True, 480): 16, (True, 479): 16, (False, 480): None, (False, 479): 16}
