"""The hypernetwork of QuARI as its authors released it (mvrl/QuARI). Ours, which differs, is ``hypernetwork``."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from condsim.harness.errors import CondsimError
from condsim.harness.one_vector import unit
from condsim.methods.shared.low_rank import Transforms


@dataclass(frozen=True)
class ReleasedSettings:
    """The entries ``hparams`` of a released ``config.yml``, with the released code's defaults."""

    embedding_dim: int
    """E, the width of the features."""
    low_rank_dim: int = 64
    """r"""
    hidden_dim: int = 512
    """H"""
    num_steps: int = 4
    nhead: int = 8
    num_layers: int = 4
    dropout: float = 0.1
    """In training only, so no score depends on it."""
    query_residual_weight: float = 0.5
    """w: q' = unit((1 - w) decoder + w q)."""
    use_fro_norm: bool = True
    """Divide U and V by their Frobenius norms."""
    anchor_scale: float = 0.8
    """s of W = I + s U V^T."""

    def __post_init__(self) -> None:
        for name in ("embedding_dim", "low_rank_dim", "hidden_dim", "num_steps", "nhead", "num_layers"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise CondsimError(f"{name} must be a whole number of at least 1, not {value!r}")
        for name in ("dropout", "query_residual_weight", "anchor_scale"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
                raise CondsimError(f"{name} must be a number, not {value!r}")
        if not isinstance(self.use_fro_norm, bool):
            raise CondsimError(f"use_fro_norm must be true or false, not {self.use_fro_norm!r}")
        if self.hidden_dim % self.nhead or self.hidden_dim % 2:
            raise CondsimError(f"hidden_dim={self.hidden_dim} must be even and divisible by nhead={self.nhead}")


class ReleasedQuariNetwork(nn.Module):
    """Unit queries [B, E] -> ``Transforms``, with the parameter names of the released ``weights.pt``.

    To load, not to train: the positions are in the file too, and a new network has none.

    The control token and the tokens u, v [r, H] each take the output of one shared transformer as a residual,
    ``num_steps`` times. u and v start at zero and get the same positions, so they stay equal: U and V differ by their
    decoders alone. Items are transformed as rows, d W with W = I + s U V^T, which is T = I + s V U^T on columns.
    """

    pos_emb: Tensor
    pos_scale: Tensor

    def __init__(self, settings: ReleasedSettings) -> None:
        super().__init__()
        self.settings = settings
        width, hidden, rank = settings.embedding_dim, settings.hidden_dim, settings.low_rank_dim
        self.query_encoder = nn.Sequential(
            nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Identity(), nn.Linear(hidden, hidden),
            nn.LayerNorm(hidden),
        )  # fmt: skip
        self.step_proj = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.register_buffer("pos_emb", torch.empty(2 * rank + 1, hidden))
        self.register_buffer("pos_scale", torch.ones(1))
        layer = nn.TransformerEncoderLayer(
            hidden, settings.nhead, 4 * hidden, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, settings.num_layers, enable_nested_tensor=False)
        self.query_decoder = _decoder(hidden, width)
        self.dec_u_img = _decoder(hidden, width)
        self.dec_v_img = _decoder(hidden, width)

    def forward(self, query: Tensor) -> Transforms:
        settings = self.settings
        rank, weight = settings.low_rank_dim, settings.query_residual_weight
        control = self.query_encoder(query)
        tokens = query.new_zeros(len(query), 2 * rank, settings.hidden_dim)
        position = (self.pos_scale * self.pos_emb[:rank]).repeat(2, 1)
        for step in range(settings.num_steps):
            moved = control + self.step_proj(step_embedding(step, settings.hidden_dim).to(query))
            out = self.transformer(torch.cat([moved[:, None], tokens + position], dim=1))
            control, tokens = control + out[:, 0], tokens + out[:, 1:]
        refined = unit((1 - weight) * self.query_decoder(control) + weight * query)
        u, v = self.dec_u_img(tokens[:, :rank]).mT, self.dec_v_img(tokens[:, rank:]).mT
        if settings.use_fro_norm:
            u, v = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-8) for x in (u, v))
        return Transforms(refined, v, u, anchor=1.0, scale=settings.anchor_scale)


def step_embedding(step: int, width: int) -> Tensor:
    """[width] float32: cosines, then sines, of ``step`` times the frequencies 10000^(-i / (width / 2))."""
    half = width // 2
    angles = step * torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float32) / half)
    return torch.cat([angles.cos(), angles.sin()])


def _decoder(hidden: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Identity(), nn.Linear(hidden, width))
