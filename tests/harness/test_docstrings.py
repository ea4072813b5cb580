"""The examples in the docstrings of the contracts."""

from __future__ import annotations

import doctest
from types import ModuleType

import pytest

from condsim.harness import method, one_vector, task


@pytest.mark.parametrize("module", [method, one_vector, task], ids=lambda module: module.__name__)
def test_the_examples_give_what_they_show(module: ModuleType) -> None:
    results = doctest.testmod(module)
    assert results.attempted
    assert not results.failed
