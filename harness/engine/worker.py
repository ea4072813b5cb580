"""The worker's side of an engine: it becomes like the process that started it, and answers with plain bytes."""

from __future__ import annotations

import io
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

from condsim.harness.errors import CondsimError, first_line
from condsim.harness.terminal.console import warn

_PASSED_ON = ("CONDSIM_", "HF_", "HUGGINGFACE_", "TORCH_", "TRANSFORMERS_")
"""Environment variables that a worker gets begin with these: where features and weights are."""
_SENDABLE = (
    "Use functions and classes from the top level of a module (a .py file in the working folder): no lambda, no "
    "function inside a function, nothing from the script that is run, no open file"
)


@dataclass(frozen=True)
class Surroundings:
    """What a worker needs to read the same settings and import the same classes as the process that starts it."""

    folder: str
    path: tuple[str, ...]
    environment: Mapping[str, str]

    @classmethod
    def here(cls, threads: int) -> Surroundings:
        """Those of this process, for workers that use ``threads`` cores each."""
        passed = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
        return cls(os.getcwd(), tuple(sys.path), passed | {"OMP_NUM_THREADS": str(threads)})

    def enter(self) -> None:
        """Make this process a worker. Raises CondsimError where the working folder does not exist."""
        os.environ.update(self.environment)
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise CondsimError(
                f"a worker cannot enter {self.folder} ({error.strerror}): start condsim in a folder that all machines "
                "share"
            ) from None
        sys.path += [place for place in self.path if place not in sys.path]


def packed(sent: object) -> bytes:
    """``sent`` as bytes for a worker. Raises CondsimError, which says what to change, for what pickle cannot send."""
    try:
        return pickle.dumps(sent)
    except Exception as error:  # pickle raises what it meets: PicklingError, AttributeError, TypeError
        raise CondsimError(
            f"workers are other processes, and pickle cannot send them this: {first_line(error)}. {_SENDABLE}"
        ) from None


def unpacked(data: bytes) -> Any:
    """On a worker: what ``packed`` sent. Raises CondsimError for a function or class that no worker can import."""
    try:
        return pickle.loads(data)
    except (AttributeError, ImportError) as error:
        raise CondsimError(f"a worker cannot import what it received: {first_line(error)}. {_SENDABLE}") from None


def answer(call: Callable[[], Any]) -> bytes:
    """The result of ``call``, or what it raises, and what it prints, for ``result_of``."""
    printed = io.StringIO()
    result, error = None, None
    with redirect_stdout(printed), redirect_stderr(printed):
        try:
            result = call()
        except Exception as raised:
            error = _portable(raised)
    try:
        return packed((result, error, printed.getvalue()))
    except CondsimError as unsendable:
        return pickle.dumps((None, unsendable, printed.getvalue()))


def result_of(answered: bytes) -> Any:
    """What the worker's call returned. Raises what it raised; what it printed is printed here, on the error stream."""
    result, error, printed = pickle.loads(answered)
    if printed.strip():
        warn(printed.rstrip())
    if error is not None:
        raise error
    return result


def _portable(error: Exception) -> Exception:
    """The error, or one with its message if pickle cannot send it."""
    if not isinstance(error, CondsimError):
        error.add_note(f"On the worker:\n{''.join(traceback.format_exception(error))}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        kind = CondsimError if isinstance(error, CondsimError) else RuntimeError
        return kind("\n".join([str(error), *getattr(error, "__notes__", [])]))
    return error
