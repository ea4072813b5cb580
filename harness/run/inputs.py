"""Which texts and images a method reads: it runs with a backbone that notes what it has to encode."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from condsim.harness.backbone import Backbone
from condsim.harness.errors import UnusableRowsError
from condsim.harness.method import Method
from condsim.harness.run.isolation import isolated
from condsim.harness.run.run import rank
from condsim.harness.task import Benchmark, ImageTable, Task


@dataclass(frozen=True)
class Inputs:
    """What one method reads on one task."""

    texts: tuple[str, ...]
    tables: tuple[ImageTable, ...]
    """Of images: the task's own, those of the training split, regions of pictures."""
    complete: bool
    """False: the method chooses more texts or images by the features of these, which the backbone does not have."""


def inputs_of(
    benchmark: Benchmark, task: Task, method: Method, backbone: Backbone | None = None, width: int = 512
) -> Inputs:
    """What ``method`` reads on ``task``, in the order in which it reads it.

    ``backbone`` has the features that exist already; None: there are none, and they will have ``width`` columns. What
    it lacks gets random features, of two seeds in turn: what the method reads with one of them alone depends on
    features, and is left out. Raises what a run raises, such as NotApplicable.
    """
    method.check(task)
    first = _noted(benchmark, task, method, backbone, width, 0)
    if not first.lacks:
        return Inputs(tuple(first.texts), tuple(first.tables), complete=True)
    second = _noted(benchmark, task, method, backbone, width, 1)
    tables = [table.take(np.flatnonzero([key in second.keys for key in table.keys])) for table in first.tables]
    same = first.texts.keys() == second.texts.keys() and first.keys == second.keys
    return Inputs(tuple(text for text in first.texts if text in second.texts), tuple(tables), same)


def _noted(
    benchmark: Benchmark, task: Task, method: Method, backbone: Backbone | None, width: int, seed: int
) -> _Notebook:
    notebook = _Notebook(backbone, width if backbone is None else backbone.width, seed)
    with isolated():
        rank(benchmark, task, method, notebook, top=1)
    return notebook


@dataclass
class _Notebook:
    """A backbone that notes its inputs. Features that ``backbone`` lacks are random, by name and ``seed``."""

    backbone: Backbone | None
    width: int
    seed: int
    texts: dict[str, None] = field(default_factory=dict)
    tables: list[ImageTable] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    """The names of all images of ``tables``."""
    lacks: bool = False
    """Whether any features were random."""

    name = "random features"

    @property
    def identity(self) -> dict[str, str]:
        return {"features": self.name}

    @property
    def device(self) -> torch.device:
        return torch.device("cpu") if self.backbone is None else self.backbone.device

    def encode_images(self, table: ImageTable) -> Tensor:
        self.tables.append(table)
        self.keys.update(table.keys)
        if self.backbone is not None:
            try:
                return self.backbone.encode_images(table)
            except UnusableRowsError:
                pass
        return self._random(table.keys)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        self.texts.update(dict.fromkeys(texts))
        if self.backbone is not None:
            try:
                return self.backbone.encode_texts(texts)
            except UnusableRowsError:
                pass
        return self._random(texts)

    def _random(self, names: Sequence[str]) -> Tensor:
        """float32 [len(names), width]."""
        self.lacks = True
        features = np.empty((len(names), self.width), dtype=np.float32)
        for row, name in enumerate(names):
            generator = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
            generator.standard_normal(out=features[row], dtype=np.float32)
        return torch.from_numpy(features).to(self.device)
