"""The concepts that an image shows, and phrases about them: what regularises the training of pseudo-words (SEARLE)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import torch

from condsim.harness.errors import CondsimError, first_of
from condsim.harness.files.json_files import read_json
from condsim.harness.files.paths import resolve
from condsim.harness.one_vector import unit
from condsim.harness.process.tensors import Tensor
from condsim.methods.shared.nearest import nearest

MARK = "$"
Phrase = tuple[str, str]
"""A phrase about a concept, and the same phrase with "$" in place of the concept where it comes first."""
_EXPECTED = "an object of concept: [phrase, phrase, ...]"


def phrases_about(concept: str, texts: Sequence[str]) -> tuple[Phrase, ...]:
    """Each of ``texts`` that contains the concept as a word, once."""
    word = re.compile(rf"(?<!\w){re.escape(concept)}(?!\w)", re.IGNORECASE)
    return tuple((text, word.sub(MARK, text, count=1)) for text in dict.fromkeys(texts) if word.search(text))


def read_phrases(file: str, setting: str) -> Mapping[str, list[str]]:
    """Concept -> its phrases, from a JSON file. Raises CondsimError naming the entry that is no list of texts."""
    path = resolve(file)
    content = read_json(path, _EXPECTED)
    if not isinstance(content, dict) or not content:
        raise CondsimError(f"{setting}={path}: expected {_EXPECTED}")
    for concept, phrases in content.items():
        if not isinstance(phrases, list) or not all(isinstance(phrase, str) for phrase in phrases):
            raise CondsimError(f"{setting}={path}: entry {concept!a}: expected a list of texts")
    return content


class Concepts:
    """Concepts with at least one phrase each, and their features.

    Args:
        concepts: the dictionary of concepts. Those without a phrase are never drawn.
        texts: concept -> its phrases, or texts that are phrases of every concept that they contain.
        templates: texts with "$" for the concept, whose unit features are averaged.
        encode_texts: texts -> [len, D] raw features.

    Raises CondsimError where no concept has a phrase.
    """

    def __init__(
        self,
        concepts: Sequence[str],
        texts: Mapping[str, Sequence[str]] | Sequence[str],
        templates: Sequence[str],
        encode_texts: Callable[[Sequence[str]], Tensor],
    ) -> None:
        phrases = {}
        for name in concepts:
            if about := phrases_about(name, texts.get(name, ()) if isinstance(texts, Mapping) else texts):
                phrases[name] = about
        if not phrases:
            raise CondsimError(
                f"no phrase contains any of the {len(concepts)} concepts, such as {first_of(concepts)}: set "
                "method.concepts to words of the training data's texts, or method.gpt_phrases to a file of phrases"
            )
        self.names, self.phrases = tuple(phrases), tuple(phrases.values())
        filled = [template.replace(MARK, name) for name in self.names for template in templates]
        features = unit(encode_texts(filled)).view(len(self.names), len(templates), -1)
        self.features = unit(features.mean(dim=1))

    def nearest(self, images: Tensor, k: int) -> Tensor:
        """int64 [B, min(k, concepts)] the concepts most similar to raw image features [B, D], best first."""
        return nearest(unit(images), self.features.to(images), k)[1]

    def draw(self, nearest: Tensor, generator: torch.Generator | None = None) -> list[Phrase]:
        """For each row of ``nearest`` a phrase of one of its concepts: a uniform concept, then a uniform phrase."""
        places = torch.rand(len(nearest), 2, generator=generator).double()
        pairs = []
        for row, (first, second) in zip(nearest.tolist(), places.tolist(), strict=True):
            own = self.phrases[row[int(first * len(row))]]
            pairs.append(own[int(second * len(own))])
        return pairs
