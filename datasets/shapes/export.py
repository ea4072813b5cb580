"""Write the world to disk in the file formats of the real benchmarks, so that their loaders read it.

    genecis/{focus,change}_{attribute,object}.json, <task>.kinds.json beside them, vg/<id>.jpg, coco/<12 digits>.jpg,
        coco/categories.csv (image, category: the output of a perfect detector)
    mit_states/images/"adjective noun"/*.jpg, test_nouns.json
    cirr/captions/cap.rc2.{train,val}.json, image_splits/split.rc2.{train,val}.json, dev/*.png, train/<n>/*.png
    labelled/{train,val,test}.csv (image, one column per attribute; train also caption), images/
    circo/annotations/val.json, COCO2017_unlabeled/{annotations/image_info_unlabeled2017.json,unlabeled2017/*.jpg}
    fashioniq/{captions/cap.<category>.val.json,image_splits/split.<category>.val.json,images/*.png}
    instance/{image_queries,text_queries,gallery}.csv, images/
    binding/pairs.json (COLA's entries, with more images), pairs.labels.json, images/*.jpg,
        images/parts.csv (image, category: the objects of each scene)
    captions/train.csv (image, caption), images/
    domains/{query,database}_files.csv (path domain class, with blanks between them), <domain>/<shape>/*.jpg

Pictures of whole scenes have the backbone's 64 pixels. Pictures that are cropped are larger, so that the crops have
detail.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from condsim.datasets.shapes.annotations import (
    attribute_types,
    instances_by_color,
    instances_by_shape,
    label_rows,
    scene_bags,
)
from condsim.datasets.shapes.binding import DISTRACTORS, part_phrases, sample_binding
from condsim.datasets.shapes.captions import caption_scenes
from condsim.datasets.shapes.domains import FOLDER, sample_drawings
from condsim.datasets.shapes.edits import MEMBERS, EditedSets, sample_sets
from condsim.datasets.shapes.garments import CATEGORIES, sample_garments
from condsim.datasets.shapes.render import render
from condsim.datasets.shapes.several_positives import sample_several_positives
from condsim.datasets.shapes.sizes import WorldSizes, missing_parts, world_folder
from condsim.datasets.shapes.world import (
    COLORS,
    SHAPES,
    SIZES,
    TEXTURES,
    Scenes,
    Split,
    allowed_combinations,
    concatenate,
    place,
    sample_scenes,
)
from condsim.datasets.templates import (
    change_attribute_templates,
    focus_attribute_templates,
    object_templates,
    write_templates,
)
from condsim.harness.process.cores import available_cores, one_core_each

DRAW = 3  # seed of the random numbers; separate from the version, so that a new file changes no picture
SCENE_PIXELS = 64
CROPPED_PIXELS = 96
# The backbone was trained in white light. Coloured light simulates the gap between training and use: without it, the
# backbone reads every attribute, and every task saturates.
LIGHT = 0.18
# A noun is a size and a shape in one word ("large-star"): the protocol's intervals and tests count nouns, not queries,
# and shapes alone would be too few nouns. Two shapes are in the training folders only.
TRAIN_NOUN_SHAPES = ("triangle", "ring")
TEST_NOUNS = tuple(f"{size}-{shape}" for shape in SHAPES if shape not in TRAIN_NOUN_SHAPES for size in SIZES)
TRAIN_NOUNS = tuple(f"{size}-{shape}" for shape in TRAIN_NOUN_SHAPES for size in SIZES)


class _Pictures:
    """Renders and writes scenes in background threads; `wait` raises the first error of a thread."""

    def __init__(self, threads: int) -> None:
        # One batch of scenes per core: sharing each small operation between the cores gains nothing, and took five
        # times as long where another process used one of them.
        self._pool = one_core_each(threads)
        self._pending: list[Future[None]] = []

    def write(self, scenes: Scenes, paths: Sequence[Path], pixels: int = SCENE_PIXELS, step: int = 256) -> None:
        for folder in {p.parent for p in paths}:
            folder.mkdir(parents=True, exist_ok=True)
        for start in range(0, len(paths), step):
            rows = slice(start, start + step)
            self._pending.append(self._pool.submit(_draw, scenes.take(rows), paths[rows], pixels))

    def wait(self) -> None:
        for future in self._pending:
            future.result()
        self._pool.shutdown()


def _draw(scenes: Scenes, paths: Sequence[Path], pixels: int) -> None:
    # Rendering large canvases in small chunks keeps them in the processor's cache.
    chunk = max(8, 128 * SCENE_PIXELS**2 // pixels**2)
    _save(render(scenes, pixels, light=LIGHT, chunk=chunk).permute(0, 2, 3, 1).contiguous().numpy(), paths)


def _save(images: np.ndarray, paths: Iterable[Path]) -> None:
    for image, path in zip(images, paths, strict=True):
        options: dict[str, Any] = {"quality": 95, "subsampling": 0} if path.suffix == ".jpg" else {"compress_level": 1}
        Image.fromarray(image).save(path, **options)


def ensure_world(cache_dir: str | Path, seed: int = 0, sizes: WorldSizes | None = None) -> Path:
    """The folder of the world, written on first use.

    A part gets its final name only when it is complete. Parts that an earlier release did not have are added. A lock
    lets one process at a time write it.
    """
    cache, sizes = Path(cache_dir), sizes or WorldSizes()
    target = world_folder(cache, seed, sizes)
    if not missing_parts(target):
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{target.name}.lock"):
        if missing := missing_parts(target):
            part = cache / f"{target.name}.part"
            shutil.rmtree(part, ignore_errors=True)  # left by a killed process: only this one holds the lock
            write_world(part, seed, sizes, missing)
            target.mkdir(exist_ok=True)
            for folder in missing:
                os.replace(part / folder, target / folder)
            part.rmdir()
    return target


def write_world(
    root: str | Path, seed: int = 0, sizes: WorldSizes | None = None, folders: Sequence[str] | None = None
) -> None:
    """Write the world below `root`, or those of its `folders`. The same seed and sizes give the same files."""
    root, sizes = Path(root), sizes or WorldSizes()
    pictures = _Pictures(threads=min(4, available_cores()))
    chosen = [
        (number, write) for number, (write, folder) in enumerate(_PARTS.items()) if folders is None or folder in folders
    ]
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("rendering the world shapes", total=len(chosen) + 1)
        for number, write in chosen:
            write(root, np.random.default_rng([seed, DRAW, number]), sizes, pictures)
            progress.advance(bar)
        pictures.wait()
        progress.advance(bar)


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, separators=(",", ":")))


def _write_attribute_tasks(root: Path, rng: np.random.Generator, sizes: WorldSizes, pictures: _Pictures) -> None:
    scenes = sample_scenes(rng, sizes.attribute_scenes, "test")
    ids = [str(i + 1) for i in range(len(scenes))]
    pictures.write(scenes, [root / "genecis" / "vg" / f"{i}.jpg" for i in ids], CROPPED_PIXELS)
    by_shape, by_color = (f(scenes, ids, CROPPED_PIXELS) for f in (instances_by_shape, instances_by_color))
    types, shapes = attribute_types(), attribute_types(("shape",))
    per_type = -(-sizes.templates // 5)  # five attribute types
    focus = focus_attribute_templates(by_shape, types, per_type, rng) + focus_attribute_templates(
        by_color, shapes, per_type, rng
    )
    write_templates(root / "genecis", "focus_attribute", focus, sizes.templates, rng)
    per_value = -(-sizes.templates // (len(types) + len(shapes)))
    change = change_attribute_templates(by_shape, types, per_value, rng) + change_attribute_templates(
        by_color, shapes, per_value, rng
    )
    write_templates(root / "genecis", "change_attribute", change, sizes.templates, rng)


def _write_object_tasks(root: Path, rng: np.random.Generator, sizes: WorldSizes, pictures: _Pictures) -> None:
    scenes = sample_scenes(rng, sizes.object_scenes, "test", (2, 3, 4))
    ids = list(range(1, len(scenes) + 1))
    pictures.write(scenes, [root / "genecis" / "coco" / f"{i:012d}.jpg" for i in ids])
    bags = scene_bags(scenes, ids)
    rows = [(f"{i:012d}.jpg", category) for i in ids for category in sorted(bags[i])]
    images, categories = zip(*rows, strict=True)
    _write_csv(root / "genecis" / "coco" / "categories.csv", {"image": images, "category": categories})
    for task, change in (("focus_object", False), ("change_object", True)):
        templates = object_templates(
            bags, sizes.templates, rng, min_categories=4, min_shared=2, max_far=1, change=change
        )
        write_templates(root / "genecis", task, templates, sizes.templates, rng)


def _write_mit_states(root: Path, rng: np.random.Generator, sizes: WorldSizes, pictures: _Pictures) -> None:
    """One folder per noun (size, shape) and adjective (colour or texture). Test nouns show objects of the test split,
    the other nouns objects of the training split.
    """
    folder = root / "mit_states"
    parts: tuple[tuple[Split, tuple[str, ...], int], ...] = (
        ("test", TEST_NOUNS, sizes.mit_test_images),
        ("train", TRAIN_NOUNS, sizes.mit_train_images),
    )
    for split, nouns, images in parts:
        # A shape's test colour has no training folder.
        pairs = [
            (noun, adjective)
            for noun in nouns
            for adjective in states_of(noun)
            if len(_combinations(split, noun, adjective))
        ]
        scenes = _described(rng, split, pairs, images)
        names = [f"{adjective} {noun}" for noun, adjective in pairs for _ in range(images)]
        pictures.write(scenes, [folder / "images" / n / f"{i:06d}.jpg" for i, n in enumerate(names)])
    _write_json(folder / "test_nouns.json", sorted(TEST_NOUNS))


def states_of(noun: str) -> tuple[str, ...]:
    """The adjectives of a noun: four colours and two textures. As in MIT-States, a noun has few of all adjectives."""
    place = (*TEST_NOUNS, *TRAIN_NOUNS).index(noun)
    colors = (COLORS[(3 * place + step) % len(COLORS)] for step in (0, 1, 4, 6))
    textures = (TEXTURES[(place + step) % len(TEXTURES)] for step in (0, 2))
    return (*colors, *textures)


def _described(rng: np.random.Generator, split: Split, pairs: list[tuple[str, str]], images: int) -> Scenes:
    """Scenes with one object, `images` per (noun, adjective). The split limits the draw of the other attributes."""
    shape, color, texture, size = [], [], [], []
    for noun, adjective in pairs:
        cells = _combinations(split, noun, adjective)
        drawn = cells[rng.integers(len(cells), size=images)]
        named_size, named_shape = noun.split("-")
        shape.append(np.full(images, SHAPES.index(named_shape)))
        size.append(np.full(images, SIZES.index(named_size)))
        color.append(drawn[:, 0])
        texture.append(drawn[:, 1])
    base = sample_scenes(rng, images * len(pairs), split, (1,))
    arrays = {name: getattr(base, name).copy() for name in ("shape", "color", "texture", "size")}
    for name, column in (("shape", shape), ("color", color), ("texture", texture), ("size", size)):
        arrays[name][:, 0] = np.concatenate(column)
    return place(rng, base.count, **arrays, background=base.background, pattern=base.pattern)


def _combinations(split: Split, noun: str, adjective: str) -> np.ndarray:
    """The (colour, texture) pairs [m, 2] with the adjective that the split allows for the noun."""
    allowed = allowed_combinations(split)[SHAPES.index(noun.split("-")[1])]
    fits = np.zeros(allowed.shape, dtype=bool)
    fits[COLORS.index(adjective) if adjective in COLORS else slice(None),
         TEXTURES.index(adjective) if adjective in TEXTURES else slice(None)] = True  # fmt: skip
    return np.argwhere(fits & allowed)


def _write_cirr(root: Path, rng: np.random.Generator, sizes: WorldSizes, pictures: _Pictures) -> None:
    """CIRR's val split, which is evaluated, shows test scenes; its train split shows training scenes."""
    folder = root / "cirr"
    pair = 0
    parts: tuple[tuple[str, Split, str, int], ...] = (
        ("val", "test", "dev", sizes.cirr_val_sets),
        ("train", "train", "train", sizes.cirr_train_sets),
    )
    for split, world, prefix, count in parts:
        sets = sample_sets(rng, count, world)
        names = [f"{prefix}-{i // MEMBERS}-{i % MEMBERS}-img0" for i in rng.permutation(count * MEMBERS)]
        where = [
            f"./{prefix}/{n}.png" if split == "val" else f"./train/{i // MEMBERS % 100}/{n}.png"
            for i, n in enumerate(names)
        ]
        pictures.write(sets.scenes, [folder / w for w in where])
        entries = cirr_entries(rng, sets, names, sizes.cirr_queries, pair)
        pair += len(entries)
        _write_json(folder / "captions" / f"cap.rc2.{split}.json", entries)
        _write_json(folder / "image_splits" / f"split.rc2.{split}.json", dict(zip(names, where, strict=True)))


