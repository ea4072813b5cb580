"""torch's types, for annotations: to import them does not import torch (``deferred``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor as Tensor
    from torch import nn as nn
else:
    Tensor = nn = Any
