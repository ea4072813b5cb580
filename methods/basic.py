"""BASIC (Psomas et al., "Instance-Level Composed Image Retrieval", NeurIPS 2025). Training-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from condsim.harness.errors import CondsimError
from condsim.harness.files.paths import resolve
from condsim.harness.method import Gallery, Method, Queries, Scorer, TwoSided
from condsim.harness.one_vector import inner_products, unit
from condsim.harness.process.tensors import Tensor
from condsim.harness.task import condition_text
from condsim.methods.phrases.lexicon import phrase_source
from condsim.methods.phrases.source import Phrases
from condsim.methods.shared.checks import at_least, share
from condsim.methods.shared.nearest import nearest
from condsim.methods.shared.sphere import direction_sum, mean_of_directions
from condsim.methods.shared.word_list import word_list

HEADER = "object_name"
"""First line of the published list of subjects; the released code reads it as a word."""
RELEASED_OFFSET = 1e-5
"""What the released code adds to every entry of the contrastive matrix."""
_SAMPLE = 1024
"""Gallery items that the minima are taken over."""
_CONDITIONS_AT_ONCE = 64
"""Conditions whose contexts are encoded at a time: 12,800 texts with 100 words in two orders."""


def contrastive_projection(
    subjects: Tensor, styles: Tensor, mean: Tensor, rank: int, style_weight: float, offset: float = 0.0
) -> Tensor:
    """[D, k] orthonormal directions in which ``subjects`` vary and ``styles`` do not, in float64.

    C = (1 - w) S_subjects - w S_styles with S = A^T A / (n - 1) of the unit features [n, D] less ``mean`` [D]; the
    eigenvectors of its ``rank`` largest eigenvalues, of those above 0.

    Args:
        style_weight: w.
        offset: added to every entry of C.
    """
    scatters = []
    for words in (subjects, styles):
        centred = unit(words.double()) - mean
        scatters.append(centred.T @ centred / max(1, len(centred) - 1))
    values, vectors = torch.linalg.eigh((1 - style_weight) * scatters[0] - style_weight * scatters[1] + offset)
    positive = int((values > 0).sum())
    leading: Tensor = vectors.flip(1)[:, : min(rank, positive)]
    return leading


class Basic(Method):
    """score = t i - harris (t + i)^2, with i and t the image's and the text's similarity, centred and rescaled."""

    protocol = 2  # 1: the gallery's mean was that of float32 unit vectors

    def __init__(
        self,
        subjects: str = "category",
        styles: str = "style",
        style_weight: float = 0.2,
        rank: int = 250,
        expansion: int = 25,
        temperature: float = 0.1,
        context: int = 100,
        harris: float = 0.1,
        normalize: bool = True,
        image_mean: str | None = None,
        image_minimum: float | None = None,
        text_minimum: float | None = None,
        text_over_image_minimum: bool = False,
        header_as_word: bool = False,
        offset_matrix: bool = False,
        phrases: Phrases | None = None,
    ) -> None:
        share(style_weight=style_weight)
        at_least(0, rank=rank, expansion=expansion, context=context)
        for name, minimum in (("image_minimum", image_minimum), ("text_minimum", text_minimum)):
            if minimum == 0:
                raise CondsimError(f"method.{name} must not be 0: similarities are divided by it")
        self.subjects = subjects
        self.styles = styles
        self.style_weight = style_weight
        self.rank = rank
        self.expansion = expansion
        self.temperature = temperature
        self.context = context
        self.harris = harris
        self.normalize = normalize
        self.image_mean = image_mean
        self.image_minimum = image_minimum
        self.text_minimum = text_minimum
        self.text_over_image_minimum = text_over_image_minimum
        self.header_as_word = header_as_word
        self.offset_matrix = offset_matrix
        self.phrases = phrase_source(phrases)

    def words(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The subjects and the styles. Raises CondsimError where a list cannot be found."""
        published = "corpora/{} of github.com/billpsomas/icir (MIT)"
        subjects = word_list(self.subjects, self.phrases, "method.subjects", published.format("generic_subjects.csv"))
        styles = word_list(self.styles, self.phrases, "method.styles", published.format("generic_styles.csv"))
        if not self.header_as_word and subjects[0] == HEADER:
            subjects = subjects[1:]
        return subjects, styles

    @property
    def sharded(self) -> bool:
        minima = None not in (self.image_minimum, self.text_minimum) or not self.normalize
        return not self.expansion and minima

    def statistics(self, gallery: Gallery) -> Mapping[str, Tensor]:
        if self.image_mean is not None:
            return {}
        return {"directions": direction_sum(gallery.features), "items": torch.tensor(len(gallery.features))}

    def prepare(self, gallery: Gallery) -> Scorer:
        subjects, styles = self.words()
        items = unit(gallery.features)
        positive, negative = (unit(gallery.encode_texts(words).to(items).double()) for words in (subjects, styles))
        text_mean = positive.mean(dim=0)
        totals = self.totals(gallery)
        if self.image_mean is None:
            image_mean = mean_of_directions(totals["directions"], int(totals["items"]))
        else:
            image_mean = _read_mean(self.image_mean, items)
        basis = None
        if self.rank:
            offset = RELEASED_OFFSET if self.offset_matrix else 0.0
            basis = contrastive_projection(positive, negative, text_mean, self.rank, self.style_weight, offset).to(
                items
            )
        texts = self._contexts(gallery, subjects[: self.context]).to(items)
        return BasicScorer(self, items, texts, image_mean.to(items), text_mean.to(items), basis)

    def _contexts(self, gallery: Gallery, words: Sequence[str]) -> Tensor:
        """[C, D] unit features of the conditions, each the mean over its text before and after every word."""
        names = [condition_text(condition) for condition in gallery.conditions]
        if not words or not names:
            return unit(gallery.condition_features)
        parts = []
        for start in range(0, len(names), _CONDITIONS_AT_ONCE):
            some = names[start : start + _CONDITIONS_AT_ONCE]
            wanted = [text for name in some for word in words for text in (f"{word} {name}", f"{name} {word}")]
            distinct = {text: row for row, text in enumerate(dict.fromkeys(wanted))}
            encoded = unit(gallery.encode_texts(tuple(distinct)))
            rows = torch.tensor([distinct[text] for text in wanted], device=encoded.device)
            parts.append(encoded[rows].reshape(len(some), 2 * len(words), -1).mean(dim=1))
        return unit(torch.cat(parts))


