"""Similarity of two sets from the similarities of their members: optimal one-to-one matching, and its controls.

All functions take a batch of pairs of sets: ``similarity`` [P, n, m], of which only the first ``left[p]`` rows and
``right[p]`` columns are members (None: all of them), and return [P] float64.
"""

from __future__ import annotations

import numpy as np
import torch
from lap import lapjvr_batch
from numpy.typing import NDArray

from condsim.harness.errors import CondsimError
from condsim.harness.process.tensors import Tensor


def hungarian(similarity: Tensor, left: Tensor | None = None, right: Tensor | None = None) -> Tensor:
    """Mean over the left set of the similarity to the partner, in the one-to-one matching that makes the sum largest.

    An unmatched left member counts 0. lapx's solver (Jonker-Volgenant, exact) takes all pairs of sets of one size at
    once, on as many threads as torch uses.
    """
    costs = np.negative(similarity.cpu().numpy(), dtype=np.float64, order="C")
    if left is None and right is None:
        return torch.from_numpy(-_least_costs(costs) / max(1, costs.shape[1])).to(similarity.device)
    lefts, rights = (sizes.cpu().numpy() for sizes in _sizes(similarity, left, right))
    total = np.zeros(len(costs))
    for n, m in np.unique(np.stack([lefts, rights], axis=1), axis=0).tolist():
        alike = np.flatnonzero((lefts == n) & (rights == m))
        total[alike] = -_least_costs(np.ascontiguousarray(costs[alike, :n, :m])) / max(1, n)
    return torch.from_numpy(total).to(similarity.device)


def _least_costs(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """[P] the cost of the cheapest one-to-one matching of the smaller side, for ``costs`` [P, n, m]."""
    if not len(costs):
        return np.zeros(0)
    totals: NDArray[np.float64] = lapjvr_batch(costs, extend_cost=True, n_threads=torch.get_num_threads())[0]
    return totals


def all_pairs(similarity: Tensor, left: Tensor | None = None, right: Tensor | None = None) -> Tensor:
    """Mean of all similarities: a control without any matching."""
    member = _members(similarity, left, right)
    return (similarity.double() * member).sum(dim=(1, 2)) / member.sum(dim=(1, 2)).clamp(min=1)


def chamfer(similarity: Tensor, left: Tensor | None = None, right: Tensor | None = None) -> Tensor:
    """Mean similarity to the nearest of the other set, averaged over both directions: many may share a partner."""
    member = _members(similarity, left, right)
    hidden = similarity.double().masked_fill(~member, -torch.inf)
    lefts, rights = _sizes(similarity, left, right)
    forth, back = hidden.amax(dim=2), hidden.amax(dim=1)
    forth = forth.masked_fill(forth.isinf(), 0).sum(dim=1) / lefts.clamp(min=1)
    back = back.masked_fill(back.isinf(), 0).sum(dim=1) / rights.clamp(min=1)
    return (forth + back) / 2


def in_order(similarity: Tensor, left: Tensor | None = None, right: Tensor | None = None) -> Tensor:
    """The first with the first, the second with the second: a random matching where the order is random. As in
    ``hungarian`` an unmatched left member counts 0."""
    member = _members(similarity, left, right).diagonal(dim1=1, dim2=2)
    pairs = similarity.double().diagonal(dim1=1, dim2=2)
    return (pairs * member).sum(dim=1) / _sizes(similarity, left, right)[0].clamp(min=1)


def fused_gromov_wasserstein(
    similarity: Tensor,
    within_left: Tensor,
    within_right: Tensor,
    structure: float,
    left: Tensor | None = None,
    right: Tensor | None = None,
) -> Tensor:
    """1 - the fused Gromov-Wasserstein distance (Vayer et al. 2019, by POT) between uniform distributions on both sets.

    ``within_left`` [P, n, n] and ``within_right`` [P, m, m] are the similarities inside each set; costs are
    1 - similarity. ``structure`` in [0, 1] weighs the agreement of the two inner geometries against that of the
    members; at 0, for sets of one size, the plan is the optimal one-to-one matching and the value that of
    ``hungarian``. Takes milliseconds per pair.
    """
    try:
        from ot.gromov import fused_gromov_wasserstein as solve
    except ImportError:
        raise CondsimError("method.solver=fgw needs the package POT: pip install 'condsim[fgw]'") from None

    cost, inner_left, inner_right = (
        1 - part.double().cpu().numpy() for part in (similarity, within_left, within_right)
    )
    lefts, rights = (sizes.tolist() for sizes in _sizes(similarity, left, right))
    values = np.zeros(len(cost))
    for p, (n, m) in enumerate(zip(lefts, rights, strict=True)):
        if n and m:
            _, log = solve(cost[p, :n, :m], inner_left[p, :n, :n], inner_right[p, :m, :m], alpha=structure, log=True)
            values[p] = 1 - log["fgw_dist"]
    return torch.from_numpy(values).to(similarity.device)


def _sizes(similarity: Tensor, left: Tensor | None, right: Tensor | None) -> tuple[Tensor, Tensor]:
    count, n, m = similarity.shape
    device = similarity.device
    full = torch.ones(count, dtype=torch.int64, device=device)
    return (full * n if left is None else left.to(device)), (full * m if right is None else right.to(device))


def _members(similarity: Tensor, left: Tensor | None, right: Tensor | None) -> Tensor:
    lefts, rights = _sizes(similarity, left, right)
    rows, columns = (torch.arange(size, device=similarity.device) for size in similarity.shape[1:])
    return (rows < lefts[:, None])[:, :, None] & (columns < rights[:, None])[:, None, :]
