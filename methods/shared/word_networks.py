"""The networks that turn the features of an image into the vector of a word (Pic2Word; SEARLE and LinCIR)."""

from __future__ import annotations

from torch import Tensor, nn


class Im2Text(nn.Module):
    """The network of Pic2Word; its parameters have the names of the released weights."""

    def __init__(self, width: int, hidden: int, word_width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Sequential(nn.Linear(inputs, hidden), nn.Dropout(dropout), nn.ReLU()) for inputs in (width, hidden))
        )
        self.fc_out = nn.Linear(hidden, word_width)

    def forward(self, features: Tensor) -> Tensor:
        """Raw [B, D] -> [B, E]."""
        vectors: Tensor = self.fc_out(self.layers(features))
        return vectors


class Phi(nn.Module):
    """The network of SEARLE and LinCIR; its parameters have the names of the released weights."""

    def __init__(self, width: int, hidden: int, word_width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.GELU(), nn.Dropout(dropout),
            nn.Linear(hidden, word_width),
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        """Raw [B, D] -> [B, E]."""
        vectors: Tensor = self.layers(features)
        return vectors
