"""The feature cache: features on disk, keyed by the content that was encoded, so that nothing is encoded twice.

``<cache>/features/<model>-<hash of the backbone's identity>/{image,text}/`` holds the features of one backbone. A row's
key is a digest of its content (image bytes and crop, or text). Names, tables, tasks and processes therefore share
features: a renamed or copied image is found, an edited one is encoded again.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from condsim.harness.errors import UnusableRowsError
from condsim.harness.features.cache.digest_index import DigestIndex
from condsim.harness.features.cache.looks import Look, crop_rule, distinct_files, look_at
from condsim.harness.features.cache.table import FeatureTable
from condsim.harness.files.hashing import digest
from condsim.harness.task import ImageTable

DIGESTS = "digests.sqlite"


@dataclass(frozen=True)
class ImageKeys:
    """Per row of an image table: the digest of the file's bytes, and the key, which also depends on the crop."""

    digests: list[bytes]
    keys: list[bytes]


class FeatureStore:
    """All features under one cache folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.digests = DigestIndex(root / DIGESTS)
        self._tables: dict[Path, FeatureTable] = {}
        self._image_keys: OrderedDict[bytes, ImageKeys] = OrderedDict()

    def table(self, identity: Mapping[str, str], kind: str, width: int) -> FeatureTable:
        """The features of ``kind`` ("image" or "text") by the backbone with this identity."""
        path = self.root / "features" / folder_name(identity) / kind
        if path not in self._tables:
            self._tables[path] = FeatureTable(path, width, identity)
        return self._tables[path]

    def image_keys(self, table: ImageTable) -> ImageKeys:
        """The key of every row. Only files that changed since they were last read are read; copies have equal keys.

        Raises UnusableRowsError with row and file for files that are missing or cannot be read.
        """
        with _by_row(table):
            return self._keys(table, look_at(table))

    def images_digest(self, table: ImageTable) -> bytes:
        """The digest of all keys of ``image_keys``, in the order of the table. Raises what it raises.

        It is stored under the stamps of the files, so it takes a tenth of the time of the keys while no file changes.
        """
        with _by_row(table):
            look = look_at(table)
            known = self.digests.of_table(look.fingerprint)
            if known is None:
                known = digest(b"".join(self._keys(table, look).keys))
                self.digests.keep_table(look.fingerprint, known, look.stamps)
        return known

    def _keys(self, table: ImageTable, look: Look) -> ImageKeys:
        if look.fingerprint not in self._image_keys:
            names, paths = distinct_files(table)
            contents = dict(zip(names, self.digests.digests(paths, look.stamps), strict=True))
            self._remember_keys(look.fingerprint, table, [contents[name] for name in table.names])
        self._image_keys.move_to_end(look.fingerprint)
        return self._image_keys[look.fingerprint]

    def trust(self, table: ImageTable, digests: list[bytes]) -> None:
        """Take ``digests`` for those of the files of ``table`` as they are now; who reads a file checks its digest.

        Raises UnusableRowsError for files that are missing.
        """
        with _by_row(table):
            self._remember_keys(look_at(table).fingerprint, table, digests)

    def _remember_keys(self, fingerprint: bytes, table: ImageTable, digests: list[bytes]) -> None:
        self._image_keys[fingerprint] = ImageKeys(digests, _keys_of_rows(table, digests))
        while len(self._image_keys) > 16:
            self._image_keys.popitem(last=False)


@contextmanager
def _by_row(table: ImageTable) -> Iterator[None]:
    """An UnusableRowsError inside, by position in ``distinct_files``, becomes one by row."""
    try:
        yield
    except UnusableRowsError as error:
        names, _ = distinct_files(table)
        by_name = {names[i]: fault for i, fault in error.faults.items()}
        faults = {row: by_name[name] for row, name in enumerate(table.names) if name in by_name}
        raise UnusableRowsError(len(table), faults, describe_images(table)) from None


def folder_name(identity: Mapping[str, str]) -> str:
    """The name of the folder with the features of this backbone."""
    text = json.dumps(dict(identity), sort_keys=True)
    slug = re.sub(r"[^\w.-]+", "-", identity.get("model", "backbone"))[:60]
    return f"{slug}-{blake2b(text.encode(), digest_size=8).hexdigest()}"


@lru_cache(maxsize=8)
def open_store(root: Path) -> FeatureStore:
    """The cache under ``root``, one object per process, so that its callers share memory."""
    return FeatureStore(root)


def text_keys(texts: Sequence[str]) -> list[bytes]:
    """The key of every text."""
    return [digest(text.encode("utf-8", "surrogatepass")) for text in texts]


def pseudo_word_keys(texts: Sequence[str], vectors: NDArray[np.float32]) -> list[bytes]:
    """The key of every text with a word that is the row of ``vectors`` [len(texts), E]; never that of a text alone."""
    rows = np.ascontiguousarray(vectors)
    return [
        digest(b"\xff" + row.tobytes() + text.encode("utf-8", "surrogatepass"))  # no text begins with this byte
        for text, row in zip(texts, rows, strict=True)
    ]


def joint_keys(images: Sequence[bytes], texts: Sequence[str]) -> list[bytes]:
    """The key of every image, given by its own key, together with its text; never that of an image alone."""
    pairs = zip(images, texts, strict=True)
    return [digest(b"joint" + image + text.encode("utf-8", "surrogatepass")) for image, text in pairs]


def describe_images(table: ImageTable) -> Callable[[int], str]:
    """Row -> its description in messages."""
    return lambda row: f"row {row}, {table.path(row)}"


def describe_texts(texts: Sequence[str]) -> Callable[[int], str]:
    """Position -> its text in messages."""
    return lambda row: f"text {row}, {texts[row]!r}"


def _keys_of_rows(table: ImageTable, digests: list[bytes]) -> list[bytes]:
    if table.boxes is None:
        return digests
    boxed = ~np.isnan(table.boxes).min(axis=1)
    rule, boxes = crop_rule(table), np.ascontiguousarray(table.boxes, dtype=np.float64)
    return [
        digest(b"".join((rule, boxes[row].tobytes(), content))) if boxed[row] else content
        for row, content in enumerate(digests)
    ]
