"""Code of methods runs in the same process as everything else: what it changes there is put back."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any, NoReturn

import numpy as np

from condsim.harness.errors import CondsimError
from condsim.harness.process.deferred import once_imported

SEED = 0
"""Of the global random generators at the start of a run, so that no number depends on the runs before it."""


@contextmanager
def isolated() -> Iterator[None]:
    """Seed the global random generators of Python, NumPy and torch; afterwards put back their states, the working
    folder, torch's default type, threads and gradient mode. Meanwhile the output cannot be closed, and ``os._exit`` is
    an error: it would end a sweep with the exit status of a success."""
    states = random.getstate(), np.random.get_state()
    folder = None
    with suppress(OSError):
        folder = os.getcwd()
    put_back: list[Callable[[], None]] = []
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Unclosable(sys.stdout), _Unclosable(sys.stderr)  # type: ignore[assignment]
    end_process = os._exit
    os._exit = _refusing(end_process)  # type: ignore[assignment]
    random.seed(SEED)
    np.random.seed(SEED)
    try:
        with once_imported("torch", lambda torch: put_back.append(_seeded(torch))):
            yield
    finally:
        sys.stdout, sys.stderr = streams
        os._exit = end_process
        random.setstate(states[0])
        np.random.set_state(states[1])
        for action in put_back:
            action()
        if folder is not None:
            with suppress(OSError):
                os.chdir(folder)


def _seeded(torch: ModuleType) -> Callable[[], None]:
    """Seed torch's generator. The function that is returned puts back its state, and torch's settings."""
    state = torch.get_rng_state()
    dtype, threads, gradients = torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()
    torch.manual_seed(SEED)

    def put_back() -> None:
        torch.set_rng_state(state)
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_grad_enabled(gradients)

    return put_back


def _refusing(end_process: Callable[[int], NoReturn]) -> Callable[[int], NoReturn]:
    """``os._exit`` for this process. One that is forked from it, such as a worker that loads data, may still end."""
    process = os.getpid()

    def refuse(status: int) -> NoReturn:
        if os.getpid() != process:
            end_process(status)
        raise CondsimError("a method must not end the process: it called os._exit")

    return refuse


class _Unclosable:
    """A stream that is everybody's."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def close(self) -> None:
        raise CondsimError("a method must not close the output: others write to it too")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
