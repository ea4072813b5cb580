"""The categories in each image, from a detector's table or from COCO's panoptic annotations."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from condsim.harness.errors import CondsimError
from condsim.harness.files.json_files import read_json
from condsim.harness.files.paths import resolve
from condsim.harness.files.tables import cell_text, read_frame
from condsim.harness.names import clean_path


@cache
def read_categories(file: str, min_score: float = 0.0) -> Mapping[str, frozenset[str]]:
    """Image -> the categories seen in it.

    A table (.csv, .tsv or .parquet) has one row per detection, with the columns ``image`` and ``category`` (empty:
    nothing was found) and, for ``min_score`` above 0, ``score``. A .json is COCO's panoptic annotation file. Raises
    CondsimError naming the file and the row.
    """
    path = resolve(file)
    if not path.is_file():
        raise CondsimError(f"{file}: there is no such file; it should be a table with the columns image and category")
    if path.suffix.lower() == ".json":
        return _panoptic(path)
    columns = ["image", "category", *["score"] * (min_score > 0)]
    table = read_frame(path, "a table with the columns image and category, and score for a min_score above 0", columns)
    scores = table["score"] if min_score > 0 else [None] * len(table)
    seen: dict[str, set[str]] = defaultdict(set)
    for row, (image, category, score) in enumerate(zip(table["image"], table["category"], scores, strict=True), 1):
        where = f"{file}: row {row}"
        if not (name := clean_path(cell_text(image, f"{where}: image"))):
            raise CondsimError(f"{where}: image is empty")
        if min_score > 0 and _score(score, where) < min_score:
            continue
        categories = seen[name]
        if text := cell_text(category, f"{where}: category"):
            categories.add(plain_name(text))
    return {image: frozenset(categories) for image, categories in seen.items()}


def _score(cell: object, where: str) -> float:
    try:
        return float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise CondsimError(f"{where}: score: expected a number, found {ascii(cell)[:80]}") from None


def categories_of(names: Sequence[str], seen: Mapping[str, frozenset[str]], file: str) -> tuple[frozenset[str], ...]:
    """The categories of each image of an image table, matched by its name or by its file name without suffix.

    An image without a row has none: a detector may well find nothing. Raises CondsimError where no image matches, and
    where a file name without suffix matches several rows.
    """
    by_stem: dict[str, list[str]] = defaultdict(list)
    for image in seen:
        by_stem[PurePosixPath(image).stem].append(image)

    def listed(name: str) -> frozenset[str] | None:
        key = clean_path(name)
        if key in seen:
            return seen[key]
        images = by_stem.get(PurePosixPath(key).stem, [])
        if len(images) > 1:
            raise CondsimError(f"{file}: the image {name} may be {images[0]} or {images[1]}: use the names of the task")
        return seen[images[0]] if images else None

    matched = [listed(name) for name in names]
    if all(categories is None for categories in matched):
        example = next(iter(seen), "nothing")
        raise CondsimError(
            f"{file}: none of the task's {len(names)} images is listed: the file names {example}, the task {names[0]}"
        )
    return tuple(categories or frozenset() for categories in matched)


def plain_name(category: str) -> str:
    """A category as text: "food-other-merged" is "food"."""
    words = category.casefold().replace("-", " ").replace("_", " ").split()
    return " ".join(word for word in words if word not in ("other", "merged", "stuff")) or category.casefold()


def spelling(category: str) -> str:
    """The one way in which categories are compared, whatever the order of their words: COCO's "wall-brick" is GeneCIS's
    "brick wall"."""
    return " ".join(sorted(plain_name(category).split()))


def _panoptic(path: Path) -> Mapping[str, frozenset[str]]:
    loaded = read_json(path, "COCO's panoptic annotations")
    try:
        bags = bags_from_panoptic(loaded)
        return {annotation["file_name"]: bags[annotation["image_id"]] for annotation in loaded["annotations"]}
    except (KeyError, TypeError, AttributeError) as error:
        raise CondsimError(
            f"{path}: these are not COCO's panoptic annotations: {type(error).__name__}: {error}"
        ) from None


def bags_from_panoptic(annotation: Mapping[str, Any], min_share: float = 0.01) -> dict[int, frozenset[str]]:
    """Image id -> categories that cover more than `min_share` of its pixels, from a COCO panoptic annotation file's
    content.

    Names are COCO's, without the ends that mark merged and other stuff ("-merged", "-other", "-stuff") and with spaces.
    """
    names = {c["id"]: plain_name(c["name"]) for c in annotation["categories"]}
    pixels = {i["id"]: i["width"] * i["height"] for i in annotation["images"]}
    bags = {}
    for entry in annotation["annotations"]:
        area: Counter[str] = Counter()
        for segment in entry["segments_info"]:
            area[names[segment["category_id"]]] += segment["area"]
        bags[entry["image_id"]] = frozenset(c for c, a in area.items() if a > min_share * pixels[entry["image_id"]])
    return bags
