"""`import condsim`: what a notebook offers."""

from __future__ import annotations

from pathlib import Path

import condsim


def test_it_offers_the_public_names_and_nothing_else() -> None:
    assert dir(condsim) == sorted([*condsim.__all__, "__version__"])
    assert all(getattr(condsim, name) is not None for name in dir(condsim))


def test_the_api_page_names_each_of_them() -> None:
    page = Path(__file__).parents[1].joinpath("docs/api.md").read_text(encoding="utf-8")
    assert [name for name in dir(condsim) if f"{name}`" not in page] == []