def cirr_entries(
    rng: np.random.Generator, sets: EditedSets, names: list[str], queries: int, first: int
) -> list[dict[str, Any]]:
    """`queries` of the ten queries per set, in CIRR's keys: from the unedited scene to an edited one or back.

    A member's rank is the number of its edit, 0 for the unedited scene.
    """
    entries: list[dict[str, Any]] = []
    for number, start in enumerate(range(0, len(names), MEMBERS)):
        shown = [names[start + int(k)] for k in rng.permutation(MEMBERS)]
        ways = [(0, k) for k in range(1, MEMBERS)] + [(k, 0) for k in range(1, MEMBERS)]
        for way in sorted(rng.permutation(len(ways))[:queries]):
            source, goal = ways[way]
            caption = sets.to[start + goal] if source == 0 else sets.back[start + source]
            entries.append({
                "pairid": first + len(entries),
                "reference": names[start + source],
                "target_hard": names[start + goal],
                "target_soft": {names[start + goal]: 1.0},
                "caption": caption,
                "img_set": {"id": number, "members": shown, "reference_rank": source, "target_rank": goal},
            })  # fmt: skip
    return entries


def _write_circo(root: Path, rng: np.random.Generator, sizes: WorldSizes, pictures: _Pictures) -> None:
    folder = root / "circo"
    sample = sample_several_positives(rng, sizes.circo_sets, "test")
    files = [f"{number:012d}.jpg" for number in sample.ids]
    pictures.write(sample.scenes, [folder / "COCO2017_unlabeled" / "unlabeled2017" / file for file in files])
    listed = [{"id": number, "file_name": file} for number, file in sorted(zip(sample.ids, files, strict=True))]
    _write_json(folder / "COCO2017_unlabeled" / "annotations" / "image_info_unlabeled2017.json", {"images": listed})
    _write_json(folder / "annotations" / "val.json", sample.queries)


