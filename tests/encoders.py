"""What tests use for an encoder: random features of a vision-language space, and open_clip models of a few weights."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from builders import image_table
from condsim.harness.files.gallery_parts import GRAIN, write_parts
from condsim.harness.method import Gallery, Queries, TrainFeatures
from condsim.harness.task import Condition, ImageTable, Rows

torch.testing._comparison._HAS_DTENSOR = False  # the first comparison would import sympy, for more than a second

CONDITIONS: tuple[Condition, ...] = (("color",), ("shape",), ("material",), ("color", "shape"))


@cache
def _near(width: int, seed: int, cone: int) -> Tensor:
    """A feature near the middle of a cone. Read only: the tests draw the same ones thousands of times."""
    middle = torch.randn(width, generator=torch.Generator().manual_seed(cone))
    own = torch.Generator().manual_seed(seed + 7)
    length = 0.5 + 10 * torch.rand(1, generator=own)
    return length * (middle + torch.randn(width, generator=own))


@contextmanager
def cores(number: int) -> Iterator[None]:
    """PyTorch on ``number`` cores within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Space:
    """Random features with the traits of a vision-language space: texts and images in two narrow cones, of any length.

    Features of width ``width`` for any text and for any number of images, the same every time.
    """

    width: int = 24
    word_width: int = 10

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        rows = [_near(self.width, zlib.crc32(text.encode()), cone=1) for text in texts]
        return torch.stack(rows) if rows else torch.zeros(0, self.width)

    def encode_texts_with(self, texts: Sequence[str], vectors: Tensor) -> Tensor:
        """The features of the texts, moved by their word vectors [len, word_width]."""
        assert vectors.shape == (len(texts), self.word_width)
        assert all("$" in text for text in texts)
        move = torch.randn(self.word_width, self.width, generator=torch.Generator().manual_seed(3))
        return self.encode_texts(texts) + vectors @ move

    def encode_jointly(self, rows: Rows, texts: Sequence[str]) -> Tensor:
        return torch.stack(
            [
                _near(self.width, zlib.crc32(f"{row} {text}".encode()), cone=3)
                for row, text in zip(rows, texts, strict=True)
            ]
        )

    def encode_images(self, n: int, seed: int = 0) -> Tensor:
        return torch.stack([_near(self.width, 1000 * seed + i, cone=2) for i in range(n)])

    def gallery(
        self, n: int = 40, conditions: tuple[Condition, ...] = CONDITIONS, names: Sequence[str] | None = None
    ) -> Gallery:
        train = TrainFeatures(self.encode_images(30, seed=5), image_table(30), tuple(f"phrase {i}" for i in range(50)))
        return Gallery(
            features=self.encode_images(n),
            conditions=conditions,
            condition_features=self.encode_texts([" and ".join(condition) for condition in conditions]),
            encode_texts=self.encode_texts,
            train=lambda: train,
            table=image_table(n) if names is None else ImageTable(Path("images"), tuple(names)),
            rows=np.arange(n),
            encode_images=lambda table: self.encode_images(len(table), seed=9),
            encode_texts_with=self.encode_texts_with,
            encode_jointly=self.encode_jointly,
            query_names=tuple(f"toy/{i}" for i in range(n)),
        )

    def queries(self, gallery: Gallery, reference: Sequence[int], condition: Sequence[int]) -> Queries:
        """Queries whose references are gallery items (each item's row is its place)."""
        return Queries(
            gallery.features[torch.tensor(reference)],
            gallery.condition_features[torch.tensor(condition)],
            torch.tensor(condition),
            torch.tensor(reference),
            torch.arange(len(reference)),
        )


def make_gallery_in_parts(root: Path, items: int, queries: int, width: int) -> Path:
    """``root`` with a gallery of ``items`` rows in parts, with equal items in different parts, and queries about it.

    gallery/: the parts; queries.csv; others.npy and others.txt: the features of the first two queries' images, which
    are not in the gallery.
    """
    generator = np.random.default_rng(0)
    features = (generator.standard_normal((items, width)) + 0.5).astype(np.float16)
    features[GRAIN + 7 :: 1000] = features[7::1000][: len(features[GRAIN + 7 :: 1000])]
    names = [f"g/{i}.jpg" for i in range(items)]
    blocks = ((names[start : start + 50_000], features[start : start + 50_000]) for start in range(0, items, 50_000))
    write_parts(root / "gallery", blocks, rows_per_part=GRAIN)
    np.save(root / "others.npy", generator.standard_normal((2, width)).astype(np.float32))
    (root / "others.txt").write_text("q/0.jpg\nq/1.jpg\n")
    lines = [
        f"{i},{f'q/{i}' if i < 2 else f'g/{i * 9001 + 7}'}.jpg,color,g/{i * 5000 + 3}.jpg|g/{i * 10_007 + 1}.jpg"
        for i in range(queries)
    ]
    (root / "queries.csv").write_text("\n".join(["id,image,text,positives", *lines]) + "\n")
    return root


def tiny_clip(
    folder: Path, name: str, weights: str = "weights.safetensors", *, seed: int = 0, width: int = 12,
    vision: Mapping[str, Any] | None = None, text: Mapping[str, Any] | None = None, **more: Any,
) -> nn.Module:  # fmt: skip
    """An open_clip model that ``folder / f"{name}.json"`` describes, with random weights that ``weights`` holds.

    ``vision``, ``text`` and ``more`` change its config.
    """
    import open_clip

    small_vision = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16, "patch_size": None}
    small_text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    config = {"vision_cfg": {**small_vision, **(vision or {})}, "text_cfg": {**small_text, **(text or {})}}
    (folder / f"{name}.json").write_text(json.dumps({"embed_dim": width, **config, **more}))
    open_clip.add_model_config(folder / f"{name}.json")
    torch.manual_seed(seed)
    model: nn.Module = open_clip.create_model(name)
    save_file(model.state_dict(), folder / weights)
    return model.eval()
