"""Textual inversion and its concepts against closed forms, in float64 and with a linear text encoder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from condsim.harness.errors import CondsimError
from condsim.methods.shared.concepts import Concepts, phrases_about, read_phrases
from condsim.methods.shared.inversion import INITIAL_DEVIATION, TEMPLATES, Inversion

pytestmark = pytest.mark.slow

D, E = 6, 4
PHRASE = ("a cat sleeps", "a $ sleeps")


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


WEIGHT = normal(1, D, E)


def offset(text: str) -> Tensor:
    return normal(sum(map(ord, text)), D)


def encode_texts(texts: Sequence[str]) -> Tensor:
    return torch.stack([offset(text) for text in texts])


def encode_words(texts: Sequence[str], vectors: Tensor) -> Tensor:
    """A linear text encoder: text("... $ ...") = W v + b(text)."""
    assert all("$" in text for text in texts)
    return vectors @ WEIGHT.T + encode_texts(texts)


def concepts() -> Concepts:
    return Concepts(["cat"], [PHRASE[0]], ["$"], encode_texts)


def gradient(feature: Tensor, wanted: Tensor) -> Tensor:
    """d (1 - cos(feature, wanted)) / d feature."""
    f, w = feature / feature.norm(), wanted / wanted.norm()
    return -(w - (f @ w) * f) / feature.norm()


@pytest.mark.parametrize("lambda_gpt", [0.0, 0.5])
def test_two_steps_are_those_of_adamw_on_the_closed_form_gradient(lambda_gpt: float) -> None:
    images = 3 * normal(2, 2, D)
    rate, decay, ema = 0.02, 0.01, 0.9
    inversion = Inversion(
        steps=2, learning_rate=rate, weight_decay=decay, lambda_gpt=lambda_gpt, ema_decay=ema, templates=["a $"], seed=5
    )
    words = inversion(images, E, concepts(), encode_words, encode_texts)
    start = INITIAL_DEVIATION * torch.randn(2, E, generator=torch.Generator().manual_seed(5 * 1_000_003))
    for image, first, result in zip(images, start.double(), words, strict=True):
        vector, average = first.clone(), first.clone()
        mean, square = torch.zeros(E, dtype=torch.float64), torch.zeros(E, dtype=torch.float64)
        for step in (1, 2):
            cos = gradient(WEIGHT @ vector + offset("a $"), image)
            gpt = gradient(WEIGHT @ vector + offset(PHRASE[1]), offset(PHRASE[0]))
            g = WEIGHT.T @ (cos + lambda_gpt * gpt) / (1 + lambda_gpt) / len(images)
            mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g**2
            update = (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
            vector = vector * (1 - rate * decay) - rate * update
            average = ema * average + (1 - ema) * vector
        torch.testing.assert_close(result, average, rtol=1e-10, atol=1e-12)


def test_an_interrupted_inversion_ends_in_the_same_vectors() -> None:
    images = normal(3, 7, D)
    inversion = Inversion(steps=3, batch_size=3)
    kept: list[list[Tensor]] = []
    whole = inversion(
        images, E, concepts(), encode_words, encode_texts, on_batch=lambda batches: kept.append(list(batches))
    )
    assert [len(torch.cat(batches)) for batches in kept] == [3, 6, 7]
    resumed = inversion(images, E, concepts(), encode_words, encode_texts, done=kept[0])
    assert torch.equal(whole, resumed)
    assert not torch.equal(whole[:3], Inversion(steps=3, batch_size=3, seed=1)(
        images[:3], E, concepts(), encode_words, encode_texts
    ))  # fmt: skip


def test_inversion_leaves_the_global_random_numbers_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    Inversion(steps=2)(normal(4, 2, D), E, concepts(), encode_words, encode_texts)
    assert torch.equal(torch.rand(1), expected)


def test_the_published_templates_are_24_texts_with_the_mark() -> None:
    assert len(set(TEMPLATES)) == len(TEMPLATES) == 24
    assert {"$", "A photo of a $", "This is an illustration of a $", "This sketch contains a $", "$ image"} <= set(
        TEMPLATES
    )
    assert all(template.count("$") == 1 for template in TEMPLATES)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, r"method\.inversion\.steps must be at least 1"),
        ({"learning_rate": 0.0}, r"method\.inversion\.learning_rate must be above 0"),
        ({"ema_decay": 1.0}, r"method\.inversion\.ema_decay must be in \[0, 1\)"),
        ({"templates": ["a photo"]}, r"method\.inversion\.templates must be texts with \$"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, float], message: str) -> None:
    with pytest.raises(CondsimError, match=message):
        Inversion(**settings)  # type: ignore[arg-type]


def test_phrases_hold_the_concept_as_a_word_and_lose_its_first_occurrence() -> None:
    texts = ["A Cat and a cat", "category", "two cats", "the cat.", "the cat.", "c.t"]
    assert phrases_about("cat", texts) == (("A Cat and a cat", "A $ and a cat"), ("the cat.", "the $."))
    assert phrases_about("c.t", texts) == (("c.t", "$"),)
    assert phrases_about("dog", texts) == ()


def test_the_nearest_concepts_are_by_the_mean_of_the_templates() -> None:
    templates, names = ["a $", "the $"], ["cat", "dog", "tree", "fish"]
    found = Concepts(names, [f"one {name}" for name in names[:3]], templates, encode_texts)
    assert found.names == ("cat", "dog", "tree")  # no phrase about fish
    images = normal(6, 5, D)
    for image, row in zip(images, found.nearest(images, 2).tolist(), strict=True):
        scores = []
        for name in found.names:
            parts = [offset(template.replace("$", name)) for template in templates]
            mean = sum((part / part.norm() for part in parts), torch.zeros(D, dtype=torch.float64))
            scores.append(float(torch.cosine_similarity(mean, image, dim=0)))
        assert row == sorted(range(3), key=lambda i: -scores[i])[:2]


def test_phrases_are_drawn_uniformly_over_the_concepts_and_then_over_their_phrases() -> None:
    texts = ["a cat", "the cat", "one cat", "a dog"]
    found = Concepts(["cat", "dog", "a"], texts, ["$"], encode_texts)
    drawn = found.draw(torch.tensor([[0, 1]] * 6000), torch.Generator().manual_seed(0))
    shares = {text: sum(pair[0] == text for pair in drawn) / len(drawn) for text in texts}
    assert shares == pytest.approx({"a cat": 1 / 6, "the cat": 1 / 6, "one cat": 1 / 6, "a dog": 1 / 2}, abs=0.03)


def test_a_file_of_phrases_is_read_and_its_faults_are_named(tmp_path: Path) -> None:
    file = tmp_path / "phrases.json"
    file.write_text(json.dumps({"cat": ["a cat sleeps", "nothing here"], "dog": ["no animal"]}))
    found = Concepts(["cat", "dog"], read_phrases(str(file), "method.gpt_phrases"), ["$"], encode_texts)
    assert (found.names, found.phrases) == (("cat",), ((PHRASE,),))
    file.write_text('{"cat": "a cat"}')
    with pytest.raises(CondsimError, match=r"phrases\.json: entry 'cat': expected a list of texts"):
        read_phrases(str(file), "method.gpt_phrases")
    file.write_text("[]")
    with pytest.raises(CondsimError, match="expected an object of concept"):
        read_phrases(str(file), "method.gpt_phrases")
    with pytest.raises(CondsimError, match=r"no phrase contains any of the 1 concepts, such as ship: set method\.conc"):
        Concepts(["ship"], ["a cat"], ["$"], encode_texts)
