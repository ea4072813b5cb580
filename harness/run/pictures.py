"""What identifies the pictures of a task, which are part of a run's identity: their content, not their place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from condsim.harness.backbone import Backbone, DigestsImages
from condsim.harness.features.cache.store import open_store
from condsim.harness.hashing import content_digest
from condsim.harness.paths import default_cache_dir
from condsim.harness.task import ImageTable

ImagesDigest = Callable[[Backbone, ImageTable], str]


def images_digest(backbone: Backbone, table: ImageTable) -> str:
    """A digest of the pictures' content, in the order of the table; "" where the features do not depend on files."""
    if isinstance(backbone, DigestsImages):
        return backbone.images_digest(table)
    present = [row for row in range(len(table)) if table.path(row).is_file()]
    if not present:
        return ""
    keys = open_store(default_cache_dir()).image_keys(table.take(np.array(present))).keys
    missing = b"" if len(present) == len(table) else repr(present).encode()
    return content_digest(b"".join(keys) + missing)  # where all are there, what open_clip's backbones say


class SeenPictures:
    """``images_digest``, which looks at the files of each table once until ``seen`` is cleared."""

    def __init__(self) -> None:
        self.seen: dict[tuple[int, int], tuple[Backbone, ImageTable, str]] = {}
        """The objects are kept, so that no other has their ``id``."""

    def __call__(self, backbone: Backbone, table: ImageTable) -> str:
        key = id(backbone), id(table)
        if key not in self.seen:
            self.seen[key] = backbone, table, images_digest(backbone, table)
        return self.seen[key][2]
