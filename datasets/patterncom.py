"""PatternCom (Psomas et al., IGARSS 2024): composed retrieval of aerial images by six attributes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from condsim.datasets.annotations import read_each_line, shown
from condsim.datasets.grouping import composed
from condsim.datasets.image_files import folder_of, image_folder, index_below, inner, moved, with_files
from condsim.harness.errors import CondsimError, require_one_of
from condsim.harness.files.json_files import read_text
from condsim.harness.images import IMAGE_SUFFIXES
from condsim.harness.names import unusable_character
from condsim.harness.task import Benchmark, ImageTable, OnError, Ragged, Task

ATTRIBUTES = ("color", "context", "density", "existence", "quantity", "shape")
METRICS = ("map",)
MERGED: Mapping[str, tuple[str, str]] = {
    "denseresidential": ("residential", "density"),
    "sparseresidential": ("residential", "density"),
    "closedroad": ("road", "shape"),
    "intersection": ("road", "shape"),
    "bridge": ("roadpass", "context"),
    "overpass": ("roadpass", "context"),
    "ferryterminal": ("pier", "existence"),
    "harbor": ("pier", "existence"),
    "parkingspace": ("parking", "existence"),
    "parkinglot": ("parking", "existence"),
}
"""Class -> (class that it is merged into, the attribute under which the values of both are query texts). For the
positives the released code merges classes under every attribute."""
ANNOTATIONS = "the folder PatternCom with color.csv and five more, or the folder above"
IMAGES = "PatternNet's folder images/, or the folder above"
ROWS = "lines of filename,attribute,value without a header"
SIZE = 30_400


class Line(NamedTuple):
    image: str
    attribute: str
    value: str

    @property
    def own_class(self) -> str:
        """The letters before the number: "bridge" of bridge012.jpg."""
        return re.split(r"\d", self.image)[0]


def load(
    annotations: str | None = None,
    images: str | None = None,
    gallery: str | None = None,
    metrics: Sequence[str] = METRICS,
    on_error: OnError = "raise",
    tasks: Sequence[str] | None = None,
    name: str = "patterncom",
) -> Benchmark:
    """One task per attribute, and the mean over them.

    Every line of an attribute's file is a query for each other value of the attribute in its class. Positive is an
    image of the same class, in the merged sense, with that value. The query image stays in the gallery.
    """
    folder = inner(folder_of(annotations, "benchmark.annotations", ANNOTATIONS), "PatternCom")
    root = image_folder(images, IMAGES, on_error)
    chosen = tuple(tasks or ATTRIBUTES)
    for attribute in chosen:
        require_one_of("tasks", attribute, ATTRIBUTES)
    index = None if root is None else index_images(root)
    if gallery:
        path = Path(gallery).expanduser()
        listed = read_text(path, "names of PatternNet's images, one per line").splitlines()
        names = tuple(dict.fromkeys(PurePosixPath(line.strip()).name for line in listed if line.strip()))
    elif index is None:
        raise CondsimError(
            f"benchmark.images is not set: it should name {IMAGES}. To run from feature files, set benchmark.gallery "
            "to a file with the names of all images of PatternNet"
        )
    else:
        names = tuple(sorted(index))
    rows = {image: row for row, image in enumerate(names)}
    table = ImageTable(root or folder, names, files=moved(names, index))
    read = (_task(folder / f"{attribute}.csv", attribute, table, rows, name, metrics, on_error) for attribute in chosen)
    found = tuple(with_files(task, index, on_error, IMAGES) for task in read)
    whole = set(chosen) == set(ATTRIBUTES)
    headlines = {"average": tuple((attribute, metrics[0]) for attribute in ATTRIBUTES)} if whole and metrics else {}
    size = len(found[0].gallery_rows)
    notes = () if size == SIZE else (f"the gallery has {size:,} images, and PatternNet has {SIZE:,}: see the card",)
    return Benchmark(name, found, headlines=headlines, on_error=on_error, notes=notes)


def read_lines(
    path: Path, rows: Mapping[str, int], root: Path, on_error: OnError
) -> tuple[list[Line], tuple[str, ...]]:
    """The lines whose image is in the gallery, ``rows``, of the folder ``root``, and one message for each other one."""

    def read(where: str, raw: str) -> Line:
        cells = [cell.strip() for cell in raw.split(",")]
        if len(cells) != 3 or not all(cells):
            raise CondsimError(f"{where}: expected filename,attribute,value, found {shown(raw)}")
        if "/" in cells[0] or (unusable_character(raw) is not None):
            raise CondsimError(f"{where}: expected the name of an image file, found {shown(cells[0])}")
        if cells[0] not in rows:
            raise CondsimError(f"{where}: the image {cells[0]} is not in the gallery ({root})")
        return Line(*cells)

    return read_each_line(path, ROWS, read, on_error)


def _task(
    path: Path,
    attribute: str,
    images: ImageTable,
    rows: Mapping[str, int],
    benchmark: str,
    metrics: Sequence[str],
    on_error: OnError,
) -> Task:
    lines, skipped = read_lines(path, rows, images.root, on_error)
    values: dict[tuple[str, str], dict[str, None]] = {}
    for line in lines:
        values.setdefault(_asked(line), {})[line.value] = None
    positives: dict[tuple[str, str], list[int]] = {}
    for line in {line.image: line for line in lines}.values():  # the last line of an image counts, as released
        positives.setdefault((_merged(line), line.value), []).append(rows[line.image])
    queries = [
        (line, value)
        for line in lines
        for value in values[_asked(line)]
        if value != line.value and (_merged(line), value) in positives
    ]
    if not queries:
        raise CondsimError(f"{path}: no class has two values of {attribute}, so there is no query")
    return Task(
        benchmark=benchmark,
        name=attribute,
        images=images,
        **composed((value for _, value in queries), (rows[line.image] for line, _ in queries)),
        relevant=Ragged.of(positives[_merged(line), value] for line, value in queries),
        metrics=tuple(metrics),
        gallery=np.arange(len(images), dtype=np.int64),
        query_ids=tuple(f"{line.image} {value}" for line, value in queries),
        skipped=skipped,
    )


def _merged(line: Line) -> str:
    return MERGED[line.own_class][0] if line.own_class in MERGED else line.own_class


def _asked(line: Line) -> tuple[str, str]:
    """The group of lines whose values are the texts of each other's queries."""
    group, attribute = MERGED.get(line.own_class, (line.own_class, line.attribute))
    return line.attribute, group if attribute == line.attribute else line.own_class


def index_images(root: Path) -> dict[str, str]:
    """Name of an image file -> its path below ``root``. PatternNet's names differ between its folders."""
    paths = index_below(root, "images").values()
    return {PurePosixPath(path).name: path for path in paths if path.lower().endswith(IMAGE_SUFFIXES)}
