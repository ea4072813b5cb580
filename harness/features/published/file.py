"""Published feature files: a matrix, memory-mapped where its format allows, and the names of its rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from condsim.harness.errors import CondsimError
from condsim.harness.memory_map import map_npy

NAME_COLUMNS = ("name", "names", "image", "text", "path", "file_name", "id")
FEATURE_COLUMNS = ("features", "feature", "embedding", "embeddings")


class FeatureFile:
    """A published matrix and the names of its rows."""

    def __init__(self, path: Path, names: Path | None) -> None:
        """Raises CondsimError if a file is missing, cannot be read, or has another length than its names."""
        self.path = path
        readers: dict[str, Callable[[Path], tuple[Tensor, tuple[str, ...] | None]]] = {
            ".npy": _read_npy,
            ".safetensors": _read_safetensors,
            ".parquet": _read_parquet,
        }
        if path.suffix not in readers:
            raise CondsimError(f"{path}: features are read from {', '.join(readers)} files")
        if not path.is_file():
            raise CondsimError(f"{path}: there is no such file of features")
        try:
            self.features, inside = readers[path.suffix](path)
        except CondsimError:
            raise
        except Exception as error:  # each format's library has its own errors for a damaged file
            raise CondsimError(f"{path}: cannot be read as features: {error}") from error
        if self.features.ndim != 2 or not self.features.is_floating_point():
            raise CondsimError(f"{path}: expected a matrix of floats, found {_shown(self.features)}")
        self.paths = [path]
        if inside is not None and names is None:
            self.names = inside
        else:
            file = names or next((f for s in (".txt", ".json") if (f := path.with_suffix(s)).is_file()), None)
            if file is None:
                raise CondsimError(
                    f"{path}: the names of its rows are missing; expected them in {path.with_suffix('.txt')}"
                )
            self.names = read_names(file)
            while len(self.names) > len(self.features) and not self.names[-1].strip():
                self.names = self.names[:-1]  # blank lines at the end of the file
            self.paths.append(file)
        if len(self.names) != len(self.features):
            raise CondsimError(
                f"{path} has {len(self.features)} rows of features, but there are {len(self.names)} names"
            )

    @property
    def width(self) -> int:
        return int(self.features.shape[1])


def read_names(path: Path) -> tuple[str, ...]:
    """The names of a text file with one name per line, or of a JSON list. Raises CondsimError if it is neither."""
    try:
        if path.suffix == ".json":
            names = json.loads(path.read_text(encoding="utf-8-sig"))
        else:
            with path.open(encoding="utf-8-sig", newline="\n") as file:  # line by line: there may be millions
                names = [line.removesuffix("\n").removesuffix("\r") for line in file]
    except (OSError, ValueError, RecursionError) as error:
        raise CondsimError(f"{path}: cannot be read as names: {error}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CondsimError(f"{path}: expected a list of names")
    return tuple(names)


def _read_npy(path: Path) -> tuple[Tensor, None]:
    return map_npy(path), None


def _read_safetensors(path: Path) -> tuple[Tensor, None]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:  # its tensors are views of the mapped file
        keys = list(file.keys())
        if "features" not in keys and len(keys) != 1:
            raise CondsimError(f'{path}: expected a tensor called "features" among {", ".join(keys) or "no tensors"}')
        return file.get_tensor("features" if "features" in keys else keys[0]), None


def _read_parquet(path: Path) -> tuple[Tensor, tuple[str, ...]]:
    import pyarrow.parquet as pq

    table = pq.read_table(path, memory_map=True)
    columns = {
        what: next((column for column in known if column in table.column_names), None)
        for what, known in (("names", NAME_COLUMNS), ("features", FEATURE_COLUMNS))
    }
    if None in columns.values():
        raise CondsimError(
            f"{path}: expected a column of names ({', '.join(NAME_COLUMNS)}) and one of features "
            f"({', '.join(FEATURE_COLUMNS)}), found {', '.join(table.column_names)}"
        )
    lists: Any = table.column(columns["features"]).combine_chunks()
    values = lists.flatten().to_numpy(zero_copy_only=False)
    if (
        len(table) == 0
        or len(values) % len(table)
        or lists.null_count
        or len(set(lists.value_lengths().to_pylist())) > 1
    ):
        raise CondsimError(f"{path}: the features of its rows are not all of one width")
    column = table.column(columns["names"])
    if column.null_count:
        raise CondsimError(f"{path}: {column.null_count} of its {len(table)} rows have no name")
    names = tuple(map(str, column.to_pylist()))
    return torch.from_numpy(np.array(values).reshape(len(table), -1)), names


def _shown(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
