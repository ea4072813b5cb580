"""A user's method that does what it should not."""

import os
import signal
import sys
from typing import Any

import torch
from torch import Tensor

from condsim.harness.method import Gallery, Method, Queries, Scorer


class Evil(Method):
    """``how``: exit, hard_exit, crash, generator_exit, close_output, odd_message, fill_gpu, write, or nothing."""

    def __init__(self, how: str = "nothing") -> None:
        self.how = how

    def prepare(self, gallery: Gallery) -> Scorer:
        acts: dict[str, Any] = {
            "exit": lambda: sys.exit(0),
            "hard_exit": lambda: os._exit(0),
            "crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
            "generator_exit": lambda: (_ for _ in ()).throw(GeneratorExit),
            "close_output": sys.stdout.close,
            "odd_message": lambda: (_ for _ in ()).throw(ValueError("\udcff\x1b[2J [red]x[/nope]")),
            "fill_gpu": lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory. Tried 20 GiB")),
            "write": gallery.features.abs_,
        }
        acts.get(self.how, lambda: None)()
        items = gallery.features.clone()

        def score(queries: Queries, rows: Tensor | None = None) -> Tensor:
            if rows is None:
                return queries.reference @ items.T
            return torch.einsum("bd,bcd->bc", queries.reference, items[rows.clamp(min=0)])

        return score
