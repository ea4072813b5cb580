"""What the tests of the harness share."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import make_results


@pytest.fixture(scope="session")
def results_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only: shared by the session."""
    return make_results(tmp_path_factory.mktemp("toy") / "results")
