"""Categories of images: one name for COCO's spellings, and strict reading of a detector's table."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from condsim.harness.categories import bags_from_panoptic, categories_of, plain_name, read_categories, spelling
from condsim.harness.errors import CondsimError

THINGS = [
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "dining table",
    "toilet",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
]
STUFF = [
    "banner",
    "blanket",
    "bridge",
    "cardboard",
    "counter",
    "curtain",
    "door-stuff",
    "floor-wood",
    "flower",
    "fruit",
    "gravel",
    "house",
    "light",
    "mirror-stuff",
    "net",
    "pillow",
    "platform",
    "playingfield",
    "railroad",
    "river",
    "road",
    "roof",
    "sand",
    "sea",
    "shelf",
    "snow",
    "stairs",
    "tent",
    "towel",
    "wall-brick",
    "wall-stone",
    "wall-tile",
    "wall-wood",
    "water-other",
    "window-blind",
    "window-other",
    "tree-merged",
    "fence-merged",
    "ceiling-merged",
    "sky-other-merged",
    "cabinet-merged",
    "table-merged",
    "floor-other-merged",
    "pavement-merged",
    "mountain-merged",
    "grass-merged",
    "dirt-merged",
    "paper-merged",
    "food-other-merged",
    "building-other-merged",
    "rock-merged",
    "wall-other-merged",
    "rug-merged",
]


def rule_of_the_template_builder(name: str) -> str:
    """The rule that the builder of templates had before ``plain_name``: it removes one end after the other."""
    for end in ("-merged", "-other", "-stuff"):
        name = name.removesuffix(end)
    return name.replace("-", " ")


def test_plain_names_of_cocos_133_categories() -> None:
    assert len(THINGS) == 80
    assert len({*THINGS, *STUFF}) == 133
    for name in (*THINGS, *STUFF):
        assert plain_name(name) == rule_of_the_template_builder(name)
    assert [name for name in THINGS if plain_name(name) != name] == []
    assert len({spelling(name) for name in (*THINGS, *STUFF)}) == 133, "no two categories become one"


def test_bags_hold_categories_above_one_percent_of_the_pixels() -> None:
    annotation = {
        "images": [{"id": 7, "width": 100, "height": 100}],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "wall-other-merged"}, {"id": 3, "name": "cup"}],
        "annotations": [
            {
                "image_id": 7,
                "segments_info": [
                    {"category_id": 1, "area": 60},
                    {"category_id": 1, "area": 50},
                    {"category_id": 2, "area": 900},
                    {"category_id": 3, "area": 100},
                ],
            }
        ],
    }
    assert bags_from_panoptic(annotation) == {7: frozenset({"person", "wall"})}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,category\n1.jpg,dog,cat\n", r"row 1 \(line 2\) has 3 cells, but the header has 2"),
        ('image,category\n1.jpg,dog\n2.jpg,"cat\n3.jpg,cow\n', "row 2, which begins at line 3"),
        ("image,category\n1.jpg,dog\n,cat\n", "row 2: image is empty"),
        ("image,category,score,score\n1.jpg,dog,1,0\n", "duplicate column 'score'"),
        ("image,category,score\n1.jpg,dog,high\n", "row 1: score: expected a number, found 'high'"),
    ],
)
def test_a_bad_row_of_a_detectors_table_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "seen.csv").write_text(content)
    with pytest.raises(CondsimError, match=message):
        read_categories(str(tmp_path / "seen.csv"), 0.5 if "score" in content else 0.0)


@pytest.mark.parametrize("content", ["{}", "[]", '{"categories": 3}', "[" * 100_000, '{"images": [NaN]}', "x"])
def test_a_file_of_other_json_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "panoptic.JSON").write_text(content)
    with pytest.raises(CondsimError, match=r"panoptic\.JSON"):
        read_categories(str(tmp_path / "panoptic.JSON"))


def test_cells_and_headers_have_one_spelling(tmp_path: Path) -> None:
    (tmp_path / "seen.csv").write_text("\ufeffimage , category\n./1.jpg, Dog\n1.jpg,hot\u00a0dog\n2.jpg, \n")
    assert read_categories(str(tmp_path / "seen.csv")) == {"1.jpg": {"dog", "hot dog"}, "2.jpg": frozenset()}


def test_scores_may_be_text_or_numbers(tmp_path: Path) -> None:
    frame = pd.DataFrame({"image": ["1.jpg"] * 2, "category": ["dog", "cat"], "score": [0.9, 0.2]})
    frame.to_csv(tmp_path / "seen.csv", index=False)
    frame.to_parquet(tmp_path / "seen.parquet")
    for name in ("seen.csv", "seen.parquet"):
        assert read_categories(str(tmp_path / name), 0.5) == {"1.jpg": {"dog"}}


def test_a_file_name_that_fits_two_rows_is_refused() -> None:
    seen = {"a/1.jpg": frozenset({"dog"}), "b/1.jpg": frozenset({"cat"})}
    assert categories_of(["a/1.jpg", "b/1.jpg"], seen, "file") == (frozenset({"dog"}), frozenset({"cat"}))
    with pytest.raises(CondsimError, match=r"c/1\.jpg may be a/1\.jpg or b/1\.jpg"):
        categories_of(["c/1.jpg"], seen, "file")


def test_panoptic_annotations_are_read_by_file_name(tmp_path: Path) -> None:
    content = {
        "images": [{"id": 7, "width": 10, "height": 10}], "categories": [{"id": 1, "name": "dog"}],
        "annotations": [
            {"image_id": 7, "file_name": "7.png", "segments_info": [{"category_id": 1, "area": 50}]}
        ],
    }  # fmt: skip
    (tmp_path / "p.json").write_text(json.dumps(content))
    assert read_categories(str(tmp_path / "p.json")) == {"7.png": {"dog"}}
