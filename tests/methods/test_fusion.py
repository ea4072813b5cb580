"""Product, slerp and WeiCom against their equations in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import ndtr

from condsim.harness.errors import CondsimError
from condsim.harness.one_vector import unit
from condsim.methods.fusion import Product, Slerp, WeiCom, moments, slerp
from condsim.methods.inner_product import ImageOnly, TextOnly
from encoders import Space


def similarities(gallery: Any, queries: Any) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of reference and text with the gallery in float64."""
    items, image, text = (unit(x.double()) for x in (gallery.features, queries.reference, queries.text))
    return (image @ items.T).numpy(), (text @ items.T).numpy()


def test_the_product_is_that_of_the_cosines_clamped_at_0(space: Space) -> None:
    gallery = space.gallery()
    gallery = replace(gallery, features=gallery.features - 2 * gallery.features.mean(dim=0))  # cosines of both signs
    queries = space.queries(gallery, [3, 8], [0, 1])
    image, text = similarities(gallery, queries)
    assert ((image < 0) & (text < 0)).any()
    plain = Product(clamp=False).prepare(gallery)(queries).numpy()
    clamped = Product().prepare(gallery)(queries).numpy()
    np.testing.assert_allclose(plain, image * text, atol=1e-6)
    np.testing.assert_allclose(clamped, np.maximum(image, 0) * np.maximum(text, 0), atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_slerp_divides_the_angle_in_proportion(share: float) -> None:
    angle = 1.1
    start = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    end = torch.tensor([[np.cos(angle), np.sin(angle), 0.0]], dtype=torch.float64)
    expected = torch.tensor([[np.cos(share * angle), np.sin(share * angle), 0.0]], dtype=torch.float64)
    torch.testing.assert_close(slerp(start, end, share), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(("cosine", "falls_back"), [(0.99951, True), (0.99949, False), (1.0, True)])
def test_slerp_falls_back_to_linear_interpolation_near_0_and_pi(sign: float, cosine: float, falls_back: bool) -> None:
    """At cosines beyond 0.9995 in size the result is the unit linear interpolation, elsewhere the arc."""
    start = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    end = torch.tensor([[sign * cosine, np.sqrt(1 - cosine**2)]], dtype=torch.float64)
    found = slerp(start, end, 0.25)
    linear = unit(torch.lerp(start, end, 0.25))
    theta = np.arccos(sign * cosine)
    arc = torch.tensor([[np.cos(0.25 * theta), np.sin(0.25 * theta)]], dtype=torch.float64)
    torch.testing.assert_close(found, linear if falls_back else arc, atol=1e-9, rtol=0)
    if sign < 0 and cosine < 1:
        assert (linear - arc).abs().max() > 0.1  # at a large angle the two differ, so the test can tell them apart


def test_slerp_of_opposite_vectors_is_finite(space: Space) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [3], [0])
    queries = replace(queries, text=-2 * queries.reference)
    assert torch.isfinite(Slerp(0.5).prepare(gallery)(queries)).all()


def test_the_ends_of_slerp_and_weicom_rank_as_image_only_and_text_only(space: Space) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [3, 5, 7], [0, 1, 3])
    image, text = (method.prepare(gallery)(queries) for method in (ImageOnly(), TextOnly()))
    for method in (Slerp, WeiCom):
        assert torch.equal(method(1.0).prepare(gallery)(queries).argsort(dim=1), image.argsort(dim=1))
        assert torch.equal(method(0.0).prepare(gallery)(queries).argsort(dim=1), text.argsort(dim=1))
        with pytest.raises(CondsimError, match=r"\[0, 1\]"):
            method(1.5)


@pytest.mark.parametrize("weight", [0.5, 0.7])
def test_weicom_is_the_weighted_sum_of_normal_distribution_functions_less_one(space: Space, weight: float) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [3, 8, 8], [0, 1, 2])
    parts = []
    for side in similarities(gallery, queries):
        z = (side - side.mean(axis=1, keepdims=True)) / side.std(axis=1, ddof=1, keepdims=True)
        parts.append(ndtr(z))
    expected = weight * parts[0] + (1 - weight) * parts[1]
    found = WeiCom(weight).prepare(gallery)(queries).numpy()
    np.testing.assert_allclose(found + 1, expected, atol=1e-5)


def test_weicom_on_a_gallery_of_one_or_of_equals_is_half(space: Space) -> None:
    gallery = space.gallery(1)
    queries = space.queries(space.gallery(), [3, 8], [0, 1])
    assert torch.equal(WeiCom().prepare(gallery)(queries), torch.full((2, 1), -0.5))
    alike = replace(gallery, features=gallery.features.expand(6, -1), rows=np.arange(6))
    torch.testing.assert_close(WeiCom().prepare(alike)(queries), torch.full((2, 6), -0.5))


def test_weicom_does_not_tie_the_far_ends(space: Space) -> None:
    """At z = 6 and 7 the distribution function is 1 in float32; the scores must still differ."""
    items = torch.zeros(100_000, 2)
    items[:, 0] = 1
    items[0] = torch.tensor([0.0, 1.0])
    items[1] = unit(torch.tensor([0.1, 1.0]))
    items = items + 1e-3 * torch.randn(items.shape, generator=torch.Generator().manual_seed(0))
    gallery = replace(space.gallery(2), features=items)
    queries = replace(
        space.queries(space.gallery(), [3], [0]),
        reference=torch.tensor([[0.0, 1.0]]),
        text=torch.tensor([[0.0, 1.0]]),
    )
    scores = WeiCom().prepare(gallery)(queries)[0]
    assert scores[0] >= scores[1] > scores[2]


def test_the_moments_are_the_mean_and_the_unbiased_covariance() -> None:
    items = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    mean, covariance = moments(items, rows_at_once=7)
    np.testing.assert_allclose(mean.numpy(), items.double().mean(dim=0).numpy(), atol=1e-12)
    np.testing.assert_allclose(covariance.numpy(), np.cov(items.double().numpy().T), atol=1e-12)
