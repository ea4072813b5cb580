"""Our hypernetwork, similar to QuARI's: from a query to its linear transform. The released one: ``quari_network``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from condsim.harness.errors import CondsimError
from condsim.harness.one_vector import unit
from condsim.methods.shared.checks import at_least, one_of
from condsim.methods.shared.low_rank import Transforms

QueryHead = Literal["residual", "decoded", "none"]


@dataclass(frozen=True)
class Architecture:
    """Sizes, and forms of T and q'; the defaults are those of QuARI's released code. The network between is ours.

    T = anchor I + scale U V^T; ``normalised``: U and V are divided by their Frobenius norms. The paper has no
    identity: anchor 0, scale 1, not normalised. ``query_head``: q' is "residual" unit(0.5 MLP + 0.5 q), "decoded" MLP
    (the paper) or "none" q itself.
    """

    rank: int = 64
    steps: int = 4
    hidden: int = 512
    heads: int = 8
    feedforward: int = 2048
    depth: int = 4
    anchor: float = 1.0
    scale: float = 0.8
    normalised: bool = True
    query_head: QueryHead = "residual"

    def __post_init__(self) -> None:
        sizes = ("rank", "steps", "hidden", "heads", "feedforward", "depth")
        at_least(1, **{name: getattr(self, name) for name in sizes})
        if self.hidden % self.heads:
            raise CondsimError(f"method.hidden={self.hidden} is not divisible by method.heads={self.heads}")
        one_of(("residual", "decoded", "none"), query_head=self.query_head)
        if self.scale == 0:
            raise CondsimError("method.scale must not be 0: the transform would not depend on the query")


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
