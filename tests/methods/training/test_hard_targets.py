"""Hard targets against a brute-force search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from condsim.harness.errors import CondsimError
from condsim.harness.task import ImageTable
from condsim.harness.triplets import Triplets
from condsim.methods.training.hard_targets import with_hard_targets

IMAGES = torch.randn(12, 5, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 13)[:, None]


def triplets(questions: list[int] | None, count: int = 30) -> Triplets:
    rng = np.random.default_rng(1)
    reference, target = rng.integers(-1, 12, count), rng.integers(0, 12, count)
    question = None if questions is None else np.array(questions)
    table = ImageTable(Path("nowhere"), tuple(f"{i}.png" for i in range(12)))
    return Triplets("some", table, ("text",), reference, np.zeros(count, np.int64), target, question=question)


def test_each_target_becomes_the_answer_nearest_to_its_reference() -> None:
    source = triplets([i % 4 for i in range(30)])
    assert source.question is not None
    hard = with_hard_targets(source, IMAGES, most=100, seed=0)
    for i in range(30):
        if source.reference[i] < 0:
            assert hard.target[i] == source.target[i]
            continue
        same = (source.question == source.question[i]) & (source.reference >= 0)
        answers = sorted(set(source.target[same].tolist()) - {int(source.reference[i])})
        cosines = [float(cosine_similarity(IMAGES[source.reference[i]], IMAGES[a], dim=0)) for a in answers]
        assert hard.target[i] == answers[int(np.argmax(cosines))]
    np.testing.assert_array_equal(hard.reference, source.reference)
    np.testing.assert_array_equal(hard.text, source.text)
    assert (hard.target != source.target).any()


def test_of_many_answers_the_seed_draws_a_few() -> None:
    source = triplets([0] * 30)
    few = with_hard_targets(source, IMAGES, most=3, seed=0)
    with_reference = source.reference >= 0
    assert len(set(few.target[with_reference].tolist())) <= 3
    np.testing.assert_array_equal(few.target, with_hard_targets(source, IMAGES, most=3, seed=0).target)
    others = [with_hard_targets(source, IMAGES, most=3, seed=seed).target for seed in range(1, 6)]
    assert any((few.target != other).any() for other in others)


def test_sources_without_questions_and_questions_with_one_answer_are_unchanged() -> None:
    assert with_hard_targets(source := triplets(None), IMAGES, most=8, seed=0) is source
    alone = triplets(list(range(30)))
    np.testing.assert_array_equal(with_hard_targets(alone, IMAGES, most=8, seed=0).target, alone.target)


def test_one_candidate_is_refused() -> None:
    with pytest.raises(CondsimError, match=r"training\.hard_targets must be at least 2"):
        with_hard_targets(triplets(None), IMAGES, most=1, seed=0)
