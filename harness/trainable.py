"""The contract of a backbone whose own weights can be trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from condsim.harness.task import ImageTable, Rows


class TrainableEncoder(nn.Module):
    """An encoder whose weights require gradients."""

    model: nn.Module
    """Holds the weights: its ``state_dict()`` is what a weights file of the backbone contains."""

    def images(self, table: ImageTable, rows: Rows) -> Tensor:
        """[len(rows), width] raw float32 features of these rows, with gradients. Raises CondsimError naming a file."""
        raise NotImplementedError

    def texts(self, texts: Sequence[str]) -> Tensor:
        """[len(texts), width] raw float32 features, with gradients."""
        raise NotImplementedError

    def texts_with(self, texts: Sequence[str], vectors: Tensor) -> Tensor:
        """[len(texts), width] raw float32 features of texts in which every "$" is a word whose vector is the row of
        ``vectors`` [len(texts), E], with gradients. Raises NotApplicable where the text tower takes no vectors."""
        raise NotImplementedError


@runtime_checkable
class Trainable(Protocol):
    """An optional part of a backbone: its own weights can be trained (`condsim train training.backbone=true`)."""

    def trainable(self) -> TrainableEncoder:
        """A copy of the encoder, on the backbone's device; training it leaves the backbone itself unchanged."""
        ...

    def settings_with(self, weights: Path) -> Mapping[str, Any]:
        """The settings of this backbone in its YAML that change when its weights come from the file ``weights``."""
        ...
