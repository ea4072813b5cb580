"""A package that is imported when it is first used: once, whole, and as if it had been imported at once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from condsim.harness.process.deferred import defer, is_deferred, once_imported

NAME = "condsim_slow_package"


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a package that has a submodule and reads itself while it is imported."""
    folder = tmp_path / NAME
    folder.mkdir()
    (folder / "__init__.py").write_text(f"import {NAME}.part\nvalue = {NAME}.part.value + 1\n")
    (folder / "part.py").write_text(f"import {NAME}\nvalue = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    defer(NAME)
    yield folder
    for name in [name for name in sys.modules if name.startswith(NAME)]:
        del sys.modules[name]


def imported() -> ModuleType:
    """What ``import condsim_slow_package`` gives, as often as it is written."""
    __import__(NAME)
    return __import__(NAME)


@pytest.mark.usefixtures("slow")
def test_naming_a_package_does_not_execute_it_and_using_it_does() -> None:
    package = imported()
    assert is_deferred(NAME)
    assert package.value == 2
    assert not is_deferred(NAME)
    assert type(package) is ModuleType
    with pytest.raises(AttributeError, match="no_such"):
        package.no_such  # noqa: B018


@pytest.mark.usefixtures("slow")
def test_importing_a_submodule_imports_the_package_first() -> None:
    part = __import__(f"{NAME}.part", fromlist=["value"])
    assert (part.value, imported().value, is_deferred(NAME)) == (1, 2, False)


@pytest.mark.usefixtures("slow")
def test_an_action_waits_for_the_import_and_only_inside_its_with_statement() -> None:
    calls: list[int] = []
    with once_imported(NAME, lambda package: calls.append(-package.value)):
        pass
    with once_imported(NAME, lambda package: calls.append(package.value)):
        assert calls == []
        imported().value  # noqa: B018
        assert calls == [2]
    with once_imported(NAME, lambda package: calls.append(10 * package.value)):
        assert calls == [2, 20]


def test_a_package_that_fails_is_not_left_half_imported(slow: Path) -> None:
    (slow / "part.py").write_text("raise ImportError('the library is damaged')\n")
    with pytest.raises(ImportError, match="damaged"):
        imported().value  # noqa: B018
    assert NAME not in sys.modules


def test_what_is_imported_already_or_missing_is_left_as_it_is() -> None:
    defer("json")
    defer("condsim_no_such_package")
    assert not is_deferred("json")
    assert not is_deferred("condsim_no_such_package")
