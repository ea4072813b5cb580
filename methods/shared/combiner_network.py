"""The network of the Combiner (Baldrati et al., CLIP4Cir; GeneCIS, appendix D)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from condsim.harness.one_vector import unit


class CombinerNetwork(nn.Module):
    """The published network; its parameters have the names of the released checkpoints.

    out = unit(h3([text, image]) + s text + (1 - s) image), s = h4([text, image]) in (0, 1) (GeneCIS eq. 2).
    """

    def __init__(self, width: int, projection: int, hidden: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.text_projection_layer = nn.Linear(width, projection)
        self.image_projection_layer = nn.Linear(width, projection)
        self.combiner_layer = nn.Linear(2 * projection, hidden)
        self.output_layer = nn.Linear(hidden, width)
        self.dynamic_scalar = nn.Sequential(
            nn.Linear(2 * projection, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 1), nn.Sigmoid()
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, reference: Tensor, text: Tensor) -> Tensor:
        """Raw [B, D] and [B, D] -> unit [B, D]."""
        text_part = self.dropout(torch.relu(self.text_projection_layer(text)))
        image_part = self.dropout(torch.relu(self.image_projection_layer(reference)))
        both = torch.cat([text_part, image_part], dim=-1)
        mixed = self.output_layer(self.dropout(torch.relu(self.combiner_layer(both))))
        scalar = self.dynamic_scalar(both)
        return unit(mixed + scalar * text + (1 - scalar) * reference)
