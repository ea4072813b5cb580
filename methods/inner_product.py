"""Image only, text only, image + text: one query vector, scored by inner product with the unit gallery features."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from condsim.harness.errors import CondsimError
from condsim.harness.method import Queries
from condsim.harness.one_vector import OneVector, unit
from condsim.harness.process.tensors import Tensor


class ImageOnly(OneVector):
    """query = ref (GeneCIS, section 6.1)."""

    needs_condition = False
    needs_text = False

    def embed(self, queries: Queries) -> Tensor:
        return queries.reference


class TextOnly(OneVector):
    """query = text (GeneCIS, section 6.1)."""

    needs_reference = False

    def embed(self, queries: Queries) -> Tensor:
        return queries.text


class ImagePlusText(OneVector):
    """query = w ref + (1 - w) text on raw features, as in GeneCIS's released code: the longer vector weighs more."""

    def __init__(self, weight: float = 0.5) -> None:
        if not 0 <= weight <= 1:  # not by shared.checks: shared imports this module
            raise CondsimError(f"method.weight must be in [0, 1], not {weight}")
        self.weight = weight

    def embed(self, queries: Queries) -> Tensor:
        return torch.lerp(queries.text, queries.reference, self.weight)

    def parts(self, queries: Queries) -> Mapping[str, Tensor]:
        return {"image": self.weight * queries.reference, "text": (1 - self.weight) * queries.text}


class ImagePlusTextUnit(ImagePlusText):
    """query = w unit(ref) + (1 - w) unit(text): the form of Pic2Word and others."""

    def embed(self, queries: Queries) -> Tensor:
        return torch.lerp(unit(queries.text), unit(queries.reference), self.weight)

    def parts(self, queries: Queries) -> Mapping[str, Tensor]:
        return {"image": self.weight * unit(queries.reference), "text": (1 - self.weight) * unit(queries.text)}
