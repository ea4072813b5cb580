"""The class or function that a ``_target_`` names: where it is, which settings it takes, what it has to make."""

from __future__ import annotations

import importlib.util
import inspect
import os
import pkgutil
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from condsim.harness.errors import CondsimError, UserCodeError, described, did_you_mean

_OF_HYDRA = {"_target_", "_convert_", "_recursive_", "_partial_", "_args_"}


def require_settings(config: Mapping[str, Any], name: str) -> None:
    """Check the ``_target_`` of ``config``, the setting ``name`` ("method"), and those inside it.

    Raises CondsimError, with the nearest name, where one does not exist or does not take one of its settings.
    """
    for key, value in config.items():
        if isinstance(value, Mapping):
            require_settings(value, f"{name}.{key}" if name else str(key))
    target = config.get("_target_")
    if not isinstance(target, str):
        return
    prefix = f"{name}." if name else ""
    made_by = _located(target, f"{prefix}_target_")
    if absent := getattr(made_by, "__abstractmethods__", None):
        raise CondsimError(f"{prefix}_target_={target}: the class has no method {min(absent)} (docs/adding.md)")
    try:
        known = inspect.signature(made_by).parameters
    except (TypeError, ValueError):  # it does not say what it takes
        return
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return
    for key in config.keys() - known.keys() - _OF_HYDRA:
        raise CondsimError(f"{prefix}{key}: {target} has no setting {key!r}. {did_you_mean(key, known)}")
    needed = [key for key, parameter in known.items() if parameter.default is parameter.empty]
    if "_args_" not in config and (missing := [key for key in needed if key not in config]):
        raise CondsimError(f"{prefix}{missing[0]} is not set: {target} needs it, as in +{prefix}{missing[0]}=VALUE")


def require_kind(made: object, target: str, kind: str) -> None:
    """Raises CondsimError where ``made`` by ``target`` is not a ``kind`` ("method", "benchmark", "backbone")."""
    from condsim.harness.backbone import Backbone  # NumPy, which help does not need
    from condsim.harness.method import Method
    from condsim.harness.task import Benchmark

    if kind == "method" and not isinstance(made, Method):
        raise CondsimError(f"{target} is no method: derive it from condsim.OneVector or condsim.Method")
    if kind == "benchmark" and not isinstance(made, Benchmark):
        raise CondsimError(f"{target} returned {type(made).__name__}, expected a condsim.Benchmark")
    if kind == "backbone" and not hasattr(type(made), "__getattr__"):
        members = [name for name in (*Backbone.__annotations__, *vars(Backbone)) if not name.startswith("_")]
        absent = object()
        missing = [name for name in members if inspect.getattr_static(made, name, absent) is absent]
        if missing:
            raise CondsimError(f"{target} is no backbone: it has no {', '.join(missing)} (docs/adding.md, A backbone)")


def raised(error: BaseException, target: str) -> UserCodeError:
    """What the user reads where ``target`` raised ``error``: its type and place."""
    module = sys.modules.get(target.rpartition(".")[0])
    return UserCodeError(f"{target} raised {_with_place(error, getattr(module, '__file__', None))}")


def _with_place(error: BaseException, file: str | None = None) -> str:
    """The type and message of ``error``, and the line that raised it: the last one in ``file``, if one is."""
    text = described(error)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    if isinstance(error, SyntaxError) or not frames:  # the message of a SyntaxError has the place
        return text
    frame = next((frame for frame in reversed(frames) if frame.filename == file), frames[-1])
    return f"{text} ({Path(frame.filename).name}, line {frame.lineno})"


def search_current_folder(target: str) -> None:
    """Let a user's module in the current folder be found, after all that is installed: `datasets/` shadows nothing."""
    package = target.split(".")[0]
    folder = os.getcwd()
    if folder not in sys.path and package and package not in sys.modules and importlib.util.find_spec(package) is None:
        sys.path.append(folder)


def _located(target: str, setting: str) -> Any:
    """The object ``target``, which the setting ``setting`` names. Raises CondsimError where there is none."""
    from pydoc import ErrorDuringImport, locate

    search_current_folder(target)
    try:
        made_by = locate(target)
    except ErrorDuringImport as error:
        cause = error.value or error
        raise UserCodeError(f"{setting}={target} cannot be imported: {_with_place(cause)}") from cause
    if callable(made_by):
        return made_by
    if made_by is not None:
        raise CondsimError(f"{setting}={target} is neither a class nor a function")
    parts = target.split(".")
    for count in range(len(parts) - 1, 0, -1):
        module = sys.modules.get(".".join(parts[:count]))
        if module is not None:
            file = Path(module.__file__ or module.__name__)
            place = file.parent.name if file.stem == "__init__" else file.name
            raise CondsimError(
                f"{setting}={target}: {place} has no {parts[count]!r}. {did_you_mean(parts[count], _names(module))}"
            )
    files = {path.stem for path in Path().glob("*.py")}
    near = f". {did_you_mean(parts[0], files)}" if files else ""
    raise CondsimError(
        f"{setting}={target}: there is no module {parts[0]!r}: neither {parts[0]}.py in {os.getcwd()} nor an installed "
        f"package{near}"
    )


def _names(module: ModuleType) -> set[str]:
    """What a target can name in a module: what it defines; in a package also its modules."""
    inside = {found.name for found in pkgutil.iter_modules(getattr(module, "__path__", []))}
    return inside | {name for name, it in vars(module).items() if getattr(it, "__module__", "") == module.__name__}
