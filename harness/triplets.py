"""The training contract: the form of all training data, and the input of every trained method."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from condsim.harness.errors import CondsimError
from condsim.harness.task import ImageTable, Rows


@dataclass(frozen=True)
class Triplets:
    """T examples (reference image, text, target image): from the first two, a method has to find the third.

    One of the first two may be missing (-1): a caption and its image have no reference, two images of one object have
    no text.
    """

    name: str
    images: ImageTable
    texts: tuple[str, ...]
    reference: Rows
    """[T] row of ``images``, or -1."""
    text: Rows
    """[T] index into ``texts``, or -1."""
    target: Rows
    """[T] row of ``images``."""
    share: float = 1.0
    """The share of every batch that comes from this source, relative to the shares of the other sources."""
    question: Rows | None = None
    """[T] equal numbers mark triplets with the same query: the target of one is a valid target of the others."""

    def __len__(self) -> int:
        return len(self.target)

    def __post_init__(self) -> None:
        if len(self) == 0:
            raise CondsimError(f"triplets {self.name}: the source has no triplets")
        if self.share <= 0:
            raise CondsimError(f"triplets {self.name}: share must be above 0, not {self.share}: leave the source out")
        for label, rows, low, high in (
            ("reference", self.reference, -1, len(self.images)),
            ("text", self.text, -1, len(self.texts)),
            ("target", self.target, 0, len(self.images)),
        ):
            if rows.dtype != np.int64 or len(rows) != len(self):
                raise CondsimError(f"triplets {self.name}: {label} must be int64 [{len(self)}]")
            if rows.min() < low or rows.max() >= high:
                raise CondsimError(f"triplets {self.name}: {label} must be in [{low}, {high})")
        if self.question is not None and len(self.question) != len(self):
            raise CondsimError(f"triplets {self.name}: question must be int64 [{len(self)}]")
        if ((self.reference < 0) & (self.text < 0)).any():
            raise CondsimError(f"triplets {self.name}: a triplet has neither reference nor text")

    def take(self, which: Rows) -> Triplets:
        """The triplets ``which``, in that order."""
        question = None if self.question is None else self.question[which]
        rows = (self.reference[which], self.text[which], self.target[which])
        return Triplets(self.name, self.images, self.texts, *rows, self.share, question)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of names, texts and rows, without pixels; the same on every machine."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr((self.name, self.share)).encode())
        digest.update("\0".join((*self.images.names, "|", *self.texts)).encode())
        question = np.empty(0, dtype=np.int64) if self.question is None else self.question
        for rows in (self.reference, self.text, self.target, question):
            digest.update(np.ascontiguousarray(rows).tobytes() + b"|")
        return digest.hexdigest()
