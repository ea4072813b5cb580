"""The backbone contract: a frozen encoder of pictures and texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from condsim.harness.task import ImageTable, Task

if TYPE_CHECKING:  # readers of records need the contract but not torch
    import torch
    from torch import Tensor

    from condsim.harness.files.gallery_parts import Parts


class Backbone(Protocol):
    """A frozen encoder. Its features are raw (not normalised) float32 on the CPU."""

    name: str
    """As leaderboards show it: "ViT-B-32/openai"."""

    @property
    def identity(self) -> dict[str, str]:
        """Everything that its features depend on, part of a run's settings hash; the same on every machine."""
        ...

    @property
    def width(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    def encode_images(self, table: ImageTable) -> Tensor:
        """[len(table), width], for reading only. Raises CondsimError naming the rows that cannot be encoded."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """[len(texts), width], for reading only; bare strings, cut off at the context length."""
        ...


def reads_images(backbone: object) -> bool:
    """Whether a backbone, or its class, says that it needs the file of every image: an optional part, the attribute
    ``reads_images = True``. Without it only a run shows whether it does."""
    return getattr(backbone, "reads_images", False) is True


@runtime_checkable
class DigestsImages(Protocol):
    """An optional part: what identifies the pictures' content. Without it the bytes of their files do."""

    def images_digest(self, table: ImageTable) -> str:
        """A digest of what ``encode_images(table)`` depends on in addition to ``identity``: pixels and crops, in order.

        Unchanged files are not read again. Raises UnusableRowsError for files that are missing.
        """
        ...


@runtime_checkable
class ForgetsFeatures(Protocol):
    """An optional part: features stay in memory from run to run. Without it, methods receive copies."""

    def forget_features(self) -> None:
        """Drop all features from memory, because a method has written into them; the next call reads them again."""
        ...


@runtime_checkable
class NotesInputs(Protocol):
    """An optional part: says which inputs were not read as they are, such as texts that were cut."""

    def notes(self, table: ImageTable, texts: Sequence[str]) -> list[str]:
        """One sentence with a count per kind of such inputs; all of them have been encoded before."""
        ...


@runtime_checkable
class MapsImages(Protocol):
    """An optional part: leaves features that are published as files in their files."""

    def mapped_images(self, table: ImageTable) -> Tensor:
        """``encode_images``, or the same in a mapped file (``harness.files.memory_map``), and then perhaps float16."""
        ...


@dataclass(frozen=True)
class ImageParts:
    """The features of an image table: a gallery in parts, and the other rows after it."""

    parts: Parts
    others: Tensor
    """[M, D] raw float32 features of the rows from ``len(parts)`` on."""

    def gather(self, rows: Tensor) -> Tensor:
        """float32 [len(rows), D] the raw features of ``rows`` of the table; zeros for -1."""
        out = self.others.new_zeros(len(rows), self.parts.width)
        in_parts, after = ((rows >= 0) & (rows < len(self.parts))), rows >= len(self.parts)
        out[in_parts] = self.parts.gather(rows[in_parts])
        out[after] = self.others[rows[after] - len(self.parts)]
        return out


@runtime_checkable
class HasParts(Protocol):
    """An optional part: may have a gallery in parts, which is ranked without being in the memory of one process."""

    def image_parts(self, table: ImageTable) -> ImageParts | None:
        """The features of ``table``; None where its first rows are not a gallery in parts."""
        ...


def parts_of(backbone: Backbone, task: Task) -> ImageParts | None:
    """The task's images where its gallery is in parts, and None where it is ranked in one process."""
    images = backbone.image_parts(task.images) if isinstance(backbone, HasParts) else None
    return images if images is not None and task.gallery_range == range(len(images.parts)) else None


@runtime_checkable
class EncodesJointly(Protocol):
    """An optional part: encodes an image and a text together, as multimodal embedders do (BGE-VL, VLM2Vec, GME)."""

    def encode_jointly(self, table: ImageTable, texts: Sequence[str]) -> Tensor:
        """[len(table), width] raw features of each row of ``table`` together with its text, in one space with
        ``encode_images``; for reading only. Raises CondsimError naming the rows that cannot be encoded."""
        ...


@runtime_checkable
class EncodesPseudoWords(Protocol):
    """An optional part: encodes texts in which one word is a vector, as Pic2Word and SEARLE need it."""

    def encode_texts_with(self, texts: Sequence[str], vectors: Tensor) -> Tensor:
        """[len(texts), width] raw features of ``texts`` with the first "$" of each as one word, whose vector is the row
        of ``vectors`` [len(texts), E] in place of the text tower's own word vectors of width E; for reading only.

        A vector of the tower's own gives exactly the features of the text with that word. Without texts it only checks
        E. Raises NotApplicable where the text tower cannot take vectors, and CondsimError for another width than E and
        for a text without a "$" or with one beyond the context length.
        """
        ...
