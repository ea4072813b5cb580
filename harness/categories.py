"""What is in which picture, read from a detector's table or from COCO's panoptic annotations."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from condsim.harness.errors import CondsimError
from condsim.harness.paths import resolve


@cache
def read_categories(file: str, min_score: float = 0.0) -> Mapping[str, frozenset[str]]:
    """Picture -> the categories seen in it.

    A table (.csv or .parquet) has a row a detection, with the columns ``image`` and ``category`` (empty: nothing was
    found) and, if ``min_score`` is to apply, ``score``. A .json is COCO's panoptic annotation file. Raises CondsimError
    naming the file.
    """
    path = resolve(file)
    if not path.is_file():
        raise CondsimError(f"{file}: there is no such file; it should be a table with the columns image and category")
    try:
        if path.suffix == ".json":
            return _panoptic(path)
        text = {"image": str, "category": str}
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=text)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CondsimError(f"{file}: cannot be read: {type(error).__name__}: {error}") from None
    missing = {"image", "category"} - set(table.columns)
    if missing:
        columns = ", ".join(map(str, table.columns))
        raise CondsimError(f"{file}: expected the columns image and category, found {columns}")
    if min_score > 0:
        if "score" not in table.columns:
            raise CondsimError(f"{file}: has no column score, so min_score must be 0")
        table = table[table["score"] >= min_score]
    seen: dict[str, set[str]] = defaultdict(set)
    for image, category in zip(table["image"].astype(str), table["category"], strict=True):
        found = seen[image]
        if isinstance(category, str) and category.strip():
            found.add(plain_name(category))
    return {image: frozenset(categories) for image, categories in seen.items()}


def categories_of(names: Sequence[str], seen: Mapping[str, frozenset[str]], file: str) -> tuple[frozenset[str], ...]:
    """The categories of each picture of an image table, matched by its name or by its file name without ending.

    A picture without a row has none: a detector may well find nothing. Raises CondsimError where no picture matches.
    """
    by_stem = {PurePosixPath(image).stem: categories for image, categories in seen.items()}
    nothing: frozenset[str] = frozenset()
    found = [seen.get(name, by_stem.get(PurePosixPath(name).stem)) for name in names]
    if all(categories is None for categories in found):
        example = next(iter(seen), "nothing")
        raise CondsimError(
            f"{file}: lists none of the task's {len(names)} images: it has {example}, they are {names[0]}"
        )
    return tuple(nothing if categories is None else categories for categories in found)


def plain_name(category: str) -> str:
    """A category as text: "food-other-merged" is "food"."""
    words = category.casefold().replace("-", " ").replace("_", " ").split()
    return " ".join(word for word in words if word not in ("other", "merged", "stuff")) or category.casefold()


def spelling(category: str) -> str:
    """The one way in which categories are compared, whatever the order of their words: COCO's "wall-brick" is GeneCIS's
    "brick wall"."""
    return " ".join(sorted(plain_name(category).split()))


def _panoptic(path: Path) -> Mapping[str, frozenset[str]]:
    loaded = json.loads(path.read_text(encoding="utf-8"))
    bags = bags_from_panoptic(loaded)
    return {annotation["file_name"]: bags[annotation["image_id"]] for annotation in loaded["annotations"]}


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
