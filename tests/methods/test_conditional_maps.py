"""InDiReCT, CRL and the Combiner on both sides: one map per condition, applied to query and candidates."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from builders import make_task
from condsim.harness.errors import CondsimError, NotApplicable
from condsim.harness.files.state_dict import write_state_dict
from condsim.harness.one_vector import unit
from condsim.methods.combiner_both_sides import CombinerBothSides
from condsim.methods.crl import POSITIONS, Crl, CrlComposed
from condsim.methods.indirect import Indirect, fitted_projection, reconstruction_angle
from condsim.methods.phrases.lexicon import Lexicon
from condsim.methods.shared.combiner_network import CombinerNetwork
from encoders import Space


def test_the_loss_is_the_mean_angle_to_the_rebuilt_text() -> None:
    generator = torch.Generator().manual_seed(0)
    texts = unit(torch.randn(7, 12, generator=generator, dtype=torch.float64))
    projection = torch.randn(4, 12, generator=generator, dtype=torch.float64)
    coordinates = texts.numpy() @ projection.numpy().T
    coordinates /= np.linalg.norm(coordinates, axis=1, keepdims=True)
    rebuilt = coordinates @ projection.numpy()
    rebuilt /= np.linalg.norm(rebuilt, axis=1, keepdims=True)
    expected = np.arccos((texts.numpy() * rebuilt).sum(axis=1)).mean()
    assert float(reconstruction_angle(texts, projection)) == pytest.approx(expected, abs=1e-9)


def test_texts_in_a_plane_are_rebuilt_by_two_components() -> None:
    generator = torch.Generator().manual_seed(0)
    texts = unit(torch.randn(20, 2, generator=generator) @ torch.randn(2, 12, generator=generator))
    assert float(reconstruction_angle(texts, fitted_projection(texts, 2, patience=200))) < 0.02
    first, again, other = (fitted_projection(texts, 2, steps=20, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_first_step_is_that_of_adam() -> None:
    """Adam's first step moves every entry by the learning rate against the sign of its gradient."""
    texts = unit(torch.randn(9, 12, generator=torch.Generator().manual_seed(1)))
    start = (0.1 * torch.randn(3, 12, generator=torch.Generator().manual_seed(0))).requires_grad_()
    (gradient,) = torch.autograd.grad(reconstruction_angle(texts, start), start)
    found = fitted_projection(texts, 3, rate=0.01, steps=2)
    torch.testing.assert_close(found, start.detach() - 0.01 * gradient.sign(), atol=1e-5, rtol=0)


def test_indirect_scores_are_cosines_of_the_mapped_images(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("condsim.methods.indirect.fitted_projection", partial(fitted_projection, steps=30))
    gallery = space.gallery()
    queries = space.queries(gallery, [3, 8, 21], [0, 3, 0])
    method = Indirect(components=5)
    maps = [method._map(condition, gallery).double() for condition in gallery.conditions]
    assert maps[0].shape == (space.width, 5)
    found = method.prepare(gallery)(queries)
    for row, condition in enumerate(queries.condition.tolist()):
        mapped = unit(gallery.features.double()) @ maps[condition]
        query = unit(queries.reference[row : row + 1].double()) @ maps[condition]
        expected = torch.cosine_similarity(query, mapped)
        torch.testing.assert_close(found[row].double(), expected, atol=1e-5, rtol=0)


def test_the_map_has_at_most_a_quarter_of_the_features_width(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("condsim.methods.indirect.fitted_projection", partial(fitted_projection, steps=30))
    assert Indirect()._map(("color",), space.gallery()).shape == (24, 6)


def test_crl_scores_are_products_of_unit_descriptions(space: Space) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [3, 8], [0, 3])
    found = Crl().prepare(gallery)(queries).double()
    for row, condition in enumerate(queries.condition.tolist()):
        values = [value for text in gallery.conditions[condition] for value in Lexicon().values(text)]
        texts = unit(space.encode_texts([f"a photo of {value}" for value in dict.fromkeys(values)]).double())
        described = unit(gallery.features.double() @ texts.T)
        query = unit(queries.reference[row].double() @ texts.T)
        torch.testing.assert_close(found[row], described @ query, atol=1e-5, rtol=0)


def test_composed_crl_adds_the_text_over_the_candidates_at_hand(space: Space) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [3, 8], [0, 3])
    scorer = CrlComposed(weight=10.0).prepare(gallery)
    lists = torch.tensor([[4, 17, 0, 9], [1, 2, 30, -1]])
    texts = unit(space.encode_texts([f"a photo with a scene of {v}" for v in Lexicon().values("scene")]).double())
    for rows, found in ((None, scorer(queries)), (lists, scorer(queries, lists))):
        for row, condition in enumerate(queries.condition.tolist()):
            listed = torch.arange(40) if rows is None else rows[row][rows[row] >= 0]
            items = unit(gallery.features[listed].double())
            alike = unit(items @ texts.T) @ unit(queries.reference[row].double() @ texts.T)
            name = " and ".join(gallery.conditions[condition])
            prompts = [f"a photo with a {name} on the {place}" for place in POSITIONS]
            named = items @ unit(space.encode_texts(prompts).double()).mean(dim=0)
            expected = 10 * alike / alike.norm() + named / named.norm()
            torch.testing.assert_close(found[row, : len(listed)].double(), expected, atol=2e-5, rtol=0)


def test_a_condition_without_values_does_not_apply() -> None:
    for method in (Crl(), Indirect()):
        method.check(make_task(("color",)))
        with pytest.raises(NotApplicable):
            method.check(make_task(("with a dog",)))
    CrlComposed().check(make_task(("with a dog",)))
    with pytest.raises(NotApplicable, match=r"method\.criterion=sceme"):
        CrlComposed(criterion="sceme").check(make_task(("with a dog",)))
    with pytest.raises(CondsimError, match=r"method\.template"):
        Crl(template="a photo")


def test_the_combiner_composes_query_and_candidate_with_the_same_text(space: Space, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = CombinerNetwork(space.width, 10, 14).eval()
    path = tmp_path / "combiner.safetensors"
    write_state_dict(path, network.state_dict(), {"projection": 10, "hidden": 14})
    gallery = space.gallery()
    queries = space.queries(gallery, [3, 8, 8], [0, 3, 1])
    found = CombinerBothSides(str(path)).prepare(gallery)(queries)
    exact = network.double()
    with torch.no_grad():
        for row, condition in enumerate(queries.condition.tolist()):
            text = gallery.condition_features[condition].double()
            items = exact(gallery.features.double(), text.expand(40, -1))
            query = exact(queries.reference[row : row + 1].double(), text[None])
            torch.testing.assert_close(found[row].double(), (items @ query.T)[:, 0], atol=1e-5, rtol=0)
    own = found[torch.arange(3), torch.tensor([3, 8, 8])]
    torch.testing.assert_close(own, torch.ones(3), atol=1e-5, rtol=0)
