"""What the tests of open_clip's models share."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest


@pytest.fixture(scope="session", autouse=True)
def one_tokenizer_per_kind() -> Iterator[None]:
    """A tokenizer reads its vocabulary for as long as a small model is built, and no test changes one."""
    import open_clip  # all collect this file, also those that run no test of this folder

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_clip.factory, "SimpleTokenizer", cache(open_clip.factory.SimpleTokenizer))
        yield
