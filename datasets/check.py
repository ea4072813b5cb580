"""`condsim check benchmark=...`: a benchmark's files as found and as expected. Encodes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from condsim.datasets.inventory import Part, survey
from condsim.datasets.sources import SOURCES, Source
from condsim.harness.errors import CondsimError
from condsim.harness.images import crop_box, decode
from condsim.harness.progress import track
from condsim.harness.task import ImageTable

SHOWN = 10
CARDS = Path(__file__).with_name("cards")


@dataclass(frozen=True)
class Report:
    """What `condsim check` found."""

    benchmark: str
    parts: tuple[Part, ...]
    problems: tuple[str, ...]
    """What a loader refuses: options that are not set, files that cannot be read, entries that cannot be used."""
    notes: tuple[str, ...]
    """What is not a fault but may not be intended, such as labels that differ only in case."""
    images: int
    """Number of distinct image files that the benchmark needs, as far as it is known."""
    missing: tuple[str, ...]
    """Paths of needed images that are missing."""
    unreadable: tuple[str, ...]
    """One message per image that does not decode, or whose box does not fit."""
    decoded: bool
    """Whether every image was decoded, and not only looked for."""
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
    """Look for everything that the benchmark of ``config`` (its YAML with the user's overrides) needs.

    ``read_images``: decode each image and fit its boxes, in ``workers`` threads; False only looks for its file.
    """
    target = str(config.get("_target_", ""))
    name = str(config.get("name") or _loader(target))
    found = survey(config)
    boxes = needed_boxes(found.tables)
    missing = tuple(str(path) for path in boxes if not path.is_file())
    there = [path for path in boxes if path.is_file()]
    unreadable = unreadable_images(there, boxes, workers) if read_images else ()
    return Report(
        benchmark=name,
        parts=found.parts,
        problems=found.problems,
        notes=found.notes,
        images=len(boxes),
        missing=missing,
        unreadable=unreadable,
        decoded=read_images,
        sources=SOURCES.get(name, ()),
        card=card(name, target),
    )


def card(name: str, target: str = "") -> str:
    """The protocol card of a benchmark: its own, else that of its loader, else none."""
    for stem in (name, _loader(target)):
        path = CARDS / f"{stem}.md"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    return ""


def _loader(target: str) -> str:
    """ "genecis" of condsim.datasets.genecis.load."""
    return target.removeprefix("condsim.datasets.").split(".")[0]


def needed_boxes(tables: Sequence[ImageTable]) -> dict[Path, list[tuple[float, ...]]]:
    """Image file -> the boxes that are cropped from it, of all ``tables``."""
    boxes: dict[Path, list[tuple[float, ...]]] = {}
    for table in tables:
        for row in range(len(table)):
            wanted = boxes.setdefault(table.path(row), [])
            if (box := table.box(row)) is not None:
                wanted.append((*box, table.dilation))
    return boxes


def unreadable_images(
    paths: Sequence[Path], boxes: Mapping[Path, Sequence[tuple[float, ...]]], workers: int
) -> tuple[str, ...]:
    """One message for each of ``paths`` that does not decode, or one of whose boxes does not fit, in their order."""

    def fault(path: Path) -> str | None:
        try:
            width, height = decode(path.read_bytes()).size
            for *box, dilation in boxes[path]:
                crop_box(box, width, height, dilation)
        except CondsimError as error:
            return f"{path}: {error}"
        except OSError as error:
            return f"{path}: cannot be read ({error.strerror or error})"
        return None

    faults = []
    with ThreadPoolExecutor(max(1, workers)) as pool, track(len(paths), "reading images") as advance:
        for message in pool.map(fault, paths):
            advance(1)
            if message is not None:
                faults.append(message)
    return tuple(faults)


def render(report: Report, list_path: Path | None = None) -> RenderableType:
    """The report for people; ``list_path`` is where the full list of faults was written."""
    table = Table(title=f"{report.benchmark}: what is there", title_justify="left")
    for column in ("", "part", "place", "found", "expected"):
        table.add_column(column, justify="right" if column in ("found", "expected") else "left", overflow="fold")
    for part in report.parts:
        found = "none" if part.found is None else f"{part.found:,}"
        expected = "" if part.expected is None else f"{part.expected:,}"
        place = f"{part.place}\n{part.note}" if part.note else part.place
        table.add_row(Text("ok" if part.complete else "NO"), Text(part.what), Text(place), found, expected)
    looked = "read to their ends" if report.decoded else "looked for, not read"
    faults = f"{len(report.missing):,} missing, {len(report.unreadable):,} unreadable"
    lines = [f"{report.images:,} images needed, {looked}: {faults}" if report.images else "No image to look for yet."]
    lines += _first("missing", report.missing) + _first("unreadable", report.unreadable)
    lines += _first("refused", report.problems)
    lines += [f"  note: {note}" for note in report.notes]
    if list_path is not None:
        lines.append(f"The full list is in {list_path}")
    lines += ["", "Where the parts are had:"] if report.sources else []
    for source in report.sources:
        lines.append(f"  {source.name}: {source.home} ({source.licence})")
        if source.remotes:
            lines.append(f"    condsim download benchmark={report.benchmark} 'parts=[{source.name}]'")
    verdict = "complete" if report.complete else "NOT complete"
    body: list[RenderableType] = [table] if report.parts else []
    body += [Text("\n".join(lines)), Text("")]
    body += [Markdown(report.card)] if report.card else []
    return Group(*body, Text(f"\n{report.benchmark} is {verdict}"))


def _first(label: str, faults: Sequence[str]) -> list[str]:
    more = [f"  ... and {len(faults) - SHOWN:,} more"] if len(faults) > SHOWN else []
    return [f"  {label}: {fault}" for fault in faults[:SHOWN]] + more


def command(settings: Mapping[str, Any]) -> int:
    """`conf/check.yaml`: print the report, write the full list of faults; the status says whether all is there."""
    report = check(settings["benchmark"], read_images=bool(settings["decode"]), workers=int(settings["workers"]))
    list_path = None
    if report.faults:
        list_path = Path(settings["output"] or f"check-{report.benchmark}.txt")
        list_path.parent.mkdir(parents=True, exist_ok=True)
        list_path.write_text(report.faults, encoding="utf-8")
    Console(highlight=False).print(render(report, list_path))
    return 0 if report.complete else 1
