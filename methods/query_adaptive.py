"""Query-adaptive linear transform, with our own network, similar to QuARI's: one transform of the items per query."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch

from condsim.harness.errors import CondsimError
from condsim.harness.files.state_dict import Checkpoint
from condsim.harness.method import Gallery, Queries, Scorer, TwoSided
from condsim.harness.one_vector import unit
from condsim.harness.process.tensors import Tensor, nn
from condsim.methods.shared.hypernetwork_sizes import Architecture, QueryHead
from condsim.methods.shared.low_rank import Factors
from condsim.methods.shared.semi_positives import nearest_images, with_semi_positives
from condsim.methods.training.checkpoints import fit_names, load_weights
from condsim.methods.training.losses import symmetric_soft_loss
from condsim.methods.training.method import Batch, Objective, TrainedMethod, TrainingData

if TYPE_CHECKING:
    from condsim.methods.shared.hypernetwork import HyperNetwork

_QUERIES_AT_ONCE = 256


class QueryAdaptive(TrainedMethod):
    """(q', T) = H(q); score = cos(q', T d).

    q = unit(unit(ref) + unit(text)); a missing one counts as zero, so an image or a text alone is itself the query. The
    paper has no composed queries: their sum is ours. In training, a query gets the noise s u n / sqrt(D), u ~ U(0, 1),
    n ~ N(0, I) (s is ours).
    """

    needs_reference = False
    needs_condition = False
    reads_conditions = False
    sharded = True

    def __init__(
        self,
        checkpoint: str | None = None,
        rank: int | None = None,
        steps: int | None = None,
        hidden: int | None = None,
        heads: int | None = None,
        feedforward: int | None = None,
        depth: int | None = None,
        anchor: float | None = None,
        scale: float | None = None,
        normalised: bool | None = None,
        query_head: QueryHead | None = None,
        noise: float = 0.5,
        semi_positives: int = 2,
        temperature: float = 0.07,
    ) -> None:
        super().__init__(
            checkpoint, rank=rank, steps=steps, hidden=hidden, heads=heads, feedforward=feedforward, depth=depth,
            anchor=anchor, scale=scale, normalised=normalised, query_head=query_head,
        )  # fmt: skip
        if noise < 0 or semi_positives < 0 or temperature <= 0:
            raise CondsimError(
                "method.noise and method.semi_positives must not be negative, method.temperature above 0"
            )
        self.noise, self.semi_positives, self.temperature = noise, semi_positives, temperature
        self._sizes = Architecture(**{key: value for key, value in self.architecture.items() if value is not None})

    def new_network(self, width: int) -> HyperNetwork:
        from condsim.methods.shared.hypernetwork import HyperNetwork

        return HyperNetwork(width, self._sizes)

    def load_network(self, checkpoint: Checkpoint) -> tuple[HyperNetwork, int, Mapping[str, Any]]:
        from condsim.methods.shared.hypernetwork import HyperNetwork

        try:
            architecture = Architecture(**checkpoint.settings["architecture"])
            width = int(checkpoint.settings["width"])
        except (KeyError, TypeError, ValueError):
            raise CondsimError(
                f"checkpoint {checkpoint.path} holds no settings of a query-adaptive transform (expected a safetensors "
                "file that `condsim train method=query_adaptive` wrote)"
            ) from None
        network = HyperNetwork(width, architecture)
        shapes = {name: tensor.ndim for name, tensor in network.state_dict().items()}
        state = fit_names(checkpoint, shapes, "query-adaptive transform")
        load_weights(network, state, checkpoint, "its weights contradict its own settings")
        return network, width, dataclasses.asdict(architecture)

    def settings_of(self, network: nn.Module) -> Mapping[str, Any]:
        return dataclasses.asdict(cast(Architecture, network.architecture))

    def objective(self, data: TrainingData) -> Objective:
        images = data.images
        if self.semi_positives and not len(images):
            raise CondsimError(
                "semi-positives need fixed features of all training images, but training.backbone=true changes them in "
                "every step: set method.semi_positives=0"
            )
        neighbours = nearest_images(images, self.semi_positives) if self.semi_positives else None

        def loss(network: nn.Module, batch: Batch) -> Tensor:
            query = self._noisy(compose(batch.reference, batch.text))
            columns, weights = with_semi_positives(batch.target, batch.target_row, images, neighbours)
            scores = Factors.of(network(query)).cosines(unit(columns))
            return symmetric_soft_loss(scores, weights, self.temperature)

        return loss

    def score_with(self, network: nn.Module, gallery: Gallery) -> Scorer:
        return Adapted(network, unit(gallery.features))

    def _noisy(self, query: Tensor) -> Tensor:
        if self.noise == 0:
            return query
        size = torch.rand(len(query), 1).to(query)
        direction = torch.randn(query.shape).to(query)
        return unit(query + self.noise * size * direction / query.shape[1] ** 0.5)


class Adapted(TwoSided):
    """The scorer: ``items`` [N, D] of unit rows, each query with its own transform of them."""

    def __init__(self, network: nn.Module, items: Tensor) -> None:
        self.network, self.items = network, items

    def query_side(self, queries: Queries) -> list[Factors]:
        """The transforms of the queries, ``_QUERIES_AT_ONCE`` at a time."""
        query = compose(queries.reference, queries.text)
        return [Factors.of(self.network(part)) for part in torch.split(query, _QUERIES_AT_ONCE)]

    def score(self, side: list[Factors], rows: Tensor | None = None) -> Tensor:
        parts = []
        for i, factors in enumerate(side):
            own = slice(i * _QUERIES_AT_ONCE, (i + 1) * _QUERIES_AT_ONCE)
            parts.append(factors.cosines(self.items, rows[own] if rows is not None and rows.ndim == 2 else rows))
        return torch.cat(parts)


def compose(reference: Tensor, text: Tensor) -> Tensor:
    """unit(unit(ref) + unit(text)), [B, D] each; zeros count for nothing."""
    return unit(unit(reference) + unit(text))
