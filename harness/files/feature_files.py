"""Feature files of others: matrices, memory-mapped where their format allows, whose rows are looked up by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from condsim.harness.errors import CondsimError, UnusableRowsError, first_of, nearest_id
from condsim.harness.files.gallery_parts import MANIFEST, Parts, is_parts, read_parts
from condsim.harness.files.memory_map import free_pages, is_mapped, map_npy
from condsim.harness.files.name_list import NameList, same_names
from condsim.harness.files.paths import resolve
from condsim.harness.process.tensors import Tensor
from condsim.harness.returned import kind_of
from condsim.harness.terminal.console import warn

Files = str | Path | Sequence[str | Path]
CHUNK = 1 << 16
"""Rows converted and checked at once."""
_UNKNOWN, _AMBIGUOUS = -1, -2
"""In place of a row: no name, or more than one name, has this spelling."""

NAME_COLUMNS = ("name", "names", "query", "image", "text", "path", "file_name", "id")
FEATURE_COLUMNS = ("features", "feature", "embedding", "embeddings")


class FeatureFile:
    """A published matrix and the names of its rows."""

    def __init__(self, path: Path, names: Path | None, setting: str) -> None:
        """``setting`` is the one that names the file of ``names``.

        Raises CondsimError if a file is missing, cannot be read, or has another length than its names.
        """
        self.path = path
        readers: dict[str, Callable[[Path], tuple[Tensor, Sequence[str] | None]]] = {
            ".npy": lambda path: (map_npy(path), None),
            ".npz": _read_npz,
            ".safetensors": _read_safetensors,
            ".parquet": _read_parquet,
        }
        if path.is_dir():
            raise CondsimError(f"{path} is a folder without {MANIFEST}: name a file of features in it")
        if path.suffix not in readers:
            raise CondsimError(f"{path}: features are read from {', '.join(readers)} files")
        if not path.is_file():
            raise CondsimError(f"{path}: there is no such file of features")
        if not path.stat().st_size:
            raise CondsimError(f"{path} is empty: expected a matrix of floats")
        try:
            self.features, inside = readers[path.suffix](path)
        except CondsimError:
            raise
        except TypeError as error:  # torch has no such type, and lists those that it has
            raise CondsimError(f"{path}: expected a matrix of floats: {str(error).partition('. ')[0]}") from None
        except Exception as error:  # each format's library has its own errors for a damaged file
            raise CondsimError(f"{path}: cannot be read as features: {error}") from error
        if self.features.ndim != 2 or not self.features.is_floating_point():
            raise CondsimError(f"{path}: expected a matrix of floats, found {kind_of(self.features)}")
        self.paths = [path]
        self.names: Sequence[str]
        if inside is not None and names is None:
            self.names = inside
        else:
            file = names or next((f for s in (".txt", ".json") if (f := path.with_suffix(s)).is_file()), None)
            if file is None:
                raise CondsimError(
                    f"{path}: the names of its rows are missing; expected one name per line in "
                    f"{path.with_suffix('.txt')}, or in another file with {setting}=FILE"
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


class PartFile:
    """One part of a gallery in parts, like a ``FeatureFile``."""

    def __init__(self, parts: Parts, part: int) -> None:
        self.path = parts.folder
        self.paths = parts.paths
        self.features = parts.features(part)
        self.width = parts.width
        self.names: Sequence[str] = parts.names[parts.starts[part] :][: parts.sizes[part]]


def _open(path: Path, names: Path | None, setting: str) -> list[FeatureFile | PartFile]:
    if is_parts(path):
        parts = read_parts(path)
        return [PartFile(parts, part) for part in range(len(parts.files))]
    return [FeatureFile(path, names, setting)]


class PublishedFeatures:
    """One matrix in one or several files, whose rows are looked up by name."""

    def __init__(self, files: Files, names: Files | None, clean: Callable[[str], str], setting: str) -> None:
        """``clean`` gives the spelling in which names are compared; ``setting`` is the one that sets ``names``.

        Raises CondsimError for files that do not fit.
        """
        self._clean, self._setting = clean, setting
        paths, beside = _paths(files), None if names is None else _paths(names)
        if not paths:
            raise CondsimError("there is no file of features: name at least one")
        if beside is not None and len(beside) != len(paths):
            raise CondsimError(f"there are {len(paths)} files of features for {len(beside)} files of names")
        self._paths, self._beside = paths, beside
        self._zero: set[str] = set()
        self.read_again()
        self.width = self.files[0].width
        for file in self.files:
            if file.width != self.width:
                raise CondsimError(f"{file.path} has features of width {file.width}, and {self} of {self.width}")

    def __str__(self) -> str:
        return str(self.files[0].path)

    def read_again(self) -> None:
        """Open the files, or open them again: what was written into their features in memory is lost."""
        beside: Sequence[Path | None] = self._beside or [None] * len(self._paths)
        opened = [_open(path, names, self._setting) for path, names in zip(self._paths, beside, strict=True)]
        self.files = [file for files in opened for file in files]

    @property
    def paths(self) -> list[Path]:
        """Everything that is read."""
        return list(dict.fromkeys(path for file in self.files for path in file.paths))

    @cached_property
    def parts(self) -> Parts | None:
        """The first of the files, where it is a folder of parts."""
        if not is_parts(self._paths[0]):
            return None
        parts = read_parts(self._paths[0])
        self._report_zero([parts.names[row] for row in parts.zero], len(parts))
        return parts

    def after_parts(self) -> PublishedFeatures | None:
        """The files after ``parts``; None if there is none."""
        beside = None if self._beside is None else self._beside[1:]
        others = self._paths[1:]
        return PublishedFeatures(others, beside, self._clean, self._setting) if others else None

    def look_up(self, names: Sequence[str], describe: Callable[[int], str], half: bool = False) -> Tensor:
        """float32 [len(names), D]; the file itself, memory-mapped, if it has this order and is float32, or float16 with
        ``half``.

        Raises UnusableRowsError for names that no file has and for features that are not finite. Vectors of zeros are
        reported once.
        """
        first = self.files[0].features
        in_order = len(self.files) == 1 and same_names(names, self.files[0].names)
        if in_order and (first.dtype == torch.float32 or (half and first.dtype == torch.float16 and is_mapped(first))):
            features = first
        elif in_order:
            self._require_once(self.files[0].names)
            features = self._gather(torch.arange(len(names)))
        else:
            features = self._gather(self._places(names, describe))
        zero, not_finite = _zero_and_not_finite(features)
        if faults := dict.fromkeys(not_finite, "its features contain NaN or infinity"):
            raise UnusableRowsError(len(names), faults, describe, f"as read from {self}", skippable=False)
        self._report_zero([names[row] for row in zero], len(names))
        return features

    def _report_zero(self, names: Sequence[str], total: int) -> None:
        if unreported := [name for name in names if name not in self._zero]:
            self._zero.update(unreported)
            warn_of_zero(self, unreported, total)

    def _places(self, names: Sequence[str], describe: Callable[[int], str]) -> Tensor:
        """int64 [len(names)] rows of all the files, one after another."""
        places = [self._place.get(name, _UNKNOWN) for name in names]
        for row in [row for row, place in enumerate(places) if place == _UNKNOWN]:
            places[row] = self._place_in_clean_spelling.get(self._clean(names[row]), _UNKNOWN)
        faults = {row: "has no features" for row, place in enumerate(places) if place == _UNKNOWN}
        faults |= {row: "several rows have its name" for row, place in enumerate(places) if place == _AMBIGUOUS}
        if faults:
            hint = nearest_id(names[next(iter(faults))], self.files[0].names)
            raise UnusableRowsError(len(names), faults, describe, f"looked up by name in {self}. {hint}")
        return torch.tensor(places)

    def _gather(self, places: Tensor) -> Tensor:
        features = torch.empty((len(places), self.width))
        begin = 0
        for file in self.files:
            here = ((places >= begin) & (places < begin + len(file.names))).nonzero().flatten()
            for part in torch.split(here, CHUNK):
                features[part] = file.features[places[part] - begin].to(torch.float32)
            begin += len(file.names)
        return features

    @cached_property
    def names(self) -> list[str]:
        """Of the rows of all the files, one after another. Raises CondsimError for a duplicate name."""
        names = [name for file in self.files for name in file.names]
        self._require_once(names)
        return names

    def _require_once(self, names: Sequence[str]) -> None:
        repeated = NameList.of(names).repeated() if not isinstance(names, NameList) else names.repeated()
        if repeated is not None:
            files = first_of(str(file.path) for file in self.files)
            raise CondsimError(f"{files}: duplicate name {repeated!r}; each row needs a name of its own")

    @cached_property
    def _place(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    @cached_property
    def _place_in_clean_spelling(self) -> dict[str, int]:
        """Needed only where a name is not written in the same way on both sides."""
        places: dict[str, int] = {}
        for i, name in enumerate(self.names):
            clean = self._clean(name)
            places[clean] = _AMBIGUOUS if clean in places else i
        return places


def warn_of_zero(source: object, names: Sequence[str], total: int) -> None:
    """Warn of the vectors ``names`` of ``source`` that are all zeros, of ``total`` vectors."""
    warn(
        f"{source}: {len(names):,} of {total:,} vectors are zero, so their similarity to everything is 0: "
        f"{first_of(map(repr, names))}"
    )


def read_names(path: Path) -> NameList:
    """The names of a text file with one name per line, or of a JSON list. Raises CondsimError if it is neither."""
    try:
        if path.suffix == ".json":
            names = json.loads(path.read_text(encoding="utf-8-sig"))
        else:
            with path.open(encoding="utf-8-sig", newline="\n") as file:  # line by line: there may be millions
                return NameList.of(line.removesuffix("\n").removesuffix("\r") for line in file)
    except (OSError, ValueError, RecursionError) as error:
        raise CondsimError(f"{path}: cannot be read as names: {error}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CondsimError(f"{path}: expected a list of names")
    return NameList.of(names)


def _read_npz(path: Path) -> tuple[Tensor, Sequence[str] | None]:
    with np.load(path, allow_pickle=False) as arrays:
        names, features = _known(arrays.files, NAME_COLUMNS), _known(arrays.files, FEATURE_COLUMNS)
        if features is None:
            raise CondsimError(
                f"{path}: expected an array of features ({', '.join(FEATURE_COLUMNS)}), "
                f"found {', '.join(arrays.files) or 'no arrays'}"
            )
        named = (
            None if names is None else _array(arrays, names, path, "text, as in np.array(names, dtype=str)").tolist()
        )
        return torch.from_numpy(_array(arrays, features, path, "floats")), None if named is None else tuple(
            map(str, named)
        )


def _array(arrays: Any, key: str, path: Path, expected: str) -> NDArray[Any]:
    try:
        array: NDArray[Any] = arrays[key]
    except ValueError as error:
        if "Object arrays" not in str(error):
            raise
        raise CondsimError(f"{path}: the array {key!r} has Python objects; expected {expected}") from None
    return array


def _read_safetensors(path: Path) -> tuple[Tensor, None]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:  # its tensors are views of the mapped file
        keys = list(file.keys())
        if "features" not in keys and len(keys) != 1:
            raise CondsimError(f'{path}: expected a tensor called "features" among {", ".join(keys) or "no tensors"}')
        return file.get_tensor("features" if "features" in keys else keys[0]), None


def _read_parquet(path: Path) -> tuple[Tensor, NameList]:
    import pyarrow.parquet as pq

    table = pq.read_table(path, memory_map=True)
    columns = {
        what: _known(table.column_names, known)
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
    names = NameList(column.cast("large_string"))
    return torch.from_numpy(np.array(values).reshape(len(table), -1)), names


def _known(names: Sequence[str], known: Sequence[str]) -> str | None:
    """The first of ``known`` that is among ``names``."""
    return next((name for name in known if name in names), None)


def _zero_and_not_finite(features: Tensor) -> tuple[list[int], list[int]]:
    """The rows that are zero, and those that contain NaN or infinity."""
    zero, not_finite = [], []
    for start in range(0, len(features), CHUNK):
        part = features[start : start + CHUNK]
        # The sum is quicker to check. A finite sum has finite terms; 0 or infinity may come from other terms too.
        sums = part.sum(dim=1, dtype=torch.float32)
        rows = (~torch.isfinite(sums) | (sums == 0)).nonzero().flatten()
        chosen = part[rows]
        zero += (rows[~chosen.any(dim=1)] + start).tolist()
        not_finite += (rows[~torch.isfinite(chosen).all(dim=1)] + start).tolist()
        free_pages(features)
    return zero, not_finite


def _paths(files: Files) -> list[Path]:
    return [resolve(files)] if isinstance(files, str | Path) else [resolve(file) for file in files]
