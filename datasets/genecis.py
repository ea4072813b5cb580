"""GeneCIS (Vaze et al., CVPR 2023): four tasks, each query with its own gallery of 10 or 15.

The protocol is the released code's; ``cards/genecis.md`` describes it and its traps.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from condsim.datasets.annotations import Entry, ImageName, Text, keep_some, read_list, read_name_lists, validate
from condsim.datasets.grouping import composed
from condsim.datasets.image_files import folder_of, image_index, moved, require_image, required_images
from condsim.harness.errors import CondsimError, require_one_of
from condsim.harness.task import Benchmark, ImageTable, Kinds, OnError, Ragged, Task

TASKS = ("focus_attribute", "change_attribute", "focus_object", "change_object")
METRICS = ("recall@1", "recall@2", "recall@3")
DILATION = 0.7
SUBFOLDERS = {"visual_genome": ("VG_100K", "VG_100K_2"), "coco": ("val2017",)}
FOLDERS = {
    "visual_genome": "the folder of Visual Genome's images (<id>.jpg), all in it or in VG_100K/ and VG_100K_2/",
    "coco": "the folder of COCO's val2017 images (000000000139.jpg ...), or the folder that holds val2017/",
}

Picture = tuple[str, tuple[float, ...]]
"""File and box (x, y, w, h) in pixels; an empty box means the whole image."""

Number = Annotated[float, Field(allow_inf_nan=False)]


class Crop(Entry):
    image_id: ImageName
    instance_bbox: Annotated[list[Number], Field(min_length=4, max_length=4)]


class WholeImage(Entry):
    val_image_id: Annotated[int, Field(ge=0, lt=10**12)]


class AttributeTemplate(Entry):
    reference: Crop
    target: Crop
    gallery: Annotated[list[Crop], Field(min_length=1)]
    condition: Text


class ObjectTemplate(Entry):
    reference: WholeImage
    target: WholeImage
    gallery: Annotated[list[WholeImage], Field(min_length=1)]
    condition: Text


def load(
    templates: str | None = None,
    visual_genome: str | None = None,
    coco: str | None = None,
    tasks: Sequence[str] | None = None,
    on_error: OnError = "raise",
    name: str = "genecis",
) -> Benchmark:
    """The four tasks (or those of ``tasks``), each with the image folder that it needs.

    The headline is the tasks' mean Recall@1.
    """
    chosen = tuple(tasks or TASKS)
    for task in chosen:
        image_option(task)
    folder = folder_of(
        templates, "benchmark.templates", "the folder of GeneCIS's template files, focus_attribute.json ..."
    )
    values = {"visual_genome": visual_genome, "coco": coco}
    folders: dict[str, tuple[Path, dict[str, str]]] = {}
    for key in dict.fromkeys(map(image_option, chosen)):
        root = required_images(values[key], FOLDERS[key], on_error, f"benchmark.{key}")
        folders[key] = root, image_index(root, SUBFOLDERS[key])
    read = tuple(
        read_task(folder / f"{task}.json", *folders[image_option(task)], task, name, on_error=on_error)
        for task in chosen
    )
    headlines = {"average": tuple((task, "recall@1") for task in TASKS)} if set(chosen) == set(TASKS) else {}
    return Benchmark(name, read, headlines=headlines, on_error=on_error)


def image_option(task: str) -> str:
    """The setting that names the folder of a task's pictures."""
    require_one_of("tasks", task, TASKS)
    return "visual_genome" if task.endswith("attribute") else "coco"


def read_task(
    path: Path,
    root: Path,
    index: dict[str, str] | None,
    name: str,
    benchmark: str = "genecis",
    *,
    on_error: OnError = "raise",
) -> Task:
    """One template file as a task.

    ``index`` maps the file names of the images to their paths under ``root`` (``image_files.image_index``). Paths are
    no part of the images' names: the same images in another layout are the same task. None skips the look-up. A
    ``<task>.kinds.json`` beside the file, one list per template aligned with its ``gallery``, gives the kind of each
    distractor. The image table holds each distinct picture (file and box) once; the candidates are the
    target and then the distractors in file order, repeated ones repeated.
    """
    attribute = image_option(name) == "visual_genome"
    entries = read_list(path, "a list of GeneCIS templates")
    kinds_path = path.with_suffix(".kinds.json")
    entry_kinds = None
    if kinds_path.exists():
        entry_kinds = read_name_lists(kinds_path, len(entries), "kind names", "template")

    def read(i: int, raw: object) -> tuple[int, list[Picture], str]:
        here = f"{path}: entry {i}"
        template = validate(AttributeTemplate, raw, here) if attribute else validate(ObjectTemplate, raw, here)
        pictures = []
        for label, item in _labelled_items(template):
            file, box = _picture(item, f"{here}: {label}")
            require_image(file, index, root, f"{here}: {label}", on_error)
            pictures.append((file, box))
        if entry_kinds is not None and len(entry_kinds[i]) != len(template.gallery):
            raise CondsimError(
                f"{kinds_path}: entry {i} has {len(entry_kinds[i])} kinds for a gallery of {len(template.gallery)}"
            )
        return i, pictures, template.condition

    templates, skipped = keep_some(entries, read, on_error, path, "template")
    rows: dict[Picture, int] = {}
    lists = [[rows.setdefault(picture, len(rows)) for picture in pictures] for _, pictures, _ in templates]
    images = ImageTable(
        root,
        names=tuple(file for file, _ in rows),
        boxes=np.array([box for _, box in rows], dtype=np.float64) if attribute else None,
        dilation=DILATION,
        files=moved((file for file, _ in rows), index),
    )
    return Task(
        benchmark=benchmark,
        name=name,
        images=images,
        **composed((condition for _, _, condition in templates), (row[0] for row in lists)),
        relevant=Ragged.of([row[1]] for row in lists),
        metrics=METRICS,
        candidates=Ragged.of(row[1:] for row in lists),
        query_ids=tuple(str(i) for i, _, _ in templates),
        kinds=None if entry_kinds is None else _kinds([entry_kinds[i] for i, _, _ in templates]),
        skipped=skipped,
    )


def _labelled_items(template: AttributeTemplate | ObjectTemplate) -> list[tuple[str, Crop | WholeImage]]:
    """Reference, target, then the distractors, each with its place in the entry."""
    gallery: Sequence[Crop | WholeImage] = template.gallery
    distractors = [(f"gallery[{j}]", item) for j, item in enumerate(gallery)]
    return [("reference", template.reference), ("target", template.target), *distractors]


def _picture(item: Crop | WholeImage, where: str) -> Picture:
    if isinstance(item, WholeImage):
        return f"{item.val_image_id:012d}.jpg", ()
    x, y, w, h = item.instance_bbox
    if w <= 0 or h <= 0:
        raise CondsimError(f"{where}: the box [{x:g}, {y:g}, {w:g}, {h:g}] has no area (expected w > 0 and h > 0)")
    if x + w <= 0 or y + h <= 0:
        raise CondsimError(f"{where}: the box [{x:g}, {y:g}, {w:g}, {h:g}] is wholly outside its image")
    return f"{item.image_id}.jpg", (x, y, w, h)


def _kinds(lists: list[list[str]]) -> Kinds:
    """Codes aligned with the candidates: -1 for the target, then the distractors'."""
    names = sorted({kind for kinds in lists for kind in kinds})
    codes = {kind: code for code, kind in enumerate(names)}
    flat = [code for kinds in lists for code in (-1, *(codes[kind] for kind in kinds))]
    return Kinds(tuple(names), np.array(flat, dtype=np.int64))
