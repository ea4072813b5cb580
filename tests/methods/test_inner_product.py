import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from builders import make_task
from condsim.harness.errors import CondsimError, NotApplicable
from condsim.harness.files.memory_map import is_mapped, map_npy
from condsim.harness.method import Method, Queries
from condsim.harness.one_vector import InnerProduct, MappedInnerProduct, OneVector, inner_products, unit
from condsim.methods.inner_product import ImageOnly, ImagePlusText, ImagePlusTextUnit, TextOnly
from encoders import Space


def test_lists_of_candidates_score_as_the_whole_gallery_does(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("condsim.harness.one_vector._LISTED_AT_ONCE", 3 * 5 * 24)  # a few queries at a time
    queries, items = space.encode_images(11, seed=1), space.encode_images(30)
    whole = inner_products(queries, items)
    some = torch.tensor([4, 4, 29, 0])
    torch.testing.assert_close(inner_products(queries, items, some), whole[:, some])
    lists = torch.randint(30, (11, 5))
    torch.testing.assert_close(inner_products(queries, items, lists), whole.gather(1, lists))


def test_one_row_twice_in_a_list_ties_exactly_and_padding_is_finite(space: Space) -> None:
    queries, items = space.encode_images(50, seed=1), space.encode_images(40)
    lists = torch.randint(40, (50, 15))
    lists[:, -1] = lists[:, 0]
    lists[:, 7] = -1
    scores = inner_products(queries, items, lists)
    assert (scores[:, 0] == scores[:, -1]).all()
    assert torch.isfinite(scores).all()


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (ImageOnly(), lambda ref, text: ref),
        (TextOnly(), lambda ref, text: text),
        (ImagePlusText(), lambda ref, text: 0.5 * ref + 0.5 * text),
        (ImagePlusText(weight=0.2), lambda ref, text: 0.2 * ref + 0.8 * text),
        (ImagePlusTextUnit(weight=0.2), lambda ref, text: 0.2 * unit(ref) + 0.8 * unit(text)),
    ],
)
def test_scores_are_cosines_of_the_combined_query_with_the_gallery(
    space: Space, method: Method, expected: Callable[[Tensor, Tensor], Tensor]
) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [3, 8, 8], [0, 1, 2])
    scores = method.prepare(gallery)(queries)
    wanted = torch.cosine_similarity(expected(queries.reference, queries.text)[:, None], gallery.features[None], dim=-1)
    torch.testing.assert_close(scores, wanted, atol=1e-6, rtol=0)


def test_the_raw_sum_listens_to_the_longer_vector_and_the_unit_sum_does_not(space: Space) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [3], [0])
    longer = type(queries)(queries.reference * 100, queries.text, queries.condition, queries.reference_row)
    raw, units = ImagePlusText().prepare(gallery), ImagePlusTextUnit().prepare(gallery)
    assert (raw(longer) - raw(queries)).abs().max() > 0.01
    torch.testing.assert_close(units(longer), units(queries))


def test_the_ends_of_the_weight_are_image_only_and_text_only(space: Space) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [3, 5], [0, 1])
    assert torch.equal(ImagePlusText(1.0).prepare(gallery)(queries), ImageOnly().prepare(gallery)(queries))
    assert torch.equal(ImagePlusText(0.0).prepare(gallery)(queries), TextOnly().prepare(gallery)(queries))
    with pytest.raises(CondsimError, match=r"\[0, 1\]"):
        ImagePlusText(1.5)


def test_what_each_needs_decides_where_it_applies() -> None:
    no_condition, no_reference = make_task(), make_task(("color",), reference=-1)
    ImageOnly().check(no_condition)
    TextOnly().check(no_reference)
    for method, task in ((TextOnly(), no_condition), (ImageOnly(), no_reference), (ImagePlusText(), no_reference)):
        with pytest.raises(NotApplicable):
            method.check(task)


def test_a_gallery_in_a_mapped_file_scores_as_one_in_memory_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condsim.harness.one_vector._MAPPED_AT_ONCE", 8 * 10)  # the last of four pieces overlaps
    features = torch.randn(37, 8).half()
    np.save(tmp_path / "features.npy", features.numpy())
    mapped = map_npy(tmp_path / "features.npy")
    assert is_mapped(mapped[:30])
    assert not is_mapped(features)
    queries = Queries(torch.randn(5, 8), torch.zeros(5, 8), torch.full((5,), -1), torch.full((5,), -1))
    held, read = (
        form(items, ImageOnly().embed)
        for form, items in ((InnerProduct, unit(features.float())), (MappedInnerProduct, mapped))
    )
    lists = torch.tensor([[0, 36, -1], [5, 5, 7], [1, 2, 3], [36, 35, 34], [0, -1, -1]])
    for rows in (None, torch.arange(20, 37), lists):
        torch.testing.assert_close(read(queries, rows), held(queries, rows))
    assert torch.equal(mapped, features)  # its pages were given back, and are read again


class Returns(OneVector):
    def __init__(self, embed: Callable[[Queries], object], parts: Callable[[Queries], object] = lambda queries: {}):
        self.acts = embed, parts

    def embed(self, queries: Queries) -> Tensor:
        return self.acts[0](queries)  # type: ignore[return-value]

    def parts(self, queries: Queries) -> Mapping[str, Tensor]:
        return self.acts[1](queries)  # type: ignore[return-value]


WRONG_VECTORS: dict[str, tuple[Callable[[Queries], object], str]] = {
    "one for all": (lambda queries: queries.reference.mean(0, keepdim=True), "a float32 tensor of shape (1, 24)"),
    "one axis": (lambda queries: queries.reference[0], "a float32 tensor of shape (24,)"),
    "other width": (lambda queries: queries.reference[:, :1], "a float32 tensor of shape (3, 1)"),
    "float64": (lambda queries: queries.reference.double(), "a float64 tensor of shape (3, 24)"),
    "numpy": (lambda queries: queries.reference.numpy(), "numpy.ndarray"),
    "number": (lambda queries: 1.0, "float"),
    "nothing": (lambda queries: None, "None"),
}


@pytest.mark.parametrize("how", WRONG_VECTORS)
@pytest.mark.parametrize("rows", [None, torch.tensor([[1, 2], [3, 4], [5, -1]])], ids=["gallery", "lists"])
def test_vectors_that_are_not_one_per_query_are_refused_before_they_are_broadcast(
    space: Space, how: str, rows: Tensor | None, tmp_path: Path
) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [3, 8, 8], [0, 1, 2])
    embed, returned = WRONG_VECTORS[how]
    np.save(tmp_path / "f.npy", gallery.features.numpy())
    mapped = replace(gallery, features=map_npy(tmp_path / "f.npy"))
    message = re.escape(f"Returns.embed returned {returned}, expected a float32 tensor of shape (3, 24)")
    for given in (gallery, mapped):
        with pytest.raises(CondsimError, match=message):
            Returns(embed).prepare(given)(queries, rows)


def test_a_part_of_another_shape_is_named(space: Space) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [3, 8], [0, 1])
    method = Returns(lambda queries: queries.text, lambda queries: {"text": queries.text[:1]})
    scorer = method.prepare(gallery)
    assert isinstance(scorer, InnerProduct)
    with pytest.raises(CondsimError, match=r"Returns\.embed, part 'text', returned .*\(1, 24\).*\(2, 24\)"):
        scorer.why(queries, torch.tensor([[0], [1]]))
