"""The Combiner applied to query and candidate alike: the row "GeneCIS-dagger" of CLAY's tables."""

from __future__ import annotations

from condsim.harness.method import Gallery, Scorer
from condsim.harness.process.tensors import Tensor, nn
from condsim.methods.combiner import Combiner
from condsim.methods.shared.conditional_map import ConditionalMap

_ITEMS_AT_ONCE = 4096


class CombinerBothSides(Combiner):
    """score = Combiner(ref, text) . Combiner(d, text): candidates are seen under the query's condition too.

    Settings and checkpoints are those of ``Combiner``.
    """

    reads_conditions = True

    def score_with(self, network: nn.Module, gallery: Gallery) -> Scorer:
        texts = gallery.condition_features.to(gallery.features)

        def embed(condition: int, features: Tensor) -> Tensor:
            out = features.new_empty(len(features), texts.shape[1])
            for start in range(0, len(features), _ITEMS_AT_ONCE):
                part = features[start : start + _ITEMS_AT_ONCE]
                out[start : start + len(part)] = network(part, texts[condition].expand_as(part))
            return out

        return ConditionalMap(gallery.features, embed)
