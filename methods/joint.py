"""Joint embedders: one vector for the image and the text of a query together, from a file or from the backbone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from condsim.harness.errors import CondsimError, NotApplicable
from condsim.harness.files.memory_map import gather
from condsim.harness.method import Gallery, Method, Queries, Scorer
from condsim.harness.names import clean_text
from condsim.harness.one_vector import cosine_scorer, unit
from condsim.harness.outside import own_file, own_rows, reference_rows, require_queries
from condsim.harness.process.tensors import Tensor
from condsim.harness.task import Rows, Task
from condsim.methods.shared.checks import has_slot
from condsim.methods.shared.pseudo_words import CONDITION, texts_of


class Joint(Method):
    """query = f(ref, text), one pass of a multimodal embedder; score = cos(query, d) (MagicLens, BGE-VL, ...)."""

    needs_text = False
    reads_mapped = True
    sharded = True

    def __init__(
        self,
        features: str | Sequence[str] | None = None,
        names: str | Sequence[str] | None = None,
        template: str = CONDITION,
    ) -> None:
        self.file = None if features is None else own_file(features, names, clean_text, "method.names")
        self.needs_reference = self.needs_condition = self.file is None
        has_slot(template=template)
        self.template = template

    def check(self, task: Task) -> None:
        super().check(task)
        if self.file is not None:
            require_queries(task, self.file.names, str(self.file))

    def prepare(self, gallery: Gallery) -> Scorer:
        if self.file is not None:
            names, width = gallery.query_names, gallery.features.shape[1]
            if self.file.width != width:
                raise CondsimError(
                    f"{self.file} has query features of width {self.file.width}, but this backbone's images have width "
                    f"{width}: encode queries and images with one model"
                )
            vectors = self.file.look_up(names, lambda row: f"query {names[row]!r}")
            return cosine_scorer(gallery.features, partial(_rows_of, vectors))
        encode = joint_encoder(gallery)
        texts = [[self.template.replace(CONDITION, text) for text in several] for several in texts_of(gallery)]
        return cosine_scorer(gallery.features, partial(_embed, encode, texts))


def joint_encoder(gallery: Gallery) -> Callable[[Rows, Sequence[str]], Tensor]:
    """``gallery.encode_jointly``. Raises NotApplicable for a backbone that encodes images and texts apart."""
    if gallery.encode_jointly is None:
        raise NotApplicable(
            "the method encodes image and text together, and this backbone encodes them apart: set "
            "method.features=FILE, or choose a joint embedder with backbone=embedder"
        )
    return gallery.encode_jointly


def _rows_of(vectors: Tensor, queries: Queries) -> Tensor:
    """[B, D] of ``vectors`` [Q, D], one row per query of the task."""
    return gather(vectors, own_rows(queries).to(vectors.device)).to(queries.reference)


def _embed(encode: Callable[[Rows, Sequence[str]], Tensor], texts: Sequence[Sequence[str]], queries: Queries) -> Tensor:
    """[B, D]; the mean of unit features where a condition has several texts."""
    own = [texts[condition] for condition in queries.condition.tolist()]
    query = torch.tensor([row for row, several in enumerate(own) for _ in several], dtype=torch.long)
    references = reference_rows(queries)[query.numpy()]
    features = encode(references, [text for several in own for text in several]).to(queries.reference)
    return torch.zeros_like(queries.reference).index_add_(0, query.to(features.device), unit(features))