def _write_fashioniq(root: Path, rng: np.random.Generator, sizes: WorldSizes, pictures: _Pictures) -> None:
    folder = root / "fashioniq"
    for category in CATEGORIES:
        sample = sample_garments(rng, category, sizes.garments, sizes.garment_queries, "test")
        names = [f"{category}{number:04d}" for number in rng.permutation(len(sample.scenes))]
        pictures.write(sample.scenes, [folder / "images" / f"{name}.png" for name in names])
        queries = [
            {"target": names[target], "candidate": names[reference], "captions": list(captions)}
            for reference, target, captions in sample.queries
        ]
        _write_json(folder / "captions" / f"cap.{category}.val.json", queries)
        _write_json(folder / "image_splits" / f"split.{category}.val.json", sorted(names))


def _write_binding(root: Path, rng: np.random.Generator, sizes: WorldSizes, pictures: _Pictures) -> None:
    folder = root / "binding"
    sample = sample_binding(rng, sizes.binding_queries, "test")
    files = [f"{number:05d}.jpg" for number in rng.permutation(len(sample.scenes))]
    pictures.write(sample.scenes, [folder / "images" / file for file in files])
    captions: list[str | None] = [None] * len(files)
    captions[:: 1 + DISTRACTORS] = sample.texts
    flat = [item for pair in zip(files, captions, strict=True) for item in pair]
    step = 2 * (1 + DISTRACTORS)
    _write_json(folder / "pairs.json", [flat[i : i + step] for i in range(0, len(flat), step)])
    _write_json(folder / "pairs.labels.json", sample.labels)
    seen = [
        (file, phrase) for i, file in enumerate(files) for phrase in part_phrases(sample.scenes.take(slice(i, i + 1)))
    ]
    images, categories = zip(*sorted(seen), strict=True)
    _write_csv(folder / "images" / "parts.csv", {"image": images, "category": categories})


