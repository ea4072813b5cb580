"""BASIC against the equations of its released code in numpy float64, and each of its flags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from condsim.harness.errors import CondsimError
from condsim.methods.basic import Basic, contrastive_projection
from encoders import Space

SUBJECTS = tuple(f"thing {i}" for i in range(30))
STYLES = tuple(f"look {i}" for i in range(20))


@pytest.fixture
def words(tmp_path: Path) -> dict[str, Any]:
    """The two lists as files, the subjects with the published header."""
    (tmp_path / "subjects.csv").write_text("\n".join(["object_name", *SUBJECTS]))
    (tmp_path / "styles.csv").write_text("\n".join(STYLES))
    return {"subjects": str(tmp_path / "subjects.csv"), "styles": str(tmp_path / "styles.csv")}


def unit(x: Any) -> np.ndarray:
    x = np.asarray(x, dtype=np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def by_hand(
    space: Space,
    gallery: Any,
    queries: Any,
    *,
    subjects: tuple[str, ...] = SUBJECTS,
    rank: int = 6,
    expansion: int = 5,
    context: int = 4,
    w: float = 0.2,
    harris: float = 0.1,
    offset: float = 0.0,
    normalize: bool = True,
    over_image: bool = False,
    temperature: float = 0.1,
    mean: np.ndarray | None = None,
    minima: tuple[float, float] | None = None,
) -> np.ndarray:
    """[B, N] the published equations."""
    items, reference = unit(gallery.features), unit(queries.reference)
    positive, negative = unit(space.encode_texts(subjects)), unit(space.encode_texts(STYLES))
    image_mean, text_mean = items.mean(axis=0) if mean is None else mean, positive.mean(axis=0)
    texts = []
    for condition in gallery.conditions:
        name = " and ".join(condition)
        some = subjects[:context]
        orders = [f"{word} {name}" for word in some] + [f"{name} {word}" for word in some]
        texts.append(unit(unit(space.encode_texts(orders or [name])).mean(axis=0)))
    text = np.stack(texts) - text_mean
    a, b = positive - text_mean, negative - text_mean
    c = (1 - w) * a.T @ a / (len(a) - 1) - w * b.T @ b / (len(b) - 1) + offset
    values, vectors = np.linalg.eigh(c)
    vectors = vectors[:, ::-1][:, : min(rank, int((values > 0).sum()))]
    projection = vectors @ vectors.T if rank else np.eye(len(c))
    centred, query = items - image_mean, reference - image_mean
    projected = query @ projection
    if expansion:
        expanded = []
        for own, similarity in zip(query, projected @ centred.T, strict=True):
            best = np.argsort(-similarity)[:expansion]
            weights = np.exp(temperature * np.append(similarity[best], 1.0))
            expanded.append((weights / weights.sum()) @ np.vstack((centred[best], own)))
        projected = np.stack(expanded) @ projection
    i, t = projected @ centred.T, text[queries.condition.numpy()] @ centred.T
    if normalize:
        lowest_image, lowest_text = minima or ((centred @ centred.T).min(), (text @ centred.T).min())
        i = (i - lowest_image) / abs(lowest_image)
        t = (t - lowest_text) / abs(lowest_image if over_image else lowest_text)
    i, t = np.maximum(i, 0), np.maximum(t, 0)
    result: np.ndarray = t * i - harris * (t + i) ** 2
    return result


SMALL: dict[str, Any] = {"rank": 6, "expansion": 5, "context": 4}


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        ({}, {}),
        ({"rank": 0}, {"rank": 0}),
        ({"expansion": 0}, {"expansion": 0}),
        ({"context": 0}, {"context": 0}),
        ({"harris": 0.0}, {"harris": 0.0}),
        ({"style_weight": 0.6}, {"w": 0.6}),
        ({"temperature": 5.0}, {"temperature": 5.0}),
        ({"image_minimum": -2.0, "text_minimum": -3.0}, {"minima": (-2.0, -3.0)}),
        ({"normalize": False}, {"normalize": False}),
        ({"text_over_image_minimum": True}, {"over_image": True}),
        ({"header_as_word": True}, {"subjects": ("object_name", *SUBJECTS)}),
    ],
)
def test_scores_are_those_of_the_published_equations(
    space: Space, words: dict[str, Any], settings: dict[str, Any], changes: dict[str, Any]
) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [3, 8, 21], [0, 1, 3])
    found = Basic(**{**words, **SMALL, **settings}).prepare(gallery)(queries).numpy()
    np.testing.assert_allclose(found, by_hand(space, gallery, queries, **changes), atol=2e-4)
    if settings:
        usual = Basic(**words, **SMALL).prepare(gallery)(queries).numpy()
        assert np.abs(found - usual).max() > 1e-3


def test_the_offset_of_the_released_code_is_added_to_every_entry(space: Space) -> None:
    positive, negative = (unit(space.encode_texts(some)) for some in (SUBJECTS, STYLES))
    mean = positive.mean(axis=0)
    args = torch.from_numpy(positive), torch.from_numpy(negative), torch.from_numpy(mean)
    a, b = positive - mean, negative - mean
    c = 0.8 * a.T @ a / (len(a) - 1) - 0.2 * b.T @ b / (len(b) - 1)
    for offset in (0.0, 0.5):
        leading = contrastive_projection(*args, rank=3, style_weight=0.2, offset=offset).numpy()
        np.testing.assert_allclose(leading.T @ leading, np.eye(3), atol=1e-10)
        expected = np.linalg.eigvalsh(c + offset)[::-1][:3]
        np.testing.assert_allclose(np.diag(leading.T @ (c + offset) @ leading), expected, atol=1e-10)


def test_the_flag_of_the_offset_reaches_the_projection(
    space: Space, words: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [3], [0])
    monkeypatch.setattr("condsim.methods.basic.RELEASED_OFFSET", 0.5)
    plain, changed = (Basic(**words, **SMALL, offset_matrix=flag).prepare(gallery)(queries) for flag in (False, True))
    np.testing.assert_allclose(changed.numpy(), by_hand(space, gallery, queries, offset=0.5), atol=2e-4)
    assert (changed - plain).abs().max() > 1e-3


def test_only_positive_eigenvalues_are_kept(space: Space) -> None:
    words = torch.from_numpy(unit(space.encode_texts(SUBJECTS)))
    leading = contrastive_projection(words, words, words.mean(dim=0), rank=24, style_weight=0.6)
    assert leading.shape[1] == 0  # C is negative semidefinite where the same words weigh more as styles


def test_a_file_with_the_mean_image_is_used(space: Space, words: dict[str, Any], tmp_path: Path) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [3, 8], [0, 1])
    own = unit(gallery.features).mean(axis=0).astype(np.float32)
    np.save(tmp_path / "mean.npy", own)
    usual = Basic(**words, **SMALL).prepare(gallery)(queries)
    torch.testing.assert_close(
        Basic(**words, **SMALL, image_mean=str(tmp_path / "mean.npy")).prepare(gallery)(queries),
        usual,
        atol=1e-4,
        rtol=0,
    )
    other = np.linspace(-0.1, 0.1, 24)
    np.save(tmp_path / "other.npy", other)
    changed = Basic(**words, **SMALL, image_mean=str(tmp_path / "other.npy")).prepare(gallery)(queries).numpy()
    np.testing.assert_allclose(changed, by_hand(space, gallery, queries, mean=other), atol=2e-4)
    assert np.abs(changed - usual.numpy()).max() > 1e-2
    np.save(tmp_path / "wide.npy", np.zeros(7, dtype=np.float32))
    with pytest.raises(CondsimError, match="expected 24 finite numbers"):
        Basic(**words, image_mean=str(tmp_path / "wide.npy")).prepare(gallery)
    with pytest.raises(CondsimError, match=r"laion_mean of github\.com/billpsomas/icir"):
        Basic(**words, image_mean=str(tmp_path / "none.npy")).prepare(gallery)


def test_a_gallery_of_one_is_scored(space: Space, words: dict[str, Any]) -> None:
    gallery = space.gallery(1)
    assert torch.isfinite(Basic(**words).prepare(gallery)(space.queries(gallery, [0], [1]))).all()


def test_a_list_that_cannot_be_found_says_where_the_published_one_is(space: Space, tmp_path: Path) -> None:
    with pytest.raises(
        CondsimError, match=r"generic_subjects\.csv of github\.com/billpsomas/icir.*method\.subjects=FILE"
    ):
        Basic(subjects="subjects.csv").prepare(space.gallery())
    (tmp_path / "empty.csv").write_text("\n")
    with pytest.raises(CondsimError, match="holds no words"):
        Basic(styles=str(tmp_path / "empty.csv")).prepare(space.gallery())
