"""FreeDom (Efthymiadis et al., "Composed Image Retrieval for Training-Free Domain Conversion", WACV 2025)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from condsim.harness.method import Gallery, Method, Queries, Scorer
from condsim.harness.one_vector import InnerProduct, unit
from condsim.harness.process.tensors import Tensor
from condsim.harness.task import condition_text
from condsim.methods.phrases.lexicon import phrase_source
from condsim.methods.phrases.source import Phrases
from condsim.methods.shared.checks import at_least, one_of
from condsim.methods.shared.nearest import nearest
from condsim.methods.shared.word_list import word_list

SELF = ("query", "batch", "always", "never")
SAME_IMAGE = 0.98
"""A query whose best neighbour is less alike than this is not in the gallery (released code)."""


def most_frequent(rows: Tensor, count: int) -> list[list[tuple[int, float]]]:
    """The ``count`` most frequent numbers of each row of int64 [B, n] with their frequency over the highest one.

    Equally frequent ones are in the order in which they first appear.
    """
    found = [Counter(row).most_common(count) for row in rows.tolist()]
    return [[(word, times / row[0][1]) for word, times in row] for row in found]


class Freedom(Method):
    """query = sum of weight x unit(text("{word} {condition}")) over the words that the image's neighbourhood shows."""

    def __init__(
        self,
        neighbors: int = 20,
        words_each: int = 7,
        words: int = 7,
        vocabulary: str = "category",
        add_self: str = "query",
        phrases: Phrases | None = None,
    ) -> None:
        at_least(1, neighbors=neighbors, words_each=words_each, words=words)
        one_of(SELF, add_self=add_self)
        self.neighbors = neighbors
        self.words_each = words_each
        self.words = words
        self.vocabulary = vocabulary
        self.add_self = add_self
        self.phrases = phrase_source(phrases)

    def prepare(self, gallery: Gallery) -> Scorer:
        vocabulary = word_list(
            self.vocabulary,
            self.phrases,
            "method.vocabulary",
            "OpenImages V7's class names (CC BY 4.0), as open_image_v7_class_names.csv with the code of "
            "github.com/NikosEfth/freedom",
        )
        items = unit(gallery.features)
        features = unit(gallery.encode_texts(vocabulary).to(items))
        return InnerProduct(items, _Composer(self, gallery, items, vocabulary, features))


@dataclass(frozen=True)
class _Composer:
    """From queries to their vectors [B, D]."""

    method: Freedom
    gallery: Gallery
    items: Tensor
    vocabulary: Sequence[str]
    features: Tensor

    def __call__(self, queries: Queries) -> Tensor:
        chosen = most_frequent(self.words_around(unit(queries.reference)), self.method.words)
        names = [condition_text(condition) for condition in self.gallery.conditions]
        conditions = queries.condition.tolist()
        weights: list[dict[str, float]] = [
            {f"{self.vocabulary[word]} {names[condition]}": weight for word, weight in row}
            for row, condition in zip(chosen, conditions, strict=True)
        ]
        texts = {text: row for row, text in enumerate(dict.fromkeys(text for row in weights for text in row))}
        encoded = unit(self.gallery.encode_texts(tuple(texts)).to(self.items))
        query = torch.zeros_like(queries.reference)
        places = torch.tensor([texts[text] for row in weights for text in row], device=query.device)
        owners = torch.tensor([i for i, row in enumerate(weights) for _ in row], device=query.device)
        share = torch.tensor([weight for row in weights for weight in row.values()]).to(query)
        return query.index_add(0, owners, share[:, None] * encoded[places])

    def words_around(self, reference: Tensor) -> Tensor:
        """int64 [B, kappa nu] the words nearest to each of the images around unit ``reference`` [B, D]."""
        method = self.method
        values, rows = nearest(reference, self.items, method.neighbors)
        used, places = torch.unique(rows, return_inverse=True)
        around = nearest(self.items[used], self.features, method.words_each)[1][places]
        absent = values[:, 0] < SAME_IMAGE
        added = {
            "query": absent,
            "batch": absent.any().expand_as(absent),
            "always": torch.ones_like(absent),
            "never": torch.zeros_like(absent),
        }[method.add_self]
        own = nearest(reference, self.features, method.words_each)[1]
        with_self = torch.cat((own[:, None], around[:, :-1]), dim=1)
        return torch.where(added[:, None, None], with_self, around).flatten(1)
