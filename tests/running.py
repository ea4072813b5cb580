"""`condsim` in the process of a test, and processes that a test can kill."""

from __future__ import annotations

import importlib
import io
import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from condsim.harness import cli, configs
from condsim.harness.settings.composition import compose_config
from condsim.harness.terminal import console


@contextmanager
def as_new_process(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """In ``folder``, without what an earlier command of this process left in memory, its user's modules among it."""
    _forget()
    console.print_note.cache_clear()
    importlib.invalidate_caches()
    modules = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", sys.path[:])
        patch.setattr(sys, "argv", sys.argv[:])
        patch.setattr(sys, "dont_write_bytecode", True)  # a module edited within one second would not be read again
        for stream in ("console", "_errors"):
            patch.setattr(getattr(console, stream), "failed", False)
        for name, value in (environment or {}).items():
            patch.setenv(name, value)
        yield
    for name in set(sys.modules) - modules:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and Path(file).is_relative_to(folder):
            del sys.modules[name]
    _forget()


def _forget() -> None:
    configs.forget()
    if identity := sys.modules.get("condsim.harness.run.identity"):
        identity._code_of_target.cache_clear()


@cache
def benchmark_settings(name: str) -> dict[str, Any]:
    """The settings of ``benchmark=name``. Read only."""
    settings: dict[str, Any] = configs.plain(compose_config("check", [f"benchmark={name}"]))["benchmark"]
    return settings


def call_condsim(arguments: Sequence[str]) -> tuple[int, str]:
    """The exit status of `condsim ARGUMENT ...` and all that it prints, in this process.

    The imports of a new process would take most of the time of a test.
    """
    shown = io.StringIO()
    with redirect_stdout(shown), redirect_stderr(shown):
        try:
            status = cli.main(arguments)
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return status, shown.getvalue()


def run_condsim(*arguments: str, folder: Path, status: int = 0, environment: Mapping[str, str] | None = None) -> str:
    """What `condsim ARGUMENT ...` prints in ``folder``; it must end with ``status`` and without a traceback."""
    with as_new_process(folder, environment):
        ended, shown = call_condsim(arguments)
    assert (ended, "Traceback" in shown) == (status, False), shown
    return shown


PRELOADED = ["condsim.harness.run.run", "condsim.harness.commands.bench", "torch._dynamo"]
"""torch imports the last one with its first optimizer, for as long as itself."""


def start_python(code: str, folder: Path, *arguments: str, output: Path = Path(os.devnull)) -> BaseProcess:
    """A new process that runs ``code`` in ``folder`` as ``python -c`` does, but with torch and the engine imported.

    What it prints is in the file ``output``.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_run_python, args=(code, str(folder), arguments, str(output)))
    process.start()
    return process


def _run_python(code: str, folder: str, arguments: tuple[str, ...], output: str) -> None:
    os.chdir(folder)
    sys.argv[:] = ["-c", *arguments]
    sys.stdout = sys.stderr = open(output, "w")  # noqa: SIM115
    exec(compile(code, "<code>", "exec"), {"__name__": "__main__"})
