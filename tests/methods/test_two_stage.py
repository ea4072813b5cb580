"""A shortlist by one method, ranked by another: against full scans by both."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from condsim.harness.errors import CondsimError
from condsim.methods.clay import Clay
from condsim.methods.inner_product import ImagePlusText, TextOnly
from condsim.methods.two_stage import TwoStage, TwoStageScorer
from encoders import Space

ITEMS, LISTED = 40, 26
QUERIES = [3, 8, 8, 20, 31], [0, 3, 1, 1, 2]


def lists() -> Tensor:
    """[5, 28] different items per query, the last two places of every second one padding."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.stack([torch.randperm(ITEMS, generator=generator)[: LISTED + 2] for _ in QUERIES[0]])
    rows[::2, LISTED:] = -1
    return rows


FORMS = [None, torch.arange(5, 33), lists()]


@pytest.mark.parametrize("rows", FORMS)
def test_a_shortlist_of_all_items_is_the_final_method_bit_for_bit(space: Space, rows: Tensor | None) -> None:
    gallery = space.gallery(ITEMS)
    queries = space.queries(gallery, *QUERIES)
    scorer = TwoStage(TextOnly(), Clay(rank=4), shortlist=ITEMS).prepare(gallery)
    assert torch.equal(scorer(queries, rows), Clay(rank=4).prepare(gallery)(queries, rows))


@pytest.mark.parametrize("rows", FORMS)
@pytest.mark.parametrize("shortlist", [1, 7, 25])
def test_the_shortlist_has_the_final_scores_and_the_others_keep_the_bases_order(
    space: Space, rows: Tensor | None, shortlist: int
) -> None:
    gallery = space.gallery(ITEMS)
    queries = space.queries(gallery, *QUERIES)
    base, final = ImagePlusText().prepare(gallery)(queries, rows), Clay(rank=4).prepare(gallery)(queries, rows)
    scores = TwoStage(ImagePlusText(), Clay(rank=4), shortlist=shortlist).prepare(gallery)(queries, rows)
    for i in range(len(scores)):
        listed = range(scores.shape[1]) if rows is None or rows.ndim == 1 else (rows[i] >= 0).nonzero()[:, 0].tolist()
        by_base = sorted(listed, key=lambda item: -float(base[i, item]))
        best, others = by_base[:shortlist], by_base[shortlist:]
        expected = sorted(best, key=lambda item: -float(final[i, item])) + others
        assert sorted(listed, key=lambda item: -float(scores[i, item])) == expected
        torch.testing.assert_close(scores[i, best], final[i, best], atol=1e-6, rtol=0)


@pytest.mark.parametrize("rows", FORMS)
def test_the_recall_of_the_shortlist_is_that_of_full_scans(space: Space, rows: Tensor | None) -> None:
    gallery = space.gallery(ITEMS)
    queries = space.queries(gallery, *QUERIES)
    base, final = TextOnly().prepare(gallery)(queries, rows), Clay(rank=4).prepare(gallery)(queries, rows)
    if rows is not None and rows.ndim == 2:
        base, final = (scores.masked_fill(rows < 0, -torch.inf) for scores in (base, final))
    for every, checked in ((1, [0, 1, 2, 3, 4]), (2, [0, 2, 4])):
        scorer = TwoStage(TextOnly(), Clay(rank=4), shortlist=12, check_every=every).prepare(gallery)
        assert isinstance(scorer, TwoStageScorer)
        for part in (slice(0, 2), slice(2, 5)):
            scorer(queries.part(part), rows if rows is None or rows.ndim == 1 else rows[part])
        shared = [set(final[i].topk(10).indices.tolist()) & set(base[i].topk(12).indices.tolist()) for i in checked]
        share = sum(map(len, shared)) / (10 * len(checked))
        assert 0 < share < 1
        (note,) = scorer.notes()
        assert f"the shortlist of 12 has {100 * share:.1f} % of the 10 best items of a full scan by Clay" in note
        assert f"({len(checked)} queries checked)" in note


def test_it_needs_what_one_of_its_methods_needs() -> None:
    assert not TwoStage(TextOnly(), TextOnly()).needs_reference
    assert TwoStage(TextOnly(), Clay()).needs_reference
    with pytest.raises(CondsimError, match=r"method\.final=clay on the command line"):
        TwoStage(final="clay")  # type: ignore[arg-type]
    with pytest.raises(CondsimError, match=r"method\.shortlist must be at least 1, not 0"):
        TwoStage(shortlist=0)
