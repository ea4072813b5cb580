"""What the tests of methods share."""

from __future__ import annotations

import pytest

from encoders import Space


@pytest.fixture
def space() -> Space:
    return Space()
