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


def place_pseudo_words(
    texts: Sequence[str], tokenizer: Callable[..., Tensor], every: bool = False
) -> tuple[Tensor, Tensor]:
    """Tokens [B, L] of ``texts`` with a common word in place of each first "$", and where that word is, bool [B, L].

    ``every``: every "$" is replaced, and those beyond the context length are cut off as other words are, all of them
    if need be.

    Raises CondsimError for a text without "$", or without ``every`` with one beyond the context length, and
    NotApplicable for a tokenizer that cuts common words into several tokens.
    """
    place = {text: i for i, text in enumerate(dict.fromkeys(texts))}  # many vectors go into few texts
    rows = torch.tensor([place[text] for text in texts], dtype=torch.long)
    texts = list(place)
    marks = torch.tensor([text.count(MARK) if every else 1 for text in texts])
    tokens, others = (tokenizer([_with_word(text, word, every) for text in texts]) for word in _WORDS)
    differ = tokens != others
    counts = differ.sum(dim=1)
    if (counts > marks).any():
        raise NotApplicable(
            "the tokenizer of this backbone has no single token for a common word, so none can be a vector"
        )
    if not every and (counts == 0).any():
        text = texts[int((counts == 0).int().argmax())]
        raise CondsimError(
            f'the "{MARK}" of the text {text[:200]!r} is beyond the {tokens.shape[1]} tokens that the model reads: '
            f'shorten the text, or put the "{MARK}" first in the prompt'
        )
    return tokens[rows], differ[rows]


def _with_word(text: str, word: str, every: bool) -> str:
    """``text`` with ``word`` in place of the first "$", or of every one, apart from its neighbours. Raises CondsimError
    without one."""
    first, *rest = text.split(MARK, -1 if every else 1)
    if not rest:
        raise CondsimError(f'the text {text[:200]!r} has no "{MARK}" where the image\'s word belongs')
    for after in rest:
        first = " ".join(filter(None, (first.rstrip(), word, after.lstrip())))
    return first


def with_word_vectors(model: nn.Module, places: Tensor, vectors: Tensor) -> nn.Module:
    """``model`` with ``vectors`` [B, E] in place of the word vectors at ``places`` (bool [B, L]) of the B texts.

    A shallow copy that shares all weights, because several threads encode with one model.
    """
    tower = model if hasattr(model, "token_embedding") else getattr(model, "text", None)
    embedding = getattr(tower, "token_embedding", None)
    if not isinstance(tower, nn.Module) or not isinstance(embedding, nn.Module):
        raise NotApplicable("the text tower of this backbone is none of open_clip's own: no word of it can be a vector")
    changed = _with_module(tower, "token_embedding", _WithVectors(embedding, places, vectors))
    return changed if tower is model else _with_module(model, "text", changed)


def without_padding(model: nn.Module, tokens: Tensor) -> tuple[nn.Module, Tensor]:
    """A model and ``tokens`` [B, L] for it that end with the longest text, where ``model`` is a causal text tower.

    Such a tower's feature is that of the end token, which no later position changes: the features are the same but for
    the last bits. Other models and their tokens are returned as they are.
    """
    mask, places = getattr(model, "attn_mask", None), getattr(model, "positional_embedding", None)
    if mask is None or places is None or getattr(model, "text_pool_type", None) != "argmax":
        return model, tokens
    length = int(tokens.argmax(dim=1).max()) + 1
    short = copy(model)
    short.__dict__["_parameters"] = {**model._parameters, "positional_embedding": places[:length]}
    short.__dict__["_buffers"] = {**model._buffers, "attn_mask": mask[:length, :length]}
    return short, tokens[:, :length]


class _WithVectors(nn.Module):
    def __init__(self, embedding: nn.Module, places: Tensor, vectors: Tensor) -> None:
        super().__init__()
        self.embedding, self.places, self.vectors = embedding, places, vectors

    def forward(self, tokens: Tensor) -> Tensor:
        words: Tensor = self.embedding(tokens)
        return torch.where(self.places[..., None], self.vectors[:, None].to(words.dtype), words)


def _with_module(module: nn.Module, name: str, part: nn.Module) -> nn.Module:
    changed = copy(module)
    changed.__dict__["_modules"] = {**module._modules, name: part}
    return changed