class BasicScorer(TwoSided):
    """BASIC prepared for a gallery of unit ``items`` [N, D] and unit ``texts`` [C, D], one per condition.

    ``basis`` [D, k]: the query image is projected on its span, candidates are not; None: no projection.
    """

    concurrent = True

    def __init__(
        self, method: Basic, items: Tensor, texts: Tensor, image_mean: Tensor, text_mean: Tensor, basis: Tensor | None
    ) -> None:
        self.method = method
        self.image_mean = image_mean
        self.items = items - image_mean
        self.texts = texts - text_mean
        self.basis = basis
        self.image_minimum, self.text_minimum = self._minima()

    def score(self, side: tuple[Tensor, Tensor], rows: Tensor | None = None) -> Tensor:
        method = self.method
        image, text = (inner_products(query, self.items, rows) for query in side)
        if method.normalize:
            own = self.image_minimum if method.text_over_image_minimum else self.text_minimum
            image = (image - self.image_minimum) / abs(self.image_minimum)
            text = (text - self.text_minimum) / abs(own)
        image, text = image.clamp(min=0), text.clamp(min=0)
        return text * image - method.harris * (text + image).square()

    def query_side(self, queries: Queries) -> tuple[Tensor, Tensor]:
        """Two vectors [B, D] in the centred space: the query image, expanded and projected, and the text."""
        centred = unit(queries.reference) - self.image_mean
        image = self._project(centred)
        if self.method.expansion:
            values, rows = nearest(image, self.items, self.method.expansion)
            values = torch.cat((values, torch.ones_like(values[:, :1])), dim=1)
            weights = torch.softmax(self.method.temperature * values, dim=1)
            expanded = weights[:, -1:] * centred
            for place in range(rows.shape[1]):
                expanded += weights[:, place, None] * self.items[rows[:, place]]
            image = self._project(expanded)
        return image, self.texts[queries.condition]

    def _project(self, vectors: Tensor) -> Tensor:
        return vectors if self.basis is None else vectors @ self.basis @ self.basis.T

    def _minima(self) -> tuple[float, float]:
        """The smallest image and text similarity among up to 1,024 evenly spaced items of the gallery, unless given."""
        method = self.method
        count = min(_SAMPLE, len(self.items))
        sample = self.items[torch.linspace(0, len(self.items) - 1, count, device=self.items.device).long()]
        found = []
        for given, queries in ((method.image_minimum, sample), (method.text_minimum, self.texts)):
            if given is None and len(queries):
                lowest = float((queries @ sample.T).min())
                given = lowest if abs(lowest) > 1e-9 else -1.0  # a gallery of one is its own mean: nothing to rescale
            found.append(-1.0 if given is None else given)
        return found[0], found[1]


def _read_mean(file: str, items: Tensor) -> Tensor:
    """float64 [D]. Raises CondsimError where the file does not hold one vector of the features' width."""
    path: Path = resolve(file)
    try:
        mean = np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise CondsimError(
            f"method.image_mean={file}: expected a .npy file with one vector: {error}. The published means are "
            "data/laion_mean of github.com/billpsomas/icir (MIT); method.image_mean=null takes the gallery's"
        ) from None
    if mean.size != items.shape[1] or mean.dtype.kind != "f" or not np.isfinite(mean).all():
        raise CondsimError(
            f"method.image_mean={file}: expected {items.shape[1]} finite numbers, the width of this backbone's "
            f"features; found {mean.dtype} of shape {mean.shape}"
        )
    return torch.from_numpy(mean.astype(np.float64)).reshape(-1).to(items.device)
