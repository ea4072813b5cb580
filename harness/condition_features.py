"""Features of several texts, and those of a task's conditions as every run and every training step reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from condsim.harness.one_vector import unit
from condsim.harness.process.tensors import Tensor
from condsim.harness.task import Task, condition_text


def condition_features(task: Task, encode_texts: Callable[[Sequence[str]], Tensor]) -> Tensor:
    """[len(task.conditions), D]: raw features of the conditions' texts, several texts joined by " and ".

    A task with ``texts`` has the mean of the unit features of each condition's texts instead, itself made unit (SEARLE
    on FashionIQ: both orders of the two captions).
    """
    if task.texts is None:
        return encode_texts([condition_text(condition) for condition in task.conditions])
    return unit(mean_features(task.texts, encode_texts))


def mean_features(texts: Sequence[Sequence[str]], encode_texts: Callable[[Sequence[str]], Tensor]) -> Tensor:
    """[len(texts), D]: of each entry, one text or more, the mean of their unit features; each text is encoded once."""
    place: dict[str, int] = {}
    for text in (text for several in texts for text in several):
        place.setdefault(text, len(place))
    features = unit(encode_texts(list(place)))
    return torch.stack([features[[place[text] for text in several]].mean(dim=0) for several in texts])
