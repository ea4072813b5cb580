"""What the tests of benchmarks share."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import GeneCIS, make_genecis


@pytest.fixture
def genecis_files(tmp_path: Path) -> GeneCIS:
    return make_genecis(tmp_path / "genecis")
