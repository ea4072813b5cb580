"""Compare a benchmark's files with the expected ones. Encodes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from condsim.datasets.sources import SOURCES, Source
from condsim.datasets.survey import Part, files_of, survey
from condsim.harness.errors import CondsimError
from condsim.harness.images import ImageNote, crop_by_rule, decode
from condsim.harness.task import ImageTable
from condsim.harness.terminal.progress import track

CARDS = Path(__file__).with_name("cards")


@dataclass(frozen=True)
class Report:
    """The result of `condsim check`."""

    benchmark: str
    parts: tuple[Part, ...]
    problems: tuple[str, ...]
    """The errors of the loader: options that are not set, unreadable files, invalid entries."""
    notes: tuple[str, ...]
    """Not errors, but perhaps not intended, such as labels that differ only in case."""
    images: int
    """Number of distinct image files that the benchmark needs, as far as known."""
    missing: tuple[str, ...]
    """Paths of needed images that are missing."""
    unreadable: tuple[str, ...]
    """One message per image that does not decode, or whose box does not fit."""
    decoded: bool
    """True: every image was decoded. False: only the existence of the files was checked."""
    sources: tuple[Source, ...]
    card: str
    """The protocol card, markdown."""

    @property
    def complete(self) -> bool:
        faults = (*self.problems, *self.missing, *self.unreadable)
        return not faults and bool(self.parts) and all(part.complete for part in self.parts)

    @property
    def faults(self) -> str:
        """The full list, one fault per line."""
        missing = (f"{path}: missing" for path in self.missing)
        return "".join(f"{line}\n" for line in (*self.problems, *missing, *self.unreadable))


def check(config: Mapping[str, Any], *, read_images: bool = True, workers: int = 4) -> Report:
    """Check the files of the benchmark of ``config`` (its YAML with the user's overrides).

    ``read_images``: decode each image and check its boxes, in ``workers`` threads; False checks only that it exists.
    """
    target = str(config.get("_target_", ""))
    surveyed = survey(config)
    name = str(config.get("name") or surveyed.name or _loader(target))
    boxes = needed_boxes(surveyed.tables)
    existing = [path for path in boxes if path.is_file()]
    found = set(existing)
    missing = tuple(str(path) for path in boxes if path not in found)
    unreadable, as_read = read_all(existing, boxes, workers) if read_images else ((), ())
    return Report(
        benchmark=name,
        parts=surveyed.parts,
        problems=surveyed.problems,
        notes=(*surveyed.notes, *as_read),
        images=len(boxes),
        missing=missing,
        unreadable=unreadable,
        decoded=read_images,
        sources=SOURCES.get(name, ()),
        card=card(name, target),
    )


def card(name: str, target: str = "") -> str:
    """The protocol card of a benchmark: its own, else that of its loader, else an empty text."""
    for stem in (name, _loader(target)):
        path = CARDS / f"{stem}.md"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    return ""


def _loader(target: str) -> str:
    """The name of a loader: "genecis" for condsim.datasets.genecis.load."""
    return target.removeprefix("condsim.datasets.").split(".")[0]


Boxes = list[tuple[NDArray[np.float64], ImageTable]]
"""The boxes that are cropped from one image, each with its table, which names the rule."""


def needed_boxes(tables: Sequence[ImageTable]) -> dict[Path, Boxes]:
    """Image file -> the boxes that all ``tables`` crop from it."""
    boxes: dict[Path, Boxes] = {}
    for table in tables:
        files = files_of(table)
        for row, name in enumerate(table.names):
            boxes_of_file = boxes.setdefault(files[name], [])
            if (box := table.box(row)) is not None:
                boxes_of_file.append((box, table))
    return boxes


_NOTES = {
    ImageNote.ROTATED: "have an EXIF rotation, which is not applied (open_clip does not apply it either)",
    ImageNote.TRANSPARENT: "have transparent pixels, which show the colour below, often black",
    ImageNote.SCALED: "have more than 8 bits per channel and are scaled to 8",
}


def read_all(
    paths: Sequence[Path], boxes: Mapping[Path, Boxes], workers: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """One message for each of ``paths`` that does not decode, or one of whose boxes does not fit, in their order; and
    one sentence with a count for each kind of picture that is not read as it is."""

    def read(path: Path) -> tuple[str | None, ImageNote]:
        try:
            image, note = decode(path.read_bytes())
            for box, table in boxes[path]:
                crop_by_rule(image, box, table)
        except CondsimError as error:
            return f"{path}: {error}", ImageNote.NONE
        except OSError as error:
            return f"{path}: cannot be read ({error.strerror or error})", ImageNote.NONE
        return None, note

    faults, counts = [], dict.fromkeys(_NOTES, 0)
    with ThreadPoolExecutor(max(1, workers)) as pool, track(len(paths), "reading images") as advance:
        for fault, note in pool.map(read, paths):
            advance(1)
            if fault is not None:
                faults.append(fault)
            for kind in _NOTES:
                counts[kind] += kind in note
    notes = (f"{counts[kind]:,} of {len(paths):,} images {text}" for kind, text in _NOTES.items() if counts[kind])
    return tuple(faults), tuple(notes)
