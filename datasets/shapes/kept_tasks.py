"""Loaded tasks in a file beside the world: reading them back takes a tenth of the time of loading them again."""

from __future__ import annotations

import io
import os
import pickle
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

import condsim
from condsim.harness.files.hashing import DIGEST, digest, stamp_of
from condsim.harness.files.writing import atomic
from condsim.harness.task import Benchmark

ANNOTATIONS = (".json", ".csv")
CODE = ("harness", "datasets")
"""Folders with the code that loads tasks."""
TASK = ("Benchmark", "Task", "TrainSplit", "ImageTable", "Ragged", "Kinds", "Labels")
CLASSES = {
    *(("condsim.harness.task", name) for name in TASK),
    *((module, "_frombuffer") for module in ("numpy.core.numeric", "numpy._core.numeric")),
    ("numpy", "dtype"),
    ("builtins", "range"),
    (type(Path()).__module__, type(Path()).__name__),
}
"""What a file may name. A pickle that names anything else is not read: it could run any code."""


def state_of(root: Path, *settings: str) -> bytes:
    """A digest of all that the loaded tasks depend on: it changes with every annotation, name of a picture, and line
    of code."""
    state = blake2b(repr((str(root), *settings, np.__version__)).encode(), digest_size=DIGEST)
    for folder, folders, files in os.walk(root):
        folders.sort()
        state.update(repr((os.path.relpath(folder, root), sorted(files))).encode("utf-8", "surrogatepass"))
        for file in sorted(files):
            if file.endswith(ANNOTATIONS):
                state.update(repr(stamp_of(os.path.join(folder, file))).encode())
    package = Path(condsim.__file__).parent
    for part in CODE:
        for source in sorted((package / part).rglob("*.py")):
            state.update(source.read_bytes())
    return state.digest()


def keep(path: Path, state: bytes, benchmark: Benchmark) -> None:
    """Write ``benchmark``, as it is loaded in ``state``, to ``path``, if that is possible."""
    for task in benchmark.tasks:
        task.fingerprint  # noqa: B018 - it is kept with the task
    content = pickle.dumps(benchmark, protocol=5)
    with suppress(OSError), atomic(path) as scratch:
        scratch.write_bytes(state + digest(content) + content)


def read_kept(path: Path, state: bytes) -> Benchmark | None:
    """What :func:`keep` wrote to ``path``; None where that is missing, damaged, or of another ``state``."""
    try:
        with path.open("rb") as file:
            if file.read(DIGEST) != state:
                return None
            expected, content = file.read(DIGEST), file.read()
        benchmark = _Reader(io.BytesIO(content)).load() if digest(content) == expected else None
    except Exception:  # damage can raise nearly anything in an unpickler
        return None
    return benchmark if isinstance(benchmark, Benchmark) else None


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in CLASSES:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)
