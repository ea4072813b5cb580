"""The backbone of multimodal embedders (sentence-transformers): images, texts, and images with texts in one space."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from condsim.harness.errors import BackboneError, CondsimError, NotApplicable, first_line
from condsim.harness.features.cache.request import Encode, Encoded
from condsim.harness.features.cache.store import (
    FeatureStore,
    ImageKeys,
    describe_images,
    joint_keys,
    open_store,
    text_keys,
)
from condsim.harness.features.cache.table import FeatureTable
from condsim.harness.features.open_clip.batches import InPieces
from condsim.harness.files.hashing import digest
from condsim.harness.files.paths import cache_folder
from condsim.harness.images import Picture, read_picture
from condsim.harness.process.devices import AUTO, device_of
from condsim.harness.process.tensors import Tensor
from condsim.harness.task import ImageTable
from condsim.harness.terminal.progress import track

Kind = Literal["image", "text", "joint"]
_NO_WEIGHTS = (".md", ".gitattributes", ".gitignore", ".png", ".jpg")
_OTHER_FORMATS = ["*.onnx", "onnx/*", "openvino/*", "*.gguf", "*.h5", "*.msgpack", "*.tflite"]


class Embedder:
    """A model that sentence-transformers loads, from a folder or the Hugging Face Hub (BGE-VL, GME, Qwen3-VL, ...)."""

    reads_images = True

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        image_prompt: str | None = None,
        text_prompt: str | None = None,
        joint_prompt: str | None = None,
        dimensions: int | None = None,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        trust_remote_code: bool = False,
        device: str = "auto",
        batch_size: int = 16,
        cache_dir: str | Path | None = None,
        name: str | None = None,
    ) -> None:
        """
        ``model``: a folder, or a name on the Hub; ``revision``: a branch, tag or commit there.
        ``image_prompt``, ``text_prompt``, ``joint_prompt``: the instruction for an image, for a text, and for both
        together, as ``prompt`` of ``SentenceTransformer.encode``; None: what the model's own settings say.
        ``dimensions``: keep the first ones only (Matryoshka models). ``trust_remote_code``: run code of the model's
        repository. ``batch_size``: rows at once, halved when memory runs out.
        """
        if batch_size < 1:
            raise CondsimError(f"backbone.batch_size={batch_size}: must be at least 1")
        self.model, self.revision = model, revision
        self.prompts: dict[Kind, str | None] = {
            "image": image_prompt, "text": text_prompt, "joint": joint_prompt,
        }  # fmt: skip
        self.dimensions, self.dtype, self.trust_remote_code = dimensions, dtype, trust_remote_code
        self.name = name or Path(model).name
        self._device = device
        self._cache_dir = cache_folder(cache_dir)
        self._pieces = InPieces(batch_size)

    @cached_property
    def folder(self) -> Path:
        """Where the model's files are; they are downloaded where ``model`` is no folder."""
        if Path(self.model).expanduser().is_dir():
            return Path(self.model).expanduser()
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(self.model, revision=self.revision, ignore_patterns=_OTHER_FORMATS))
        except Exception as error:  # no such model, no access, no network: the Hub's client has an error for each
            raise BackboneError(
                f"backbone.model={self.model} is no folder, and cannot be fetched from the Hugging Face Hub: "
                f"{first_line(error)}"
            ) from error

    @cached_property
    def identity(self) -> dict[str, str]:
        prompts = {f"{kind} prompt": prompt for kind, prompt in self.prompts.items() if prompt is not None}
        return self._common | prompts

    @cached_property
    def _common(self) -> dict[str, str]:
        """The part of the identity on which images, texts and both together depend: the files, not their place."""
        files = sorted(path for path in self.folder.rglob("*") if path.is_file() and path.suffix not in _NO_WEIGHTS)
        digests = (self.store.digests.digest_file(path) for path in files)
        content = b"".join(
            path.relative_to(self.folder).as_posix().encode() + of_file
            for path, of_file in zip(files, digests, strict=True)
        )
        dimensions = {} if self.dimensions is None else {"dimensions": str(self.dimensions)}
        return {"model": f"embedder {self.name}", "files": digest(content).hex(), "dtype": self.dtype} | dimensions

    @property
    def store(self) -> FeatureStore:
        return open_store(self._cache_dir)

    @cached_property
    def loaded(self) -> Any:
        """The SentenceTransformer. Raises BackboneError where it cannot be loaded."""
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise BackboneError(
                "backbone=embedder needs sentence-transformers: pip install 'condsim[embedders]'"
            ) from None
        device = None if self._device == AUTO else str(device_of(self._device))
        try:
            return SentenceTransformer(
                str(self.folder),
                device=device,
                trust_remote_code=self.trust_remote_code,
                truncate_dim=self.dimensions,
                model_kwargs={"dtype": self.dtype},
                local_files_only=True,
            )
        except Exception as error:  # whatever the model's own code raises
            raise BackboneError(
                f"{self.folder}: sentence-transformers cannot load the model: {first_line(error)}"
            ) from error

    @cached_property
    def width(self) -> int:
        return int(self.dimensions or self.loaded.get_embedding_dimension())

    @property
    def device(self) -> torch.device:
        return torch.device(self.loaded.device)

    def encode_images(self, table: ImageTable) -> Tensor:
        features_table, content = self.stored_images(table)
        encode = self._encode_images("image", table, content.digests, lambda picture, row: picture)
        return torch.from_numpy(features_table.fetch(content.keys, encode, describe_images(table)))

    def stored_images(self, table: ImageTable) -> tuple[FeatureTable, ImageKeys]:
        return self._table("image"), self.store.image_keys(table)

    @property
    def rows_at_once(self) -> int:
        return self._pieces.size

    def encode_jointly(self, table: ImageTable, texts: Sequence[str]) -> Tensor:
        if not self.loaded.supports(("image", "text")):
            raise NotApplicable(
                f"{self.name} encodes images and texts apart: it takes {', '.join(map(str, self.loaded.modalities))}"
            )
        content = self.store.image_keys(table)
        encode = self._encode_images(
            "joint", table, content.digests, lambda picture, row: {"image": picture, "text": texts[row]}
        )
        path = describe_images(table)
        keys = joint_keys(content.keys, texts)
        describe = lambda row: f"{path(row)} with {texts[row]!r}"  # noqa: E731
        return torch.from_numpy(self._table("joint").fetch(keys, encode, describe))

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        def encode(rows: NDArray[np.int64]) -> Generator[Encoded, None, None]:
            with track(len(rows), f"{self.name}: encoding texts") as advance:
                for part in np.array_split(rows, range(self._pieces.size, len(rows), self._pieces.size)):
                    features = self._pieces(partial(self._features, "text"), [texts[row] for row in part])
                    yield Encoded(part, features.numpy())
                    advance(len(part))

        return torch.from_numpy(self._table("text").fetch(text_keys(texts), encode, lambda row: f"text {texts[row]!r}"))

    def images_digest(self, table: ImageTable) -> str:
        """A digest of every picture's content and crop, in the order of the table."""
        return self.store.images_digest(table).hex()

    def forget_features(self) -> None:
        for kind in self.prompts:
            self._table(kind).forget_recent()

    def _table(self, kind: Kind) -> FeatureTable:
        """The features of one kind: they depend on its own prompt alone."""
        prompt = self.prompts[kind]
        identity = self._common if prompt is None else self._common | {"prompt": prompt}
        return self.store.table(identity, "text" if kind == "text" else "image", self.width)

    def _encode_images(
        self, kind: Kind, table: ImageTable, digests: list[bytes], input_of: Callable[[Picture, int], Any]
    ) -> Encode:
        def encode(rows: NDArray[np.int64]) -> Generator[Encoded, None, None]:
            with track(len(rows), f"{self.name}: encoding images") as advance:
                for part in np.array_split(rows, range(self._pieces.size, len(rows), self._pieces.size)):
                    inputs, faults = {}, {}
                    for row in part.tolist():
                        try:
                            inputs[row] = input_of(read_picture(table, row, digests[row])[0].convert("RGB"), row)
                        except CondsimError as error:
                            faults[row] = str(error)
                    good = np.array(list(inputs), dtype=np.int64)
                    features = np.zeros((0, self.width), np.float32)
                    if inputs:
                        features = self._pieces(partial(self._features, kind), list(inputs.values())).numpy()
                    yield Encoded(good, features, faults)
                    advance(len(part))

        return encode

    def _features(self, kind: Kind, inputs: list[Any]) -> Tensor:
        features = self.loaded.encode(
            inputs, prompt=self.prompts[kind], batch_size=len(inputs), show_progress_bar=False, convert_to_tensor=True
        )
        found: Tensor = features.float().cpu()
        return found
