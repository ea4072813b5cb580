"""Texts from outside: a table of what each query looks for, in words (CIReVL, LDRE, SEIZE, OSrCIR)."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch

from condsim.harness.condition_features import mean_features
from condsim.harness.errors import CondsimError
from condsim.harness.method import Gallery, Method, Queries, Scorer
from condsim.harness.one_vector import cosine_scorer, inner_products, unit
from condsim.harness.outside import TextTable, own_rows, require_queries
from condsim.harness.process.tensors import Tensor
from condsim.harness.task import Task
from condsim.methods.shared.checks import has_slot, one_of
from condsim.methods.shared.pseudo_words import CONDITION


class Texts(Method):
    """query = the texts that a table has for it, compared with the candidates' images."""

    needs_reference = False
    needs_condition = False
    needs_text = False

    def __init__(
        self, table: str | None = None, combine: Literal["mean", "max"] = "mean", template: str = CONDITION
    ) -> None:
        one_of(("mean", "max"), combine=combine)
        has_slot(template=template)
        self.table = None if table is None else TextTable(table, "query")
        self.combine, self.template = combine, template
        self.reads_mapped = combine == "mean"

    @property
    def sharded(self) -> bool:
        return self.combine == "mean"

    def check(self, task: Task) -> None:
        super().check(task)
        table = self._table()
        require_queries(task, table.texts, str(table.path))

    def prepare(self, gallery: Gallery) -> Scorer:
        texts = [
            [self.template.replace(CONDITION, text) for text in several]
            for several in self._table().of(gallery.query_names)
        ]
        if self.combine == "mean":
            vectors = mean_features(texts, gallery.encode_texts).to(gallery.features.device)
            return cosine_scorer(gallery.features, lambda queries: vectors[own_rows(queries)])
        most = max(map(len, texts))
        padded = [[*several, *several[:1] * (most - len(several))] for several in texts]
        vectors = mean_features([[text] for several in padded for text in several], gallery.encode_texts)
        return partial(_best, vectors.reshape(len(texts), most, -1), unit(gallery.features))

    def _table(self) -> TextTable:
        if self.table is None:
            raise CondsimError("texts needs a table of texts: set method.table=FILE, such as one from `condsim edits`")
        return self.table


def _best(vectors: Tensor, items: Tensor, queries: Queries, rows: Tensor | None = None) -> Tensor:
    """The largest of the scores of ``vectors`` [Q, K, D], K per query."""
    own = vectors.to(items)[own_rows(queries)]
    scores = [inner_products(own[:, k], items, rows) for k in range(own.shape[1])]
    return torch.stack(scores).amax(dim=0)
