"""NNN, QB-Norm, alpha query expansion and the linear adapter around other methods."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from condsim.harness.errors import CondsimError, NotApplicable
from condsim.harness.files.state_dict import write_state_dict
from condsim.harness.method import Method, Queries
from condsim.harness.one_vector import unit
from condsim.methods.clay import Clay
from condsim.methods.hubness import (
    NearestNeighborNormalization,
    QueryBankNormalization,
    TransductiveNearestNeighborNormalization,
    TransductiveQueryBankNormalization,
)
from condsim.methods.inner_product import ImageOnly, ImagePlusText, TextOnly
from condsim.methods.linear_adapter import LinearAdapter
from condsim.methods.local_steering import LocalSteering
from condsim.methods.neighborhood_rerank import NeighborhoodRerank
from condsim.methods.query_expansion import AlphaQueryExpansion
from condsim.methods.specific import SpecificObject
from encoders import Space


def of_bank(base: Method, gallery: Any, condition: int, images: Tensor) -> Tensor:
    """[M, N] what images score as references under one condition, in float64."""
    text = gallery.condition_features[condition].expand_as(images)
    queries = Queries(images, text, torch.full((len(images),), condition), torch.full((len(images),), -1))
    return base.prepare(gallery)(queries).double()


@pytest.mark.parametrize("base", [ImagePlusText(), ImageOnly(), Clay(rank=4)])
def test_nnn_takes_off_the_mean_of_an_items_k_highest_scores(space: Space, base: Method) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [3, 8, 8], [0, 3, 1])
    plain = base.prepare(gallery)(queries).double()
    found = NearestNeighborNormalization(base, alpha=0.4, neighbors=6).prepare(gallery)(queries).double()
    for row, condition in enumerate(queries.condition.tolist()):
        bank = of_bank(base, gallery, condition, gallery.train().images)
        bias = bank.sort(dim=0, descending=True).values[:6].mean(dim=0)
        torch.testing.assert_close(found[row], plain[row] - 0.4 * bias, atol=1e-5, rtol=0)
    none = NearestNeighborNormalization(base, alpha=0.0).prepare(gallery)(queries)
    assert torch.equal(none.double(), plain)


@pytest.mark.parametrize("base", [ImagePlusText(), Clay(rank=4)])
def test_qb_norm_divides_by_the_bank_where_the_best_item_is_a_hub(space: Space, base: Method) -> None:
    gallery = space.gallery()
    reference = list(range(12))
    queries = space.queries(gallery, reference, [0] * 6 + [1] * 6)
    plain = base.prepare(gallery)(queries).double()
    found = QueryBankNormalization(base, beta=5.0, neighbors=1).prepare(gallery)(queries).double()
    changed = 0
    for row, condition in enumerate(queries.condition.tolist()):
        bank = of_bank(base, gallery, condition, gallery.train().images)
        expected = torch.exp(5 * plain[row])
        if int(plain[row].argmax()) in set(bank.argmax(dim=1).tolist()):
            expected = expected / torch.exp(5 * bank).sum(dim=0)
            changed += 1
        torch.testing.assert_close(torch.exp(found[row]), expected, atol=0, rtol=1e-4)
    assert 0 < changed < len(reference)


def test_many_parts_of_a_bank_are_joined(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [3, 8], [0, 1])
    for method in (NearestNeighborNormalization(neighbors=6), QueryBankNormalization()):
        together = method.prepare(gallery)(queries)
        with monkeypatch.context() as patch:
            patch.setattr("condsim.methods.hubness._ELEMENTS_AT_ONCE", 7 * 40)
            torch.testing.assert_close(method.prepare(gallery)(queries), together, atol=1e-5, rtol=0)


def test_a_base_without_a_reference_has_a_bank_of_phrases(space: Space) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [3, 8], [0, 1])
    found = NearestNeighborNormalization(TextOnly(), alpha=1.0, neighbors=4).prepare(gallery)(queries).double()
    phrases = unit(space.encode_texts(gallery.train().phrases).double())
    items = unit(gallery.features.double())
    bias = (phrases @ items.T).sort(dim=0, descending=True).values[:4].mean(dim=0)
    torch.testing.assert_close(found, unit(queries.text.double()) @ items.T - bias, atol=1e-5, rtol=0)


def test_the_size_of_the_bank_is_evenly_spaced(space: Space) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [3], [0])
    found = NearestNeighborNormalization(ImageOnly(), alpha=1.0, neighbors=99, size=3).prepare(gallery)(queries)
    some = gallery.train().images[torch.tensor([0, 14, 29])]
    bias = of_bank(ImageOnly(), gallery, 0, some).mean(dim=0)
    plain = ImageOnly().prepare(gallery)(queries).double()
    torch.testing.assert_close(found.double(), plain - bias, atol=1e-5, rtol=0)


def test_only_the_transductive_forms_look_at_the_gallery(space: Space) -> None:
    gallery = space.gallery()

    def no_train() -> Any:
        raise NotApplicable("no training split")

    without = replace(gallery, train=no_train)
    queries = space.queries(gallery, [3], [0])
    for inductive in (NearestNeighborNormalization(), QueryBankNormalization()):
        assert not inductive.transductive
        with pytest.raises(NotApplicable):
            inductive.prepare(without)(queries)
    base = ImagePlusText()
    found = TransductiveNearestNeighborNormalization(base, alpha=1.0, neighbors=5).prepare(without)(queries)
    bias = of_bank(base, gallery, 0, gallery.features).sort(dim=0, descending=True).values[:5].mean(dim=0)
    torch.testing.assert_close(found.double(), base.prepare(gallery)(queries).double() - bias, atol=1e-5, rtol=0)
    assert TransductiveQueryBankNormalization().transductive


def test_a_base_that_looks_pictures_up_has_no_bank() -> None:
    with pytest.raises(CondsimError, match="SpecificObject"):
        NearestNeighborNormalization(SpecificObject("table.csv"))
    with pytest.raises(CondsimError, match="TextOnly"):
        TransductiveNearestNeighborNormalization(TextOnly())


@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_query_expansion_around_image_only_is_the_published_one(space: Space, alpha: float) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [3, 8], [0, 1])
    queries = replace(queries, reference=space.encode_images(2, seed=4), reference_row=torch.tensor([-1, -1]))
    found = AlphaQueryExpansion(ImageOnly(), neighbors=4, alpha=alpha).prepare(gallery)(queries).double()
    items = unit(gallery.features.double())
    for row, reference in enumerate(unit(queries.reference.double())):
        similarity = items @ reference
        best = similarity.argsort(descending=True)[:4]
        expanded = reference + (similarity[best].clamp(min=0) ** alpha) @ items[best]
        torch.testing.assert_close(found[row], items @ unit(expanded), atol=1e-5, rtol=0)


def test_an_image_of_the_gallery_is_not_its_own_neighbour(space: Space) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [3], [0])
    found = AlphaQueryExpansion(neighbors=1).prepare(gallery)(queries)
    hidden = replace(queries, reference_row=torch.tensor([-1]))
    doubled = AlphaQueryExpansion(neighbors=1).prepare(gallery)(hidden)
    torch.testing.assert_close(doubled, ImageOnly().prepare(gallery)(queries), atol=1e-5, rtol=0)
    assert (found - doubled).abs().max() > 1e-3


def test_around_another_base_its_own_best_are_joined_and_lengths_stay(space: Space) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [3, 8], [0, 1])
    base = ImagePlusText(0.3)
    scores = base.prepare(gallery)(queries)
    scores[0, 3] = scores[1, 8] = -1
    items, reference = unit(gallery.features), unit(queries.reference)
    best = scores.argmax(dim=1)
    weight = (reference * items[best]).sum(dim=1, keepdim=True) ** 3
    moved = unit(reference + weight * items[best]) * queries.reference.norm(dim=1, keepdim=True)
    expected = base.prepare(gallery)(replace(queries, reference=moved))
    found = AlphaQueryExpansion(base, neighbors=1).prepare(gallery)(queries)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    none = AlphaQueryExpansion(base, neighbors=0).prepare(gallery)(queries)
    assert torch.equal(none, base.prepare(gallery)(queries))
    with pytest.raises(CondsimError, match="TextOnly"):
        AlphaQueryExpansion(TextOnly())


def layer(path: Path, width: int, out: int = 10) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(out, width, generator=generator), torch.randn(out, generator=generator)
    torch.save({"layer.weight": weight, "layer.bias": bias}, path)
    return weight.double(), bias.double()


@pytest.mark.parametrize("base", [ImageOnly(), TextOnly(), ImagePlusText(0.3)])
def test_the_adapter_maps_unit_features_of_both_kinds(space: Space, tmp_path: Path, base: Method) -> None:
    weight, bias = layer(tmp_path / "layer.pth", space.width)
    gallery = space.gallery()
    queries = space.queries(gallery, [3, 8], [0, 1])
    found = LinearAdapter(base, str(tmp_path / "layer.pth")).prepare(gallery)(queries).double()
    items, image, text = (
        unit(unit(x.double()) @ weight.T + bias) for x in (gallery.features, queries.reference, queries.text)
    )
    query = {"ImageOnly": image, "TextOnly": text, "ImagePlusText": 0.3 * image + 0.7 * text}[type(base).__name__]
    torch.testing.assert_close(found, unit(query) @ items.T, atol=1e-5, rtol=0)


def test_around_clay_prompts_are_adapted_too(space: Space, tmp_path: Path) -> None:
    path = tmp_path / "identity.safetensors"
    write_state_dict(path, {"layer.weight": torch.eye(space.width), "layer.bias": torch.zeros(space.width)}, {})
    gallery = space.gallery()
    queries = space.queries(gallery, [3, 8], [0, 1])
    found = LinearAdapter(Clay(rank=4), str(path)).prepare(gallery)(queries)
    torch.testing.assert_close(found, Clay(rank=4).prepare(gallery)(queries), atol=1e-5, rtol=0)


def test_a_layer_that_does_not_fit_is_refused(space: Space, tmp_path: Path) -> None:
    with pytest.raises(CondsimError, match="lin_adapt_layers"):
        LinearAdapter().prepare(space.gallery())
    layer(tmp_path / "wide.pth", 7)
    with pytest.raises(CondsimError, match="width 7, this backbone's have width 24"):
        LinearAdapter(checkpoint=str(tmp_path / "wide.pth")).prepare(space.gallery())
    torch.save({"layer.weight": torch.zeros(3, 24)}, tmp_path / "half.pth")
    with pytest.raises(CondsimError, match=r"layer\.bias"):
        LinearAdapter(checkpoint=str(tmp_path / "half.pth")).prepare(space.gallery())


def test_a_wrapper_needs_texts_only_where_it_or_its_base_reads_them() -> None:
    """With published features of images alone, image_only runs, and so does what corrects its scores."""
    wrappers = [
        NearestNeighborNormalization, QueryBankNormalization, TransductiveNearestNeighborNormalization,
        TransductiveQueryBankNormalization, AlphaQueryExpansion,
    ]  # fmt: skip
    for wrapper in wrappers:
        assert not wrapper(base=ImageOnly()).needs_text
        assert wrapper(base=ImagePlusText()).needs_text
    for off, on in (
        (NeighborhoodRerank(base=ImageOnly(), weight=0.0), NeighborhoodRerank(base=ImageOnly())),
        (LocalSteering(base=ImageOnly(), theta=0.0), LocalSteering(base=ImageOnly())),
    ):
        assert (off.needs_text, on.needs_text) == (False, True)
