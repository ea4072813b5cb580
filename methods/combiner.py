"""Combiner (Baldrati et al., CLIP4Cir; GeneCIS, appendix D): a small network composes image and text into one query."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from condsim.harness.errors import CondsimError
from condsim.harness.files.state_dict import Checkpoint
from condsim.harness.method import Gallery, Queries, Scorer
from condsim.harness.one_vector import InnerProduct, unit
from condsim.harness.process.tensors import Tensor, nn
from condsim.methods.shared.checks import above_zero, at_least
from condsim.methods.training.checkpoints import fit_names, load_weights
from condsim.methods.training.losses import in_batch_loss
from condsim.methods.training.method import Batch, Objective, TrainedMethod, TrainingData

if TYPE_CHECKING:
    from condsim.methods.shared.combiner_network import CombinerNetwork

PROJECTION, HIDDEN = 2560, 5120
"""Sizes of both releases (CLIP4Cir, GeneCIS)."""
LAYERS = (
    "text_projection_layer", "image_projection_layer", "combiner_layer", "output_layer", "dynamic_scalar.0",
    "dynamic_scalar.3",
)  # fmt: skip


class Combiner(TrainedMethod):
    """query = Combiner(ref, text) on raw features; score = query . unit(gallery)."""

    wrappers = ("Combiner", "combiner")
    reads_conditions = False
    sharded = True

    def __init__(
        self,
        checkpoint: str | None = None,
        projection: int | None = None,
        hidden: int | None = None,
        dropout: float = 0.5,
        temperature: float = 0.01,
    ) -> None:
        super().__init__(checkpoint, projection=projection, hidden=hidden)
        at_least(1, projection=projection, hidden=hidden)
        if not 0 <= dropout < 1:
            raise CondsimError(f"method.dropout must be in [0, 1), not {dropout}")
        above_zero(temperature=temperature)
        self.dropout, self.temperature = dropout, temperature

    def new_network(self, width: int) -> CombinerNetwork:
        from condsim.methods.shared.combiner_network import CombinerNetwork

        projection, hidden = self.architecture["projection"], self.architecture["hidden"]
        return CombinerNetwork(width, projection or PROJECTION, hidden or HIDDEN, self.dropout)

    def load_network(self, checkpoint: Checkpoint) -> tuple[CombinerNetwork, int, Mapping[str, Any]]:
        """Sizes are read off the shapes."""
        from condsim.methods.shared.combiner_network import CombinerNetwork

        expected = {f"{layer}.weight": 2 for layer in LAYERS} | {f"{layer}.bias": 1 for layer in LAYERS}
        state = fit_names(checkpoint, expected, "Combiner")
        projection, width = state["text_projection_layer.weight"].shape
        hidden = len(state["combiner_layer.bias"])
        network = CombinerNetwork(width, projection, hidden, self.dropout)
        load_weights(network, state, checkpoint, "its Combiner's sizes contradict each other")
        return network, width, {"projection": projection, "hidden": hidden}

    def settings_of(self, network: nn.Module) -> Mapping[str, Any]:
        projection, hidden = map(network.get_submodule, ("text_projection_layer", "combiner_layer"))
        return {"projection": projection.out_features, "hidden": hidden.out_features}

    def objective(self, data: TrainingData) -> Objective:
        def loss(network: nn.Module, batch: Batch) -> Tensor:
            scores = network(batch.reference, batch.text) @ unit(batch.target).T
            return in_batch_loss(scores, batch.target_row, self.temperature)

        return loss

    def score_with(self, network: nn.Module, gallery: Gallery) -> Scorer:
        return InnerProduct(unit(gallery.features), partial(_compose, network))


def _compose(network: nn.Module, queries: Queries) -> Tensor:
    composed: Tensor = network(queries.reference, queries.text)
    return composed
