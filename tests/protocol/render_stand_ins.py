"""Render small images at the real ids, so that the benchmarks run end to end from the real annotation files.

    python tests/protocol/render_stand_ins.py OUT            300 templates per task, 300 queries per split or category
    python tests/protocol/render_stand_ins.py OUT --all      all of them

OUT is then what a user would have: genecis/{templates,visual_genome,coco}, cirr/{captions,image_splits,images},
circo/{annotations,COCO2017_unlabeled}, cola/{pairs.json,images} and fashioniq/{captions,image_splits,images}.
The pictures mean nothing: what runs on them shows that the data of a protocol fit together, and what that costs.
CIRCO's gallery is the images that its annotations name, because the list of all of them (COCO) is not at hand.
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

from condsim.datasets import circo, cirr, fashioniq, genecis

Box = tuple[float, float, float, float]


def draw(path: Path, size: tuple[int, int], boxes: Sequence[Box] = ()) -> None:
    """A picture with a ground, a disc and each box in colours that its name decides, if it is not there yet."""
    if path.exists():  # two splits share a gallery
        return
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


def render_genecis(templates: Path, out: Path, count: int | None) -> dict[str, Any]:
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
    for number in sorted(coco):
        draw(out / "coco" / f"{number:012d}.jpg", (96, 72))
    return {name: str(out / name) for name in ("templates", "visual_genome", "coco")}


def render_cirr(annotations: Path, out: Path, count: int | None, split: str = "val") -> dict[str, Any]:
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


def render_circo(annotations: Path, out: Path, count: int | None, split: str = "val") -> dict[str, Any]:
    """The first ``count`` queries of a split (None: all) and the images that both splits name; returns the options."""
    entries = {name: json.loads((annotations / f"{name}.json").read_text()) for name in circo.SPLITS}
    ids = {entry["reference_img_id"] for part in entries.values() for entry in part}
    ids |= {image for entry in entries["val"] for image in entry["gt_img_ids"]}
    images = out / "COCO2017_unlabeled"
    for path, value in (
        (out / "annotations" / f"{split}.json", first(entries[split], count)),
        (
            images / "annotations" / circo.IMAGE_INFO,
            {"images": [{"id": image, "file_name": f"{image:012d}.jpg"} for image in sorted(ids)]},
        ),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
    for image in sorted(ids):
        draw(images / "unlabeled2017" / f"{image:012d}.jpg", (32, 24))
    return {"annotations": str(out), "images": str(images), "split": split}


def render_cola(file: Path, out: Path, count: int | None) -> dict[str, Any]:
    """The first ``count`` pairs (None: all) and their images; returns the options."""
    entries = first(json.loads(file.read_text()), count)
    out.mkdir(parents=True, exist_ok=True)
    (out / "pairs.json").write_text(json.dumps(entries))
    for link in {link for entry in entries for link in entry[::2]}:
        draw(out / "images" / link.rsplit("/", 1)[1], (48, 36))
    return {"annotations": str(out / "pairs.json"), "images": str(out / "images")}


def render_fashioniq(annotations: Path, out: Path, count: int | None) -> dict[str, Any]:
    """The first ``count`` queries of each category (None: all), the images that they name and, with ``count``, as many
    others of the split; returns the options.
    """
    for category in fashioniq.CATEGORIES:
        queries = first(json.loads(fashioniq.caption_file(annotations, category).read_text()), count)
        named = {query[key] for query in queries for key in ("candidate", "target")}
        every = json.loads(fashioniq.split_file(annotations, category).read_text())
        others = first([name for name in every if name not in named], count)
        for path, value in (
            (fashioniq.caption_file(out, category), queries),
            (fashioniq.split_file(out, category), [name for name in every if name in named or name in set(others)]),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(value))
        for number, name in enumerate((*sorted(named), *others)):
            draw(out / "images" / f"{name}.{('png', 'jpg')[number % 2]}", (24, 32))
    return {"annotations": str(out), "images": str(out / "images")}


def command(benchmark: str, options: dict[str, str]) -> str:
    return " ".join(
        [f"condsim bench benchmark={benchmark}", *(f"benchmark.{key}={value}" for key, value in options.items())]
    )


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--annotations", type=Path, default=os.environ.get("CONDSIM_ANNOTATIONS"), required=False)
    parser.add_argument("--count", type=int, default=300, help="templates per task, queries per split")
    parser.add_argument("--all", action="store_true", help="all templates and queries")
    chosen = parser.parse_args(None if arguments is None else list(arguments))
    if chosen.annotations is None:
        parser.error("set CONDSIM_ANNOTATIONS or --annotations to the folder of genecis/, cirr/, circo/, fashioniq/")
    count = None if chosen.all else chosen.count
    source = Path(chosen.annotations)
    print(command("genecis", render_genecis(source / "genecis", chosen.out / "genecis", count)))
    for split in cirr.SPLITS:
        print(command("cirr", render_cirr(source / "cirr", chosen.out / "cirr", count, split)))
    for split in circo.SPLITS:
        print(command("circo", render_circo(source / "circo" / "annotations", chosen.out / "circo", count, split)))
    cola_file = source / "binding" / "cola" / "multiobjects.json"
    print(command("cola", render_cola(cola_file, chosen.out / "cola", count)))
    print(command("fashioniq", render_fashioniq(source / "fashioniq", chosen.out / "fashioniq", count)))


if __name__ == "__main__":
    main()
