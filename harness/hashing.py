"""The hash that identifies a run or a training by its settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def settings_hash(config: Mapping[str, Any]) -> str:
    """12 hexadecimal digits of the canonical JSON of ``config``."""
    canonical = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(canonical.encode(), digest_size=6).hexdigest()
