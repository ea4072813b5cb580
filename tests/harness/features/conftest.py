"""What holds for every test of the encoder and its caches."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def unchanged_process() -> Iterator[None]:
    """Fail a test that leaves the process with other threads, another environment or another working folder."""
    before = _process_state()
    yield
    after = _process_state()
    torch.set_num_threads(before[0])
    assert after == before, "the test changed the process for the tests after it"


def _process_state() -> tuple[int, dict[str, str], str]:
    """Threads of PyTorch, environment, working folder."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return torch.get_num_threads(), environment, os.getcwd()
