"""Small benchmarks in the real ones' file formats, with real (tiny) image files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

VG = ("11", "12", "13", "14", "15", "16")
COCO = (1, 2, 3, 4, 5, 6)


def picture(path: Path, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (10, 200, 30)).save(path)
    return path


@dataclass
class GeneCIS:
    """Templates and images on disk; ``write`` puts changed templates in place."""

    root: Path
    templates: dict[str, Any] = field(default_factory=dict)

    def write(self, task: str, value: Any) -> Path:
        path = self.root / "templates" / f"{task}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
        self.templates[task] = value
        return path

    @property
    def arguments(self) -> dict[str, str]:
        return {
            "templates": str(self.root / "templates"),
            "visual_genome": str(self.root / "vg"),
            "coco": str(self.root / "coco"),
        }


def crop(image: str, *box: float) -> dict[str, Any]:
    return {"image_id": image, "instance_bbox": list(box)}


@pytest.fixture
def genecis_files(tmp_path: Path) -> GeneCIS:
    world = GeneCIS(tmp_path / "genecis")
    for number, image in enumerate(VG):
        picture(world.root / "vg" / ("VG_100K", "VG_100K_2")[number % 2] / f"{image}.jpg")
    for image in COCO:
        picture(world.root / "coco" / f"{image:012d}.jpg")
    attribute = [
        {  # the same picture twice among the distractors, under one id another box, and the box as float and as int
            "reference": crop("11", 1, 2, 10, 10), "target": crop("12", 0, 0, 5, 5), "condition": "color",
            "gallery": [crop("13", 0, 0, 9, 9), crop("13", 0, 0, 9, 9.0), crop("13", 1, 0, 9, 9)],
        },
        {  # the target among the distractors, and the reference in its own gallery
            "reference": crop("11", 1, 2, 10, 10), "target": crop("14", -3, -1, 8, 8), "condition": "shape",
            "gallery": [crop("14", -3, -1, 8, 8), crop("11", 1, 2, 10, 10), crop("12", 0, 0, 5, 5)],
        },
        {
            "reference": crop("15", 3, 3, 2, 2), "target": crop("16", 3, 3, 4, 4), "condition": "color",
            "gallery": [crop("12", 0, 0, 5, 5), crop("13", 1, 0, 9, 9), crop("11", 1, 2, 10, 10)],
        },
    ]  # fmt: skip
    objects = [
        {"reference": {"val_image_id": 1}, "target": {"val_image_id": 2}, "condition": "dog",
         "gallery": [{"val_image_id": image} for image in (3, 4, 5)]},
        {"reference": {"val_image_id": 6}, "target": {"val_image_id": 1}, "condition": "cat",
         "gallery": [{"val_image_id": image} for image in (2, 2, 5)]},
    ]  # fmt: skip
    for task in ("focus_attribute", "change_attribute"):
        world.write(task, attribute)
    for task in ("focus_object", "change_object"):
        world.write(task, objects)
    return world


@dataclass
class CIRR:
    root: Path
    split: str
    captions: list[dict[str, Any]]
    files: dict[str, str]

    def write(self, captions: Any = None, files: Any = None) -> None:
        for folder, prefix, value in (
            ("captions", "cap", self.captions if captions is None else captions),
            ("image_splits", "split", self.files if files is None else files),
        ):
            path = self.root / folder / f"{prefix}.rc2.{self.split}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(value))

    @property
    def arguments(self) -> dict[str, str]:
        return {"annotations": str(self.root), "images": str(self.root / "images"), "split": self.split}


@pytest.fixture
def cirr_maker(tmp_path: Path) -> Callable[..., CIRR]:
    """``maker(split, images)``: queries about the first twelve of ``images`` images, two image sets of six."""

    def make(split: str = "val", images: int = 14) -> CIRR:
        place = {"val": "dev"}.get(split, split)
        names = [f"{place}-{i}-0-img0" for i in range(images)]
        files = {name: f"./{place}/{name}.png" for name in names}
        root = tmp_path / f"cirr-{split}"
        for file in files.values():
            picture(root / "images" / file)
        captions = []
        for pair in range(8):
            first = 6 * (pair % 2)
            members = names[first : first + 6]
            entry: dict[str, Any] = {
                "pairid": 100 + pair, "reference": members[pair % 3], "caption": f"more of {pair % 5}",
                "img_set": {"id": pair, "members": members, "reference_rank": pair % 3},
            }  # fmt: skip
            if split != "test1":
                target = members[3 + pair % 3]
                entry |= {"target_hard": target, "target_soft": {target: 1.0}}
            captions.append(entry)
        world = CIRR(root, split, captions, files)
        world.write()
        return world

    return make


def put(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    """A deep copy of a JSON value with ``new`` at ``path``; ``...`` for ``new`` deletes what is there."""
    copy = json.loads(json.dumps(value))
    node = copy
    for step in path[:-1]:
        node = node[step]
    if new is ...:
        del node[path[-1]]
    else:
        node[path[-1]] = new
    return copy


@pytest.fixture(name="put")
def put_fixture() -> Callable[..., Any]:
    return put
