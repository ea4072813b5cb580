"""Code of methods runs in the same process as everything else: what it changes there is put back."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import numpy as np
import torch

from condsim.harness.errors import CondsimError

SEED = 0
"""Of the global random generators at the start of a run, so that no number depends on the runs before it."""


@contextmanager
def isolated() -> Iterator[None]:
    """Seed the global random generators of Python, NumPy and torch; afterwards put back their states, the working
    folder, torch's default type, threads and gradient mode. Meanwhile the output cannot be closed, and ``os._exit`` is
    an error: it would end a sweep with the exit status of a success."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    folder = None
    with suppress(OSError):
        folder = os.getcwd()
    dtype, threads, gradients = torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Unclosable(sys.stdout), _Unclosable(sys.stderr)  # type: ignore[assignment]
    end_process = os._exit
    os._exit = _refusing(end_process)  # type: ignore[assignment]
    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
        os._exit = end_process
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_grad_enabled(gradients)
        if folder is not None:
            with suppress(OSError):
                os.chdir(folder)


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
