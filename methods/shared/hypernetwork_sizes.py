"""The sizes and forms of our hypernetwork (``hypernetwork``), as the settings of its method name them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from condsim.harness.errors import CondsimError
from condsim.methods.shared.checks import at_least, one_of

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
