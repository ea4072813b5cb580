"""What every test shares: no test may leave the process changed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

_OF_PYTEST = ("PYTEST_CURRENT_TEST", "COLUMNS", "LINES")


def _process_state() -> dict[str, object]:
    state: dict[str, object] = {
        "working folder": os.getcwd(),
        "environment": {name: value for name, value in os.environ.items() if name not in _OF_PYTEST},
        "sys.path": tuple(sys.path),
    }
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        state["torch threads"] = torch.get_num_threads()
        state["torch deterministic algorithms"] = torch.are_deterministic_algorithms_enabled()
        state["torch default dtype"] = torch.get_default_dtype()
    return state


@pytest.fixture(autouse=True)
def unchanged_process() -> Iterator[None]:
    """Fails a test that leaves another working folder, environment, import path or thread count behind."""
    before = _process_state()
    yield
    after = _process_state()
    changed = {name: (value, after[name]) for name, value in before.items() if after[name] != value}
    assert not changed, f"the test left the process changed (before, after): {changed}"