def _write_csv(path: Path, columns: dict[str, Sequence[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _write_labelled(root: Path, rng: np.random.Generator, sizes: WorldSizes, pictures: _Pictures) -> None:
    folder = root / "labelled"
    counts: dict[Split, int] = {"train": sizes.labelled_train, "val": sizes.labelled_val, "test": sizes.labelled_test}
    for split, count in counts.items():
        scenes = sample_scenes(rng, count, split, (1,))
        images = [f"images/{split}/{i:05d}.jpg" for i in range(count)]
        pictures.write(scenes, [folder / i for i in images])
        columns: dict[str, Any] = {"image": images, **label_rows(scenes)}
        if split == "train":
            columns["caption"] = caption_scenes(rng, scenes, np.zeros(count, dtype=bool), full=0.5).texts
        _write_csv(folder / f"{split}.csv", columns)


def _write_instances(root: Path, rng: np.random.Generator, sizes: WorldSizes, pictures: _Pictures) -> None:
    """Objects, each in several pictures with other positions and backgrounds; other objects are the distractors.

    Two query tables have the same instances: the query is one of their pictures, or their name.
    """
    folder = root / "instance"
    drawn = sample_scenes(rng, 4 * sizes.instances, "test", (1,))
    _, first = np.unique(_names(drawn), return_index=True)
    instances = drawn.take(np.sort(first)[: sizes.instances])
    names = _names(instances)
    others = sample_scenes(rng, sizes.instance_distractors, "test", (1,))
    others = others.take(np.flatnonzero(~np.isin(_names(others), names)))
    shown = instances.take(np.repeat(np.arange(len(instances)), sizes.instance_views))
    ground = sample_scenes(rng, len(shown), "test", (1,))
    views = place(
        rng, shown.count, shown.shape, shown.color, shown.texture, shown.size, ground.background, ground.pattern
    )
    files = [f"images/{i:05d}.jpg" for i in rng.permutation(len(views) + len(others))]
    pictures.write(concatenate([views, others]), [folder / file for file in files])
    lists = [files[i : i + sizes.instance_views] for i in range(0, len(views), sizes.instance_views)]
    ids, positives = [f"{i:04d}" for i in range(len(lists))], ["|".join(own[1:]) for own in lists]
    queries = [own[0] for own in lists]
    _write_csv(folder / "image_queries.csv", {"id": ids, "image": queries, "positives": positives})
    _write_csv(folder / "text_queries.csv", {"id": ids, "text": names, "positives": positives})
    _write_csv(folder / "gallery.csv", {"image": sorted(set(files) - set(queries))})


def _names(scenes: Scenes) -> list[str]:
    """The names of the objects of scenes with one object, such as "large checkered blue star"."""
    words = label_rows(scenes)
    columns = (words[attribute] for attribute in ("size", "texture", "color", "shape"))
    return [" ".join(parts) for parts in zip(*columns, strict=True)]


def _write_captioned(root: Path, rng: np.random.Generator, sizes: WorldSizes, pictures: _Pictures) -> None:
    folder = root / "captions"
    scenes = sample_scenes(rng, sizes.captioned, "train")
    images = [f"images/{i:05d}.jpg" for i in range(len(scenes))]
    pictures.write(scenes, [folder / i for i in images])
    texts = caption_scenes(rng, scenes, np.zeros(len(scenes), dtype=bool), full=0.5).texts
    _write_csv(folder / "train.csv", {"image": images, "caption": texts})


def _write_domains(root: Path, rng: np.random.Generator, sizes: WorldSizes, pictures: _Pictures) -> None:
    folder = root / FOLDER
    sample = sample_drawings(rng, sizes.domain_images + sizes.domain_queries, "test")
    kinds = list(zip(sample.domains, sample.shapes, strict=True))
    names = [f"{domain}/{shape}/{number:04d}.jpg" for number, (domain, shape) in enumerate(kinds)]
    pictures.write(sample.scenes, [folder / name for name in names])
    lines = [f"{FOLDER}/{name} {domain} {shape}" for name, (domain, shape) in zip(names, kinds, strict=True)]
    each = sizes.domain_images + sizes.domain_queries
    for file, first, last in (("database", 0, sizes.domain_images), ("query", sizes.domain_images, each)):
        listed = [line for number, line in enumerate(lines) if first <= number % each < last]
        (folder / f"{file}_files.csv").write_text("".join(f"{line}\n" for line in listed), encoding="utf-8")


_PARTS: Mapping[Callable[[Path, np.random.Generator, WorldSizes, _Pictures], None], str] = {
    _write_attribute_tasks: "genecis",
    _write_object_tasks: "genecis",
    _write_mit_states: "mit_states",
    _write_cirr: "cirr",
    _write_labelled: "labelled",
    _write_captioned: "captions",
    _write_instances: "instance",
    _write_circo: "circo",
    _write_binding: "binding",
    _write_fashioniq: "fashioniq",
    _write_domains: FOLDER,
}
"""What writes a part -> its folder. A part's place is part of its seed: new ones go to the end."""
