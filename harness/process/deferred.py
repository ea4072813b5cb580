"""Import a slow package when it is first used, not where a module names it: a command that needs none of it is quick.

A command calls ``defer`` before it imports anything else. A module profits from it if it writes ``import torch``:
``from torch import nn`` uses the package at once; ``tensors`` has the names for annotations. Drawing with matplotlib
uses it too (it looks for torch's arrays).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from threading import RLock
from types import ModuleType
from typing import Any

Action = Callable[[ModuleType], None]

_lock = RLock()
_deferred: dict[str, list[Action]] = {}
"""Packages that are not imported yet -> what is done with each as soon as it is."""


def defer(name: str) -> None:
    """Let ``import name`` give a module that is executed when one of its attributes is read for the first time."""
    spec = None if name in sys.modules else find_spec(name)
    if spec is None or spec.loader is None:
        return
    module = module_from_spec(spec)
    module.__class__ = _Deferred
    del module.__path__  # who imports a submodule reads it, and so imports the package first
    _deferred[name] = []
    sys.modules[name] = module


def is_deferred(name: str) -> bool:
    """Whether the package ``name`` waits for its first use."""
    return name in _deferred


@contextmanager
def once_imported(name: str, action: Action) -> Iterator[None]:
    """Inside the ``with`` statement: call ``action`` with the package ``name``, at once or as soon as it is used."""
    if not is_deferred(name):
        action(import_module(name))
        yield
        return
    actions = _deferred[name]
    actions.append(action)
    try:
        yield
    finally:
        actions.remove(action)


class _Deferred(ModuleType):
    """A package before its first use. The standard library's ``LazyLoader`` would import it at a second ``import``."""

    def __getattr__(self, attribute: str) -> Any:
        name = self.__name__
        with _lock:
            if is_deferred(name):
                _import(self, _deferred.pop(name))
        return object.__getattribute__(self, attribute)


def _import(module: ModuleType, actions: list[Action]) -> None:
    spec = module.__spec__
    assert spec is not None
    assert spec.loader is not None
    module.__path__ = spec.submodule_search_locations or []
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module.__name__]
        raise
    module.__class__ = ModuleType
    for action in list(actions):
        action(module)
