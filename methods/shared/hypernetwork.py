"""Our hypernetwork, similar to QuARI's: from a query to its linear transform. The released one: ``quari_network``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from condsim.harness.one_vector import unit
from condsim.methods.shared.hypernetwork_sizes import Architecture
from condsim.methods.shared.low_rank import Transforms


class HyperNetwork(nn.Module):
    """Unit queries [B, D] -> ``Transforms``.

    A control token (a two-layer MLP of the query, plus a step's embedding) and 2r tokens, at first zero, go through
    one shared pre-norm transformer ``steps`` times; the tokens take its output as a residual. Positions are numbered
    over all 1 + 2r slots: with the same position for u_j and v_j, as in the released code, the two stay identical.
    """

    def __init__(self, width: int, architecture: Architecture) -> None:
        super().__init__()
        self.width, self.architecture = width, architecture
        hidden = architecture.hidden
        self.control = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.step = nn.Parameter(0.02 * torch.randn(architecture.steps, hidden))
        self.position = nn.Parameter(0.02 * torch.randn(1 + 2 * architecture.rank, hidden))
        layer = nn.TransformerEncoderLayer(
            hidden, architecture.heads, architecture.feedforward, dropout=0.0, activation="gelu", batch_first=True,
            norm_first=True,
        )  # fmt: skip
        self.transformer = nn.TransformerEncoder(layer, architecture.depth, enable_nested_tensor=False)
        self.decode_query = None if architecture.query_head == "none" else _decoder(hidden, width)
        self.decode_u = _decoder(hidden, width)
        self.decode_v = _decoder(hidden, width)

    def forward(self, query: Tensor) -> Transforms:
        rank = self.architecture.rank
        control = self.control(query)
        tokens = query.new_zeros(len(query), 2 * rank, self.architecture.hidden)
        last = control
        for step in self.step:
            sequence = torch.cat([(control + step)[:, None], tokens], dim=1) + self.position
            out = self.transformer(sequence)
            last, tokens = out[:, 0], tokens + out[:, 1:]
        u, v = self.decode_u(tokens[:, :rank]).mT, self.decode_v(tokens[:, rank:]).mT
        if self.architecture.normalised:
            u, v = (x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-12) for x in (u, v))
        return Transforms(self._query(query, last), u, v, self.architecture.anchor, self.architecture.scale)

    def _query(self, query: Tensor, control: Tensor) -> Tensor:
        if self.decode_query is None:
            return query
        decoded: Tensor = self.decode_query(control)
        return unit(decoded if self.architecture.query_head == "decoded" else 0.5 * decoded + 0.5 * query)


def _decoder(hidden: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, width))
