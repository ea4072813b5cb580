"""Image features under a condition: reference and candidates are encoded once per condition."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from condsim.harness.errors import CondsimError, NotApplicable, did_you_mean
from condsim.harness.method import Gallery, Method, Queries, Scorer
from condsim.harness.names import clean_path
from condsim.harness.one_vector import inner_products, unit
from condsim.harness.outside import own_file, pair_name, reference_rows
from condsim.harness.process.tensors import Tensor
from condsim.harness.task import Rows, Task, condition_text
from condsim.methods.joint import joint_encoder
from condsim.methods.shared.checks import has_slot
from condsim.methods.shared.pseudo_words import CONDITION


class ConditionalFeatures(Method):
    """score = cos(f(ref, c), f(d, c)), f an image encoder that reads the condition c (FocalLens, SteerViT, ...)."""

    needs_text = False

    def __init__(
        self,
        features: str | Sequence[str] | None = None,
        names: str | Sequence[str] | None = None,
        template: str = CONDITION,
    ) -> None:
        self.file = None if features is None else own_file(features, names, clean_path, "method.names")
        has_slot(template=template)
        self.template = template

    def check(self, task: Task) -> None:
        super().check(task)
        if self.file is None:
            return
        known = {name.rpartition("/")[0] for name in self.file.names}  # of every folder that a name is in
        known |= {name[:end] for name in known for end in range(len(name)) if name[end] == "/"}
        wanted = [condition_text(condition) for condition in task.conditions]
        missing = [text for text in wanted if text not in known]
        if len(missing) == len(wanted):
            of_other_things = {*task.query_names, *task.images.keys}.intersection(self.file.names)
            kind = (
                CondsimError if of_other_things or "" in known else NotApplicable
            )  # else: of another task's conditions
            first = wanted[int(task.condition[0])], task.images.keys[int(task.reference[0])]
            raise kind(
                f"{self.file} has no features for the conditions of {task.full_name}: a row is named "
                f"{self.file.names[0]!r}, expected names such as {pair_name(*first)!r}. "
                "`condsim queries pairs=FILE` lists them"
            )
        if missing:
            raise CondsimError(
                f"{self.file}: no features for the condition {missing[0]!r} of {task.full_name}. "
                f"{did_you_mean(missing[0], known)}"
            )

    def prepare(self, gallery: Gallery) -> Scorer:
        texts = [condition_text(condition) for condition in gallery.conditions]
        if self.file is None:
            encode = joint_encoder(gallery)
            prompts = [self.template.replace(CONDITION, text) for text in texts]
            return _Scorer(lambda code, rows: encode(rows, [prompts[code]] * len(rows)), gallery)
        file, keys = self.file, gallery.table.keys

        def look_up(code: int, rows: Rows) -> Tensor:
            names = [pair_name(texts[code], keys[row]) for row in rows]
            return file.look_up(names, lambda row: f"the name {names[row]!r}")

        return _Scorer(look_up, gallery)


class _Scorer:
    """``encode``: index of a condition and rows [n] of the image table -> raw features [n, D']."""

    def __init__(self, encode: Callable[[int, Rows], Tensor], gallery: Gallery) -> None:
        self.encode, self.rows, self.device = encode, gallery.rows, gallery.features.device
        self._whole: tuple[int, Tensor] | None = None

    def __call__(self, queries: Queries, rows: Tensor | None = None) -> Tensor:
        width = len(self.rows) if rows is None else rows.shape[-1]
        scores = torch.empty(len(queries), width, device=self.device)
        references = reference_rows(queries)
        for code in torch.unique(queries.condition).tolist():
            of_condition = (queries.condition == code).nonzero().flatten()
            own_references = self._features(code, references[of_condition.cpu().numpy()])
            if rows is None or rows.ndim == 1:
                scores[of_condition] = inner_products(own_references, self._gallery(code), rows)
                continue
            own = rows[of_condition]
            own = torch.where(own < 0, own[:, :1], own)  # padding: any item that has features
            items, places = torch.unique(own, return_inverse=True)
            features = self._features(code, self.rows[items.cpu().numpy()])
            scores[of_condition] = inner_products(own_references, features, places)
        return scores

    def _gallery(self, code: int) -> Tensor:
        """[N, D'] unit features of the gallery under one condition; queries come sorted by condition."""
        if self._whole is None or self._whole[0] != code:
            self._whole = None  # free the last condition's before the next one's are read
            self._whole = (code, self._features(code, self.rows))
        return self._whole[1]

    def _features(self, code: int, rows: Rows) -> Tensor:
        return unit(self.encode(code, rows).to(self.device))
