"""What holds for every test of the encoder and its caches."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def unchanged_environment() -> Iterator[None]:
    """Fail a test that leaves any variable changed, those of libraries too; `tests/conftest.py` checks all else."""
    torch.get_num_threads()  # torch is imported, so that its threads are among what is checked
    before = _environment()
    yield
    assert _environment() == before, "the test changed the environment for the tests after it"


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
