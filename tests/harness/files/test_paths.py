"""Names become parts of paths that stay in their folder and stay different."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condsim.harness.files.paths import cache_folder, resolve, safe_name


@given(st.text(min_size=1, max_size=300), st.integers(20, 100))
def test_a_safe_name_is_one_short_part_of_a_path(name: str, longest: int) -> None:
    safe = safe_name(name, longest)
    assert Path("folder", safe).parts == ("folder", safe)
    assert safe not in (".", "..")
    assert "\0" not in safe
    assert len(safe.encode()) <= longest
    assert safe_name(safe, longest) == safe


def test_different_names_stay_different() -> None:
    names = ["a/b", "a_b", "a b", "../a", ".a", "_a", "x" * 300, "x" * 301]
    assert len({safe_name(name) for name in names}) == len(names)
    assert safe_name("rank=5,größe_2") == "rank=5,größe_2"


def test_a_file_is_named_by_a_path_a_package_or_the_images_folder() -> None:
    assert resolve("~/a.json") == Path.home() / "a.json"
    assert resolve("images://kinds.json", Path("pictures")) == Path("pictures/kinds.json")
    assert resolve("pkg://condsim.conf/bench.yaml").is_file()


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDSIM_CACHE", "/somewhere/else")
    assert cache_folder() == Path("/somewhere/else")
    assert cache_folder("~/mine") == Path.home() / "mine"
    monkeypatch.setenv("CONDSIM_CACHE", "")
    assert cache_folder() == Path.home() / ".cache/condsim"
