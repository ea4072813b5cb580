"""What identifies the pictures of a task, which are part of a run's identity: their content, not their place."""

from __future__ import annotations

import numpy as np

from condsim.harness.backbone import Backbone, DigestsImages
from condsim.harness.errors import UnusableRowsError
from condsim.harness.features.cache.store import open_store
from condsim.harness.hashing import content_digest
from condsim.harness.paths import default_cache_dir
from condsim.harness.task import ImageTable


def images_digest(backbone: Backbone, table: ImageTable) -> str:
    """A digest of the pictures' content, in the order of the table; "" where the features do not depend on files."""
    if isinstance(backbone, DigestsImages):
        return backbone.images_digest(table)
    store = open_store(default_cache_dir())
    try:
        return store.images_digest(table).hex() if len(table) else ""  # what open_clip's backbones say
    except UnusableRowsError:
        present = [row for row in range(len(table)) if table.path(row).is_file()]
    if not present:
        return ""
    keys = store.image_keys(table.take(np.array(present))).keys
    missing = b"" if len(present) == len(table) else repr(present).encode()
    return content_digest(b"".join(keys) + missing)
