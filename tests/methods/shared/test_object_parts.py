"""Phrases of a text and regions of a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condsim.harness.images import crop_by_rule
from condsim.harness.task import ImageTable
from condsim.methods.shared.object_parts import grid_regions, object_phrases, words


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("a red circle and a blue star", ["red circle", "blue star"]),
        ("a red circle, an outlined blue star, and the pink ring", ["red circle", "outlined blue star", "pink ring"]),
        ("white sign on brown brick building", ["white sign", "brown brick building"]),
        ("brown tree in front of standing brown giraffe", ["brown tree", "standing brown giraffe"]),
        ("a red circle left of a blue star", ["red circle", "blue star"]),
        ("white bowl to the left of small white plate", ["white bowl", "small white plate"]),
        ("color and shape", ["color", "shape"]),
        ("a dog and a dog", ["dog"]),
        ("in the snow", ["in the snow"]),
        ("sandy island", ["sandy island"]),
        ("and", ["and"]),
        (" , ", [" , "]),
    ],
)
def test_phrases_of_objects(text: str, phrases: list[str]) -> None:
    assert list(object_phrases(text)) == phrases


def test_words_are_a_bag() -> None:
    assert words("a red circle and a blue circle") == ("red", "circle", "blue")


def test_regions_of_a_grid_tile_each_picture(tmp_path: Path) -> None:
    sizes = {"a.png": (9, 6), "sub/b.png": (4, 8)}
    (tmp_path / "sub").mkdir()
    for name, (width, height) in sizes.items():
        pixels = np.arange(width * height * 3).reshape(height, width, 3).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    table = ImageTable(tmp_path, ("a.png", "b.png"), files={"b.png": "sub/b.png"})
    regions = grid_regions(table, 2)
    assert regions.names == ("a.png",) * 4 + ("b.png",) * 4
    assert regions.path(4) == tmp_path / "sub/b.png"
    for first, name in ((0, "a.png"), (4, "sub/b.png")):
        with Image.open(tmp_path / name) as image:
            parts = [np.asarray(crop_by_rule(image, regions.boxes[first + i], regions)) for i in range(4)]  # type: ignore[index]
            whole = np.vstack([np.hstack(parts[:2]), np.hstack(parts[2:])])
            np.testing.assert_array_equal(whole, np.asarray(image))
    single = grid_regions(table, 1).boxes
    assert single is not None
    assert single.tolist() == [[0, 0, 9, 6], [0, 0, 4, 8]]
