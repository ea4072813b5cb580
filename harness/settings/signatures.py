"""The types of a class's settings, read from its source: importing a method would import torch, which takes seconds."""

from __future__ import annotations

import ast
import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

KNOWN: dict[str, Any] = {
    "int": int, "float": float, "str": str, "bool": bool, "Path": Path, "Any": Any, "Literal": Literal,
    "Annotated": Annotated, "Sequence": Sequence, "list": list, "List": list, "tuple": tuple, "Tuple": tuple,
    "Mapping": Mapping, "dict": dict, "Dict": dict,
}  # fmt: skip
"""Names in annotations that are understood. Any other name stays unchecked."""


def parameters(target: str) -> dict[str, Any] | None:
    """Parameter -> type (Any where it is not known) of the class or function ``target``, "module.Class".

    None where its source is not found or does not say what it takes.
    """
    module, _, name = target.rpartition(".")
    try:
        return _parameters(module, name)
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


@cache
def _parameters(module: str, name: str) -> dict[str, Any] | None:
    tree = _tree(module)
    if tree is None:
        return None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return _of_function(module, node, skip=0)
        if isinstance(node, ast.ClassDef) and node.name == name:
            return _of_class(module, node)
    imported = _imports(tree).get(name)
    return _parameters(*imported) if imported is not None else None


def _of_class(module: str, node: ast.ClassDef) -> dict[str, Any] | None:
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            return _of_function(module, part, skip=1)
    if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        fields = (part for part in node.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name))
        return {ast.unparse(part.target): _type(module, part.annotation) for part in fields}
    for base in node.bases:
        if isinstance(base, ast.Name) and (inherited := _parameters(module, base.id)) is not None:
            return inherited
    return {}


def _of_function(module: str, node: ast.FunctionDef, skip: int) -> dict[str, Any] | None:
    if node.args.kwarg is not None:
        return None
    arguments = [*node.args.posonlyargs, *node.args.args][skip:] + node.args.kwonlyargs
    return {argument.arg: _type(module, argument.annotation) for argument in arguments}


def _type(module: str, annotation: ast.expr | None) -> Any:
    if annotation is None:
        return Any
    try:
        return eval(ast.unparse(annotation), {"__builtins__": {}}, _Names(module))  # a source that is imported anyway
    except Exception:  # an annotation that needs more than the known names
        return Any


class _Names(dict[str, Any]):
    """The names of a module as far as annotations need them: aliases of types are followed, others are Any."""

    def __init__(self, module: str) -> None:
        super().__init__(KNOWN)
        self.module = module

    def __missing__(self, name: str) -> Any:
        return _alias(self.module, name)


@cache
def _alias(module: str, name: str) -> Any:
    tree = _tree(module)
    if tree is None:
        return Any
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(ast.unparse(target) == name for target in node.targets):
            return _type(module, node.value)
    imported = _imports(tree).get(name)
    return _alias(*imported) if imported is not None else Any


def _imports(tree: ast.Module) -> dict[str, tuple[str, str]]:
    """Local name -> (module, name there)."""
    nodes = (node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module and not node.level)
    return {alias.asname or alias.name: (str(node.module), alias.name) for node in nodes for alias in node.names}


@cache
def _tree(module: str) -> ast.Module | None:
    file = next(_files(module), None)
    return None if file is None else ast.parse(file.read_text(encoding="utf-8"))


def _files(module: str) -> Iterator[Path]:
    """The source of a module, found without importing a package on the way; the current folder is searched last."""
    first, *rest = module.split(".")
    spec = importlib.util.find_spec(first) if first else None
    if spec is None:
        places = [Path(os.getcwd()) / first]
    elif spec.submodule_search_locations is not None:
        places = [Path(place) for place in spec.submodule_search_locations]
    else:
        places = [Path(spec.origin).with_suffix("")] if spec.origin else []
    for place in places:
        path = place.joinpath(*rest)
        yield from (file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file())
