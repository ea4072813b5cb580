"""The linear adapter of ILIAS (Kordopatis-Zilos et al., CVPR 2025): one trained linear layer on frozen features."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from condsim.harness.errors import CondsimError
from condsim.harness.files.gallery_parts import GRAIN
from condsim.harness.method import Gallery, Method, Queries, Scorer, TrainFeatures
from condsim.harness.one_vector import unit
from condsim.harness.process.tensors import Tensor
from condsim.harness.task import Task
from condsim.methods.inner_product import ImageOnly
from condsim.methods.shared.base_method import ChangedQueries, Wrapper
from condsim.methods.training.checkpoints import fit_names, read_checkpoint

PUBLISHED = "https://vrg.fel.cvut.cz/ilias_data/lin_adapt_layers/"


class LinearAdapter(Wrapper):
    """A base method on adapted features: x' = unit(W unit(x) + b), for images and texts."""

    def __init__(self, base: Method | None = None, checkpoint: str | None = None) -> None:
        super().__init__(ImageOnly() if base is None else base)
        self.checkpoint = checkpoint

    def check(self, task: Task) -> None:
        super().check(task)
        self._file()  # before anything is encoded

    @property
    def sharded(self) -> bool:
        return self.base.sharded

    def statistics(self, gallery: Gallery) -> Mapping[str, Tensor]:
        return self.base.statistics(self._adapted(gallery)[0])

    def prepare(self, gallery: Gallery) -> Scorer:
        adapted_gallery, adapted = self._adapted(gallery)

        def change(queries: Queries) -> Queries:
            return dataclasses.replace(queries, reference=adapted(queries.reference), text=adapted(queries.text))

        return ChangedQueries(self.base.prepare(adapted_gallery), change)

    def _adapted(self, gallery: Gallery) -> tuple[Gallery, Callable[[Tensor], Tensor]]:
        """The gallery with adapted features, and the adapter."""
        weight, bias = (part.to(gallery.features) for part in self._layer(gallery.features.shape[1]))

        def adapted(features: Tensor) -> Tensor:
            out = weight.new_empty(len(features), len(weight))
            for start in range(0, len(features), GRAIN):
                part = features[start : start + GRAIN]
                missing = ~part.any(dim=1, keepdim=True)
                out[start : start + GRAIN] = unit(unit(part) @ weight.T + bias).masked_fill(missing, 0.0)
            return out

        def encode_texts(texts: Sequence[str]) -> Tensor:
            return adapted(gallery.encode_texts(texts).to(weight))

        def train() -> TrainFeatures:
            split = gallery.train()
            return dataclasses.replace(split, images=adapted(split.images.to(weight)))

        return dataclasses.replace(
            gallery,
            features=adapted(gallery.features),
            condition_features=adapted(gallery.condition_features.to(weight)),
            encode_texts=encode_texts,
            train=train,
            encode_texts_with=None,  # a mapping from images to words is for features as they are
        ), adapted

    def _file(self) -> str:
        if self.checkpoint is None:
            raise CondsimError(
                "the method has no weights: download the layer of your backbone from "
                f"{PUBLISHED} and set method.checkpoint=FILE"
            )
        return self.checkpoint

    def _layer(self, width: int) -> tuple[Tensor, Tensor]:
        """W [E, ``width``] and b [E]."""
        checkpoint = read_checkpoint(self._file())
        state = fit_names(checkpoint, {"layer.weight": 2, "layer.bias": 1}, "linear adapter")
        weight, bias = state["layer.weight"].float(), state["layer.bias"].float()
        if weight.shape[1] != width:
            raise CondsimError(
                f"checkpoint {checkpoint.path} is for features of width {weight.shape[1]}, this backbone's have width "
                f"{width}: choose the layer of this backbone"
            )
        if len(bias) != len(weight):
            raise CondsimError(
                f"checkpoint {checkpoint.path}: layer.weight has {len(weight)} outputs and layer.bias {len(bias)}"
            )
        return weight, bias
