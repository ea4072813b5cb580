"""Ground truth of retrieval by the crop of a picture: revisitop's pickles, their JSON copies, INSTRE's .mat file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from condsim.datasets.annotations import Entry, ImageName, Line, shown, validate
from condsim.datasets.number_pickle import MAX_BYTES, read_number_pickle
from condsim.harness.errors import CondsimError, first_line, reading
from condsim.harness.files.json_files import read_json
from condsim.harness.files.writing import atomic

EXPECTED = "a ground truth with imlist, qimlist, and gnd: for each query bbx and lists of gallery images"
_DIGEST = "sha256 of the pickle"

Rows = list[Annotated[int, Field(ge=0)]]


class Query(Entry):
    """The lists that a query has depend on the dataset."""

    bbx: Annotated[list[float], Field(min_length=4, max_length=4)]
    """The crop of the query picture: left, top, right, bottom."""
    ok: Rows = Field(default_factory=list)
    easy: Rows = Field(default_factory=list)
    hard: Rows = Field(default_factory=list)
    junk: Rows = Field(default_factory=list)


class Truth(Entry):
    """``gnd`` has the entries as they are in the file, one for each of ``qimlist``."""

    imlist: Annotated[list[ImageName], Field(min_length=1)]
    """Names of the gallery's images, without suffix."""
    qimlist: Annotated[list[ImageName], Field(min_length=1)]
    gnd: list[Any]


class TruthOfPaths(Truth):
    """INSTRE's: images are paths with suffix."""

    imlist: Annotated[list[Line], Field(min_length=1)]  # type: ignore[assignment]
    qimlist: Annotated[list[Line], Field(min_length=1)]  # type: ignore[assignment]


def read_truth(path: Path) -> Truth:
    """The ground truth in ``path``: a pickle, a JSON file or a .mat file. No code in a pickle runs.

    A pickle is written beside itself as JSON, which is read instead as long as the pickle does not change. If the
    folder is read only, the pickle is read every time.
    """
    schema: type[Truth] = Truth
    if path.suffix == ".mat":
        schema, value = TruthOfPaths, read_instre(path)
    elif path.suffix == ".json":
        value = read_json(path, EXPECTED)
    else:
        value = _read_pickle(path)
    if not isinstance(value, dict):
        raise CondsimError(f"{path}: expected {EXPECTED}, found {shown(value)}")
    truth = validate(schema, value, str(path))
    if len(truth.gnd) != len(truth.qimlist):
        raise CondsimError(f"{path}: gnd has {len(truth.gnd)} entries for {len(truth.qimlist)} query images")
    if len(set(truth.imlist)) < len(truth.imlist):
        raise CondsimError(f"{path}: imlist names {max(truth.imlist, key=truth.imlist.count)} twice")
    return truth


def read_query(raw: object, lists: tuple[str, ...], size: int, where: str) -> Query:
    """An entry of ``gnd``, which must have each of ``lists``, with rows of a gallery of ``size`` images."""
    if isinstance(raw, dict):
        for name in lists:
            if name not in raw:
                raise CondsimError(f"{where}: {name}: Field required, found {shown(raw)}")
    query = validate(Query, raw, where)
    rows = [row for name in lists for row in getattr(query, name)]
    if rows and max(rows) >= size:
        raise CondsimError(f"{where}: it names image {max(rows)}, but imlist has {size}")
    if len(set(rows)) < len(rows):
        raise CondsimError(f"{where}: image {max(rows, key=rows.count)} is in it twice ({', '.join(lists)})")
    return query


def _read_pickle(path: Path) -> Any:
    copy = path.with_suffix(".json")
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    value = _read_copy(copy)
    if isinstance(value, dict) and value.get(_DIGEST) == digest:
        return value
    value = read_number_pickle(path, EXPECTED)
    if isinstance(value, dict):
        _write(copy, {**value, _DIGEST: digest})
    return value


def _read_copy(path: Path) -> Any:
    """None where there is no copy, or none that can be read."""
    try:
        return read_json(path, EXPECTED) if path.is_file() else None
    except CondsimError:
        return None


def _write(path: Path, value: Mapping[str, Any]) -> None:
    try:
        with atomic(path) as scratch:
            scratch.write_text(json.dumps(value), encoding="utf-8")
    except OSError:  # a folder that is read only: nothing is lost
        return


def read_instre(path: Path) -> dict[str, Any]:
    """gnd_instre.mat (Iscen et al., CVPR 2017) in the form of the other ground truths.

    Its positives count from 1. Its boxes are x, y, width, height, says one public reader, or corners, says another:
    they are read as corners if every box has its right end after its left and its bottom below its top, which 1,250
    boxes with widths and heights do not.
    """
    with reading(path, EXPECTED):
        size = path.stat().st_size
    if size > MAX_BYTES:
        raise CondsimError(f"{path} has {size:,} bytes, more than INSTRE's (expected {EXPECTED})")
    from scipy.io import loadmat  # takes as long to import as all else here

    try:
        read = loadmat(path, variable_names=["imlist", "qimlist", "gnd"])
        names = {key: [str(cell.item()) for cell in read[key].ravel()] for key in ("imlist", "qimlist")}
        entries = [(_field(entry, "ok", 0), _field(entry, "bbx", 1)) for entry in read["gnd"].ravel()]
        boxes = np.array([box.astype(np.float64) for _, box in entries]).reshape(-1, 4)
        positives = [(rows.astype(np.int64) - 1).tolist() for rows, _ in entries]
    except Exception as error:  # the reader raises nearly anything for a damaged file
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise CondsimError(f"{path}: not a ground truth of INSTRE ({reason}; expected {EXPECTED})") from None
    if not (boxes[:, 2:] > boxes[:, :2]).all():
        boxes[:, 2:] += boxes[:, :2]
    return {**names, "gnd": [{"bbx": box, "ok": rows} for box, rows in zip(boxes.tolist(), positives, strict=True)]}


def _field(entry: Any, name: str, place: int) -> NDArray[Any]:
    """A field of a MATLAB struct, by its name or else its place, as one list."""
    value: NDArray[Any] = entry[name if name in (entry.dtype.names or ()) else place]
    return value.ravel()
