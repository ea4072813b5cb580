"""Texts in which one word is a vector: where it is among the tokens, and a text tower that takes it there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from condsim.harness.errors import CondsimError, NotApplicable

MARK = "$"
"""Where the pseudo-word is in a text, as SEARLE and LinCIR write it."""
_WORDS = ("dog", "cat")
"""Words of one token each in the tokenizers of CLIP and SigLIP. The mark itself is no token everywhere: SigLIP's
tokenizer drops punctuation, and CLIP's joins it with punctuation beside it."""


def word_width(architecture: Mapping[str, Any]) -> int | None:
    """The width of the word vectors of a model config; None where the text tower is none of open_clip's own."""
    text = architecture["text_cfg"]
    return None if text.get("hf_model_name") else int(text.get("width", 512))


def place_pseudo_words(texts: Sequence[str], tokenizer: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
    """The tokens [B, L] of ``texts`` with a common word in place of each first "$", and where that word is, [B].

    Raises CondsimError for a text without "$" or with one beyond the context length, and NotApplicable for a tokenizer
    that cuts common words into several tokens.
    """
    tokens, others = (tokenizer([_with_word(text, word) for text in texts]) for word in _WORDS)
    differ = tokens != others
    counts = differ.sum(dim=1)
    if (counts > 1).any():
        raise NotApplicable(
            "the tokenizer of this backbone has no single token for a common word, so none can be a vector"
        )
    if (counts == 0).any():
        text = texts[int((counts == 0).int().argmax())]
        raise CondsimError(
            f'the "{MARK}" of the text {text[:200]!r} is beyond the {tokens.shape[1]} tokens that the model reads: '
            f'shorten the text, or put the "{MARK}" first in the prompt'
        )
    return tokens, differ.int().argmax(dim=1)


def _with_word(text: str, word: str) -> str:
    """``text`` with ``word`` in place of the first "$", apart from its neighbours. Raises CondsimError without one."""
    before, mark, after = text.partition(MARK)
    if not mark:
        raise CondsimError(f'the text {text[:200]!r} has no "{MARK}" where the image\'s word belongs')
    return " ".join(filter(None, (before.rstrip(), word, after.lstrip())))


def with_word_vectors(model: nn.Module, places: Tensor, vectors: Tensor) -> nn.Module:
    """``model`` with ``vectors`` [B, E] in place of the word vectors at ``places`` [B] of the B texts it encodes.

    A shallow copy that shares all weights, because several threads encode with one model.
    """
    tower = model if hasattr(model, "token_embedding") else getattr(model, "text", None)
    embedding = getattr(tower, "token_embedding", None)
    if not isinstance(tower, nn.Module) or not isinstance(embedding, nn.Module):
        raise NotApplicable("the text tower of this backbone is none of open_clip's own: no word of it can be a vector")
    changed = _with_module(tower, "token_embedding", _WithVectors(embedding, places, vectors))
    return changed if tower is model else _with_module(model, "text", changed)


class _WithVectors(nn.Module):
    def __init__(self, embedding: nn.Module, places: Tensor, vectors: Tensor) -> None:
        super().__init__()
        self.embedding, self.places, self.vectors = embedding, places, vectors

    def forward(self, tokens: Tensor) -> Tensor:
        words: Tensor = self.embedding(tokens)
        words[torch.arange(len(tokens), device=tokens.device), self.places] = self.vectors.to(words.dtype)
        return words


def _with_module(module: nn.Module, name: str, part: nn.Module) -> nn.Module:
    changed = copy(module)
    changed.__dict__["_modules"] = {**module._modules, name: part}
    return changed
