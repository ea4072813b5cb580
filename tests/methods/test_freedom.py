"""FreeDom against the steps of its released code, written out query by query."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from condsim.harness.errors import CondsimError
from condsim.methods.freedom import Freedom, most_frequent
from encoders import Space

WORDS = tuple(f"word {i}" for i in range(25))
SMALL: dict[str, Any] = {"neighbors": 5, "words_each": 3, "words": 4}


@pytest.fixture
def vocabulary(tmp_path: Path) -> str:
    path = tmp_path / "words.csv"
    path.write_text("\n".join(WORDS))
    return str(path)


def unit(x: Any) -> np.ndarray:
    x = np.asarray(x, dtype=np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def by_hand(
    space: Space, gallery: Any, queries: Any, add_self: list[bool], *, neighbors: int = 5, each: int = 3, most: int = 4
) -> np.ndarray:
    """[B, N] the published equations."""
    items, features = unit(gallery.features), unit(space.encode_texts(WORDS))
    scores = []
    for reference, condition, added in zip(unit(queries.reference), queries.condition.tolist(), add_self, strict=True):
        around = list(items[np.argsort(-(items @ reference))[:neighbors]])
        if added:
            around = [reference, *around[:-1]]
        counts: dict[int, int] = {}
        for image in around:
            for word in np.argsort(-(features @ image))[:each].tolist():
                counts[word] = counts.get(word, 0) + 1
        best = sorted(counts, key=lambda word: counts[word], reverse=True)[:most]
        name = " and ".join(gallery.conditions[condition])
        texts = unit(space.encode_texts([f"{WORDS[word]} {name}" for word in best]))
        weights = np.array([counts[word] / counts[best[0]] for word in best])
        scores.append(unit(weights @ texts) @ items.T)
    return np.stack(scores)


@pytest.mark.parametrize(
    ("rule", "added"),
    [("query", [False, True]), ("batch", [True, True]), ("always", [True, True]), ("never", [False, False])],
)
def test_scores_are_those_of_the_published_steps(space: Space, vocabulary: str, rule: str, added: list[bool]) -> None:
    """The first reference is in the gallery, the second is not."""
    gallery = space.gallery()
    queries = space.queries(gallery, [3, 8], [0, 3])
    outside = torch.stack((queries.reference[0], space.encode_images(1, seed=9)[0]))
    queries = replace(queries, reference=outside)
    method = Freedom(vocabulary=vocabulary, add_self=rule, **SMALL)
    found = method.prepare(gallery)(queries).numpy()
    np.testing.assert_allclose(found, by_hand(space, gallery, queries, added), atol=1e-5)
    opposite = by_hand(space, gallery, queries, [not one for one in added])
    assert np.abs(found - opposite).max() > 1e-3


@pytest.mark.parametrize(
    ("settings", "changes"),
    [({"neighbors": 2}, {"neighbors": 2}), ({"words_each": 6}, {"each": 6}), ({"words": 1}, {"most": 1})],
)
def test_every_size_changes_the_step_it_belongs_to(
    space: Space, vocabulary: str, settings: dict[str, int], changes: dict[str, int]
) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [3, 8], [0, 3])
    found = Freedom(vocabulary=vocabulary, add_self="never", **SMALL | settings).prepare(gallery)(queries).numpy()
    np.testing.assert_allclose(found, by_hand(space, gallery, queries, [False, False], **changes), atol=1e-5)
    assert np.abs(found - by_hand(space, gallery, queries, [False, False])).max() > 1e-3


def test_the_rule_of_the_released_code_depends_on_the_batch_and_the_default_does_not(
    space: Space, vocabulary: str
) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [3, 8], [0, 3])
    outside = replace(queries, reference=torch.stack((queries.reference[0], space.encode_images(1, seed=9)[0])))
    alone = space.queries(gallery, [3], [0])
    released, default = (
        Freedom(vocabulary=vocabulary, add_self=rule, **SMALL).prepare(gallery) for rule in ("batch", "query")
    )
    torch.testing.assert_close(default(outside)[:1], default(alone))
    assert (released(outside)[:1] - released(alone)).abs().max() > 1e-3


def test_the_most_frequent_words_come_with_their_frequency_over_the_highest() -> None:
    rows = torch.tensor([[7, 2, 2, 9, 7, 2, 5, 9], [1, 1, 1, 1, 1, 1, 1, 1]])
    assert most_frequent(rows, 3) == [[(2, 1.0), (7, 2 / 3), (9, 2 / 3)], [(1, 1.0)]]


def test_a_vocabulary_that_cannot_be_found_says_where_the_published_one_is(space: Space) -> None:
    with pytest.raises(CondsimError, match=r"CC BY 4\.0.*method\.vocabulary=FILE"):
        Freedom(vocabulary="names.csv").prepare(space.gallery())
    with pytest.raises(CondsimError, match="query"):
        Freedom(add_self="querry")


def test_a_small_gallery_and_a_small_vocabulary_are_enough(space: Space, tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text("circle\nsquare\n")
    gallery = space.gallery(2)
    scores = Freedom(vocabulary=str(tmp_path / "two.txt")).prepare(gallery)(space.queries(gallery, [0, 1], [0, 1]))
    assert torch.isfinite(scores).all()
