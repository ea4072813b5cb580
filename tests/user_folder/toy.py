"""A user's own benchmark, backbone and methods, as they would stand in a file outside the repository."""

import hashlib
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from condsim.harness.errors import BackboneError, CondsimError
from condsim.harness.features.cache.request import Encoded
from condsim.harness.features.cache.store import ImageKeys, describe_images, open_store
from condsim.harness.features.cache.table import FeatureTable
from condsim.harness.images import read_picture
from condsim.harness.method import Gallery, Method, Queries, Scorer
from condsim.harness.task import Benchmark, ImageTable, Ragged, Task

QUERIES, ITEMS = 40, 6


def load(seed: int = 0) -> Benchmark:
    """40 queries with six candidates each, and the same queries against the whole gallery."""
    rng = np.random.default_rng(seed)
    images = ImageTable(Path("nowhere"), tuple(f"{i}.png" for i in range(100)))
    lists = np.stack([rng.choice(100, ITEMS + 1, replace=False) for _ in range(QUERIES)])
    reference, candidates = lists[:, 0].astype(np.int64), lists[:, 1:].astype(np.int64)
    shared: dict[str, Any] = {
        "benchmark": "toy",
        "images": images,
        "conditions": (("color",), ("shape",)),
        "condition": rng.integers(2, size=QUERIES),
        "reference": reference,
        "relevant": Ragged.of(candidates[:, :1]),
    }
    few = Task(name="few", metrics=("recall@1", "recall@2"), candidates=Ragged.of(candidates), **shared)
    excluded = Ragged.of(reference[:, None])
    gallery = np.arange(100, dtype=np.int64)
    whole = Task(name="whole", metrics=("recall@10", "map"), gallery=gallery, excluded=excluded, **shared)
    return Benchmark("toy", (few, whole), headlines={"mean": (("few", "recall@1"), ("whole", "recall@10"))})


class Backbone:
    """Features drawn from a hash of the name."""

    name, width = "toy", 8
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.identity = {"model": "toy"}

    def encode_images(self, table: ImageTable) -> Tensor:
        return torch.stack([_draw(name) for name in table.names])

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        return torch.stack([_draw(text) for text in texts])


class Unloadable(Backbone):
    """Its weights are not there."""

    name = "unloadable"

    def encode_images(self, table: ImageTable) -> Tensor:
        raise BackboneError("the weights are not on this machine: fetch them elsewhere")


class Stored(Backbone):
    """Products with the pixels of pictures of 24 x 24, in a feature store."""

    name, rows_at_once = "stored", 64

    def __init__(self, cache_dir: str) -> None:
        super().__init__()
        self.store = open_store(Path(cache_dir))

    def stored_images(self, table: ImageTable) -> tuple[FeatureTable, ImageKeys]:
        return self.store.table(self.identity, "image", self.width), self.store.image_keys(table)

    def encode_images(self, table: ImageTable) -> Tensor:
        features, content = self.stored_images(table)
        weights = torch.randn(3 * 24 * 24, self.width, generator=torch.Generator().manual_seed(0))

        def encode(rows: NDArray[np.int64]) -> Generator[Encoded, None, None]:
            for start in range(0, len(rows), self.rows_at_once):
                pixels, faults = {}, {}
                for row in rows[start : start + self.rows_at_once].tolist():
                    try:
                        picture, _ = read_picture(table, row, content.digests[row])
                        pixels[row] = torch.from_numpy(np.array(picture, dtype=np.float32).ravel())
                    except CondsimError as error:
                        faults[row] = str(error)
                yield Encoded(np.array([*pixels]), (torch.stack([*pixels.values()]) @ weights).numpy(), faults)

        return torch.from_numpy(features.fetch(content.keys, encode, describe_images(table)))


def _draw(name: str) -> Tensor:
    seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "big")
    return torch.randn(8, generator=torch.Generator().manual_seed(seed))


class Constant(Method):
    """Every candidate is as good as any other."""

    def __init__(self, value: float = 1.0, slow: float = 0.0) -> None:
        self.value, self.slow = value, slow

    def prepare(self, gallery: Gallery) -> Scorer:
        time.sleep(self.slow)

        def score(queries: Queries, rows: Tensor | None = None) -> Tensor:
            count = len(gallery.features) if rows is None else rows.shape[-1]
            return torch.full((len(queries), count), float(self.value))

        return score


class Broken(Method):
    """Fails where a user would not expect it."""

    def __init__(self, how: str = "crash") -> None:
        if how == "refuse":
            raise CondsimError("how=refuse was asked for")
        self.how = how

    def prepare(self, gallery: Gallery) -> Scorer:
        if self.how == "crash":
            raise ZeroDivisionError("a fault in a user's method")

        def score(queries: Queries, rows: Tensor | None = None) -> Tensor:
            return torch.full((len(queries), len(gallery.features) if rows is None else rows.shape[-1]), float("nan"))

        return score
