"""Render small images at the real ids, so that GeneCIS and CIRR run end to end from the real annotation files.

    python tests/protocol/render_stand_ins.py OUT            300 templates a task, 300 CIRR queries a split
    python tests/protocol/render_stand_ins.py OUT --all      all of them

OUT is then what a user would have: genecis/{templates,visual_genome,coco} and cirr/{captions,image_splits,images}. The
pictures mean nothing: what runs on them shows that the protocol's data fit together, and what that costs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from condsim.datasets import cirr, genecis

Box = tuple[float, float, float, float]


def draw(path: Path, size: tuple[int, int], boxes: Sequence[Box] = ()) -> None:
    """A picture with a ground, a disc and each box in colours that its name decides."""
    colors = random.Random(path.stem)

    def color() -> tuple[int, int, int]:
        return colors.randrange(256), colors.randrange(256), colors.randrange(256)

    image = Image.new("RGB", size, color())
    pen = ImageDraw.Draw(image)
    pen.ellipse((size[0] // 4, size[1] // 4, 3 * size[0] // 4, 3 * size[1] // 4), color())
    for x, y, w, h in boxes:
        pen.rectangle((x, y, x + w, y + h), fill=color(), outline=color(), width=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=70)


def first(entries: list[Any], count: int | None) -> list[Any]:
    return entries if count is None else entries[:count]


def render_genecis(templates: Path, out: Path, count: int | None) -> dict[str, str]:
    """The first ``count`` templates of each task (None: all) and their pictures; returns the benchmark's options."""
    boxes: dict[str, list[Box]] = defaultdict(list)
    coco: set[int] = set()
    (out / "templates").mkdir(parents=True, exist_ok=True)
    for task in genecis.TASKS:
        entries = first(json.loads((templates / f"{task}.json").read_text()), count)
        (out / "templates" / f"{task}.json").write_text(json.dumps(entries))
        for item in (item for entry in entries for item in (entry["reference"], entry["target"], *entry["gallery"])):
            if "val_image_id" in item:
                coco.add(item["val_image_id"])
            else:
                boxes[item["image_id"]].append(tuple(item["instance_bbox"]))
    for number, (image, inside) in enumerate(sorted(boxes.items())):
        size = [max(32, math.ceil(max(box[i] + box[i + 2] for box in inside)) + 8) for i in (0, 1)]
        folder = genecis.SUBFOLDERS["visual_genome"][number % 2]
        draw(out / "visual_genome" / folder / f"{image}.jpg", (size[0], size[1]), inside)
    for image in sorted(coco):
        draw(out / "coco" / f"{image:012d}.jpg", (96, 72))
    return {name: str(out / name) for name in ("templates", "visual_genome", "coco")}


def render_cirr(annotations: Path, out: Path, count: int | None, split: str = "val") -> dict[str, str]:
    """The first ``count`` queries of a split (None: all) and every picture of its gallery; returns the options."""
    for path, value in (
        (cirr.caption_file(out, split), first(json.loads(cirr.caption_file(annotations, split).read_text()), count)),
        (cirr.split_file(out, split), json.loads(cirr.split_file(annotations, split).read_text())),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
    for file in cirr.read_split(out, split).values():
        draw(out / "images" / file, (48, 36))
    return {"annotations": str(out), "images": str(out / "images"), "split": split}


def command(benchmark: str, options: dict[str, str]) -> str:
    return " ".join(
        [f"condsim bench benchmark={benchmark}", *(f"benchmark.{key}={value}" for key, value in options.items())]
    )


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--annotations", type=Path, default=os.environ.get("CONDSIM_ANNOTATIONS"), required=False)
    parser.add_argument("--count", type=int, default=300, help="templates a task, and CIRR queries a split")
    parser.add_argument("--all", action="store_true", help="all templates and queries")
    chosen = parser.parse_args(None if arguments is None else list(arguments))
    if chosen.annotations is None:
        parser.error("set CONDSIM_ANNOTATIONS or --annotations to a folder that holds genecis/ and cirr/")
    count = None if chosen.all else chosen.count
    source = Path(chosen.annotations)
    print(command("genecis", render_genecis(source / "genecis", chosen.out / "genecis", count)))
    for split in cirr.SPLITS:
        print(command("cirr", render_cirr(source / "cirr", chosen.out / "cirr", count, split)))


if __name__ == "__main__":
    main()
