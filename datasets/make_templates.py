"""Read the annotations for `condsim templates`: instances with attributes, attribute types, panoptic segments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from condsim.datasets.annotations import Entry, ImageName, Text, read_list, validate
from condsim.datasets.genecis import Crop
from condsim.datasets.templates import Instance
from condsim.harness.categories import bags_from_panoptic
from condsim.harness.errors import CondsimError
from condsim.harness.files.json_files import read_json
from condsim.harness.files.tables import cell_text, is_missing, read_frame

COLUMNS = ("image_id", "x", "y", "w", "h", "category", "positive", "negative")


def _number_as_name(ident: object) -> object:
    return str(ident) if isinstance(ident, int) and not isinstance(ident, bool) else ident


class AttributeEntry(Crop):
    """An instance in VAW's format. Its files have ``image_id`` as text, its documentation as a number."""

    image_id: Annotated[ImageName, BeforeValidator(_number_as_name)]
    object_name: Text
    positive_attributes: list[Text]
    negative_attributes: list[Text]


class Segment(Entry):
    category_id: int
    area: Annotated[float, Field(ge=0)]


class Segments(Entry):
    image_id: int
    segments_info: list[Segment]


class CocoImage(Entry):
    id: int
    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]


class CocoCategory(Entry):
    id: int
    name: Text


class Panoptic(Entry):
    images: list[CocoImage]
    categories: list[CocoCategory]
    annotations: list[Segments]


def read_instances(path: Path) -> list[Instance]:
    """Read a JSON list in VAW's format, or a .csv or .parquet table with ``COLUMNS`` (attributes separated by ";")."""
    what = "instances with attributes: VAW's JSON, or a table"
    if path.suffix.lower() == ".json":
        entries = {f"{path}: entry {i}": raw for i, raw in enumerate(read_list(path, what))}
    else:
        frame = read_frame(path, what, COLUMNS)
        rows = {f"{path}: row {i}": row for i, row in enumerate(frame[list(COLUMNS)].to_dict("records"), 1)}
        entries = {where: _entry_of_row(row, where) for where, row in rows.items()}
    instances = []
    for where, raw in entries.items():
        entry = validate(AttributeEntry, raw, where)
        positive, negative = frozenset(entry.positive_attributes), frozenset(entry.negative_attributes)
        if both := sorted(positive & negative):
            raise CondsimError(f"{where}: {both[0]!r} is both a positive and a negative attribute")
        if min(entry.instance_bbox[2:]) <= 0:
            raise CondsimError(f"{where}: the box (x, y, w, h) has no area: {entry.instance_bbox}")
        item = {"image_id": entry.image_id, "instance_bbox": entry.instance_bbox}
        instances.append(Instance(item, entry.image_id, entry.object_name, positive, negative))
    return instances


def _entry_of_row(row: Mapping[Any, Any], where: str) -> dict[str, Any]:
    def number(cell: object) -> object:
        try:
            return float(str(cell))
        except ValueError:
            return cell

    def attributes(cell: object) -> list[str]:
        return [text for text in cell.split(";") if not is_missing(text)] if isinstance(cell, str) else []

    return {
        "image_id": cell_text(row["image_id"], f"{where}: image_id"),
        "instance_bbox": [number(row[side]) for side in "xywh"],
        "object_name": row["category"],
        "positive_attributes": attributes(row["positive"]),
        "negative_attributes": attributes(row["negative"]),
    }


def read_attribute_types(path: Path) -> dict[str, str]:
    """Attribute -> its type, from a table with the columns attribute and type, or from a JSON object.

    The object is {attribute: type}, or {type: [attributes]} as in VAW's attribute_types.json. Raises CondsimError for
    an attribute with two types.
    """
    what = "the type of each attribute: a JSON object, or a table with the columns attribute and type"
    pairs: list[tuple[object, object]]
    if path.suffix.lower() != ".json":
        frame = read_frame(path, what, ("attribute", "type"))
        pairs = list(zip(frame["attribute"], frame["type"], strict=True))
        places = [f"{path}: row {row + 1}" for row in range(len(pairs))]
    else:
        value = read_json(path, what)
        lists = isinstance(value, dict) and any(isinstance(inner, list) for inner in value.values())
        form = list if lists else str
        if not isinstance(value, dict) or not all(isinstance(inner, form) for inner in value.values()):
            raise CondsimError(
                f"{path}: expected {what}: {{'red': 'color'}} or, as in VAW, {{'color': ['red', 'blue']}}"
            )
        pairs = [(name, key) for key, names in value.items() for name in names] if lists else list(value.items())
        places = [str(path)] * len(pairs)
    types: dict[str, str] = {}
    for (name, type_name), where in zip(pairs, places, strict=True):
        attribute, text = _word(name, where, "attribute"), _word(type_name, where, "type")
        if attribute in types:
            raise CondsimError(
                f"{where}: duplicate attribute {attribute!r} (type {types[attribute]!r}, then {text!r}): keep one"
            )
        types[attribute] = text
    if not types:
        raise CondsimError(f"{path} is empty (expected {what})")
    return types


def _word(cell: object, where: str, column: str) -> str:
    text = cell_text(cell, f"{where}: {column}")
    if not text:
        raise CondsimError(f"{where}: {column} is empty")
    return text


def read_panoptic(path: Path, min_share: float) -> dict[int, frozenset[str]]:
    """Image id -> its categories, from COCO's panoptic annotations."""
    raw = read_json(path, "COCO's panoptic annotations")
    annotation = validate(Panoptic, raw, str(path))
    for part, known, used in (
        ("images", {image.id for image in annotation.images}, [[a.image_id] for a in annotation.annotations]),
        (
            "categories",
            {category.id for category in annotation.categories},
            [[segment.category_id for segment in a.segments_info] for a in annotation.annotations],
        ),
    ):
        for number, ids in enumerate(used):
            if unknown := [ident for ident in ids if ident not in known]:
                raise CondsimError(f"{path}: annotations[{number}]: the id {unknown[0]} is not in the list of {part}")
    return bags_from_panoptic(raw, min_share)
