"""Which files and folders of a benchmark exist. Works with incomplete data too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from hydra.utils import get_method

from condsim.datasets import (
    circo,
    cirr,
    cola,
    domain_conversion,
    fashioniq,
    genecis,
    gldv2,
    icir,
    lasco,
    macir,
    patterncom,
    revisited,
    zappos,
)
from condsim.datasets.annotations import read_list
from condsim.datasets.image_files import NamedFiles, image_index, moved
from condsim.datasets.survey import Options, Part, Survey
from condsim.harness.errors import CondsimError
from condsim.harness.task import Benchmark, ImageTable, Task


def survey(config: Options) -> Survey:
    """Survey the files of the benchmark that ``config`` describes. Raises nothing: every error becomes a problem."""
    target = str(config.get("_target_", ""))
    special: Mapping[str, Callable[[Options], Survey]] = {
        "condsim.datasets.genecis.load": survey_genecis,
        "condsim.datasets.cirr.load": survey_cirr,
        "condsim.datasets.circo.load": survey_circo,
        "condsim.datasets.cola.load": cola.survey,
        "condsim.datasets.fashioniq.load": survey_fashioniq,
        "condsim.datasets.icir.load": icir.survey,
        "condsim.datasets.domain_conversion.load": domain_conversion.survey,
        "condsim.datasets.revisited.load": revisited.survey,
        "condsim.datasets.gldv2.load": gldv2.survey,
        "condsim.datasets.patterncom.load": patterncom.survey,
        "condsim.datasets.lasco.load": lasco.survey,
        "condsim.datasets.macir.load": macir.survey,
        "condsim.datasets.zappos.load": zappos.survey,
    }
    try:
        return special.get(target, survey_by_loading)(config)
    except CondsimError as error:
        return Survey((), (), (str(error),))
    except Exception as error:  # a user's loader may raise anything, and the survey reports it
        return Survey((), (), (f"{target}: {type(error).__name__}: {error}",))


TEMPLATES = {"focus_attribute": 2_000, "change_attribute": 2_112, "focus_object": 1_960, "change_object": 1_960}
NAMED_IMAGES = {"visual_genome": 23_640, "coco": 3_033}
ALL_IMAGES = {"visual_genome": 108_249, "coco": 5_000}


def survey_genecis(options: Options) -> Survey:
    tasks = tuple(options.get("tasks") or genecis.TASKS)
    parts: list[Part] = []
    problems: list[str] = []
    read: dict[str, list[Task]] = {genecis.image_folder(task): [] for task in tasks}
    folder = options.get("templates")
    for name in tasks:
        what = f"{name}: templates"
        if not folder:
            parts.append(Part(what, "benchmark.templates is not set", None, TEMPLATES[name]))
            continue
        path = Path(folder).expanduser() / f"{name}.json"
        try:
            task = genecis.read_task(path, Path(), None, name, on_error="skip")
        except CondsimError as error:
            problems.append(str(error))
            parts.append(Part(what, str(path), None, TEMPLATES[name]))
        else:
            problems += task.skipped
            parts.append(Part(what, str(path), len(task), TEMPLATES[name]))
            read[genecis.image_folder(name)].append(task)
    tables: list[ImageTable] = []
    for key, with_images in read.items():
        named = {name for task in with_images for name in task.images.names}
        whole = {task for task in genecis.TASKS if genecis.image_folder(task) == key} <= set(tasks)
        expected = len(named) if named else NAMED_IMAGES[key] if whole else None
        what = f"{key}: images that the templates name"
        value = options.get(key)
        root = Path(value).expanduser() if value else None
        if root is None or not root.is_dir():
            place = f"{root} is not a folder" if root else f"benchmark.{key} is not set"
            parts.append(Part(what, place, None, expected))
            continue
        index = image_index(root, genecis.SUBFOLDERS[key])
        note = f"{len(index):,} images in the folder; published: {ALL_IMAGES[key]:,}"
        parts.append(Part(what, str(root), len(named & index.keys()), expected, note))
        images = (task.images for task in with_images)
        tables += [replace(table, root=root, files=moved(table.names, index)) for table in images]
    return Survey(tuple(parts), tuple(tables), tuple(problems))


QUERIES = {"val": 4_181, "test1": 4_148}
NAMES = {"train": 16_939, "val": 2_297, "test1": 2_315}


def survey_cirr(options: Options) -> Survey:
    split = str(options.get("split"))
    parts: list[Part] = []
    problems: list[str] = []
    files: dict[str, str] = {}
    folder = options.get("annotations")
    root = Path(options["images"]).expanduser() if options.get("images") else None
    if folder:
        annotations = cirr.annotation_root(Path(folder).expanduser())
        try:
            files = cirr.read_split(annotations, split)
            task = cirr.read_task(annotations, Path(), split, on_error="skip", find_images=False)
            problems += task.skipped
            queries: int | None = len(task)
        except CondsimError as error:
            problems.append(str(error))
            queries = None
        captions, names = (str(path(annotations, split)) for path in (cirr.caption_file, cirr.split_file))
        parts.append(Part(f"{split}: queries", captions, queries, QUERIES.get(split)))
        parts.append(Part(f"{split}: image names", names, len(files) or None, NAMES.get(split)))
    else:
        parts.append(Part(f"{split}: queries", "benchmark.annotations is not set", None, QUERIES.get(split)))
    if root is None or not root.is_dir():
        place = f"{root} is not a folder" if root else "benchmark.images is not set"
        parts.append(Part(f"{split}: images", place, None, len(files) or NAMES.get(split)))
        return Survey(tuple(parts), (), tuple(problems))
    table = ImageTable(cirr.image_root(root), tuple(files.values()))
    on_disk = NamedFiles(table.root)
    found = sum(on_disk.find(name) for name in table.names)
    table = replace(table, files=on_disk.files)
    parts.append(Part(f"{split}: images", str(table.root), found, len(files) or NAMES.get(split)))
    return Survey(tuple(parts), (table,), tuple(problems))


CIRCO_QUERIES = {"val": 220, "test": 800}
CIRCO_GALLERY = 123_403


def survey_circo(options: Options) -> Survey:
    split = str(options.get("split"))
    parts: list[Part] = []
    problems: list[str] = []
    folder, value = options.get("annotations"), options.get("images")
    root = circo.picture_folder(Path(value).expanduser()) if value else None
    info = circo.image_info_file(options.get("image_info"), Path(value).expanduser() if value else Path())
    files: tuple[str, ...] = ()
    try:
        files = tuple(circo.read_gallery(info).values())
    except CondsimError as error:
        problems.append(str(error))
    if folder:
        annotations = circo.annotation_root(Path(folder).expanduser())
        queries = None
        try:
            if files:
                task = circo.read_task(annotations, info, Path(), split, on_error="skip", find_images=False)
                problems += task.skipped
                queries = len(task)
            else:  # without COCO's list the images cannot be looked up
                queries = len(read_list(annotations / f"{split}.json", "a list of CIRCO queries"))
        except CondsimError as error:
            problems.append(str(error))
        parts.append(Part(f"{split}: queries", str(annotations), queries, CIRCO_QUERIES.get(split)))
    else:
        parts.append(Part(f"{split}: queries", "benchmark.annotations is not set", None, CIRCO_QUERIES.get(split)))
    parts.append(Part("image names", str(info), len(files) or None, CIRCO_GALLERY))
    if root is None or not root.is_dir():
        place = f"{root} is not a folder" if root else "benchmark.images is not set"
        parts.append(Part("images", place, None, len(files) or CIRCO_GALLERY))
        return Survey(tuple(parts), (), tuple(problems))
    found = len(set(files) & image_index(root).keys())
    parts.append(Part("images", str(root), found, len(files) or CIRCO_GALLERY))
    return Survey(tuple(parts), (ImageTable(root, files),) if files else (), tuple(problems))


FASHIONIQ_QUERIES = {"dress": 2_017, "shirt": 2_038, "toptee": 1_961}
FASHIONIQ_GALLERIES = {
    "original": {"dress": 3_817, "shirt": 6_346, "toptee": 5_373},
    "val": {"dress": 2_628, "shirt": 3_089, "toptee": 2_902},
}


def survey_fashioniq(options: Options) -> Survey:
    parts: list[Part] = []
    problems: list[str] = []
    notes: list[str] = []
    tables: list[ImageTable] = []
    folder, value, gallery = options.get("annotations"), options.get("images"), str(options.get("gallery"))
    root = Path(value).expanduser() if value else None
    index = fashioniq.index_images(root) if root is not None and root.is_dir() else None
    for category in tuple(options.get("tasks") or fashioniq.CATEGORIES):
        queries, size = FASHIONIQ_QUERIES.get(category), FASHIONIQ_GALLERIES.get(gallery, {}).get(category)
        if not folder:
            parts.append(Part(f"{category}: queries", "benchmark.annotations is not set", None, queries))
            continue
        captions = fashioniq.caption_file(Path(folder).expanduser(), category)
        splits = fashioniq.split_file(Path(folder).expanduser(), category)
        try:
            task = fashioniq.read_task(
                Path(folder).expanduser(), root or Path(), None, category, gallery=gallery, on_error="skip"
            )
            blank = fashioniq.blank_captions(Path(folder).expanduser(), category)
        except CondsimError as error:
            problems.append(str(error))
            parts.append(Part(f"{category}: queries", str(captions), None, queries))
            continue
        problems += task.skipped
        notes += blank
        parts.append(Part(f"{category}: queries", str(captions), len(task), queries))
        parts.append(Part(f"{category}: gallery {gallery}", str(splits), len(task.images), size))
        if index is None:
            place = f"{root} is not a folder" if root else "benchmark.images is not set"
            parts.append(Part(f"{category}: images", place, None, len(task.images)))
        else:
            names = task.images.names
            parts.append(Part(f"{category}: images", str(root), len(set(names) & index.keys()), len(names)))
            tables.append(replace(task.images, files=moved(names, index)))
    return Survey(tuple(parts), tuple(tables), tuple(problems), tuple(notes))


NOTES = {"mit_states/test": "others' logs say about 82,732 queries over 10,546 images"}
LEAVE_ONE_OUT = {
    "cars196": 8_131, "cub200": 4_462, "deepfashion_inshop": 4_000, "movie_posters": 8_052, "synthetic_cars": 1_000,
}  # fmt: skip
"""Benchmark -> number of images that each of its tasks ranks, as the outputs of InDiReCT's notebooks show it."""


def survey_by_loading(options: Options) -> Survey:
    """Survey a benchmark by loading it: one part per task."""
    arguments = {key: value for key, value in options.items() if key != "_target_"}
    if "on_error" in arguments:
        arguments["on_error"] = "skip"
    if "_target_" not in options:
        raise CondsimError("the benchmark's config has no _target_: set it to the function that loads the benchmark")
    benchmark: Benchmark = get_method(str(options["_target_"]))(**arguments)
    tables = list(_distinct(task.images for task in benchmark.tasks))
    problems = tuple(dict.fromkeys(message for task in benchmark.tasks for message in task.skipped))
    parts = []
    for task in benchmark.tasks:
        place = str(task.images.root)
        parts.append(Part(f"{task.name}: queries", place, len(task), note=NOTES.get(task.full_name, "")))
        parts.append(Part(f"{task.name}: names in the gallery", place, task.gallery_size))
    if (size := LEAVE_ONE_OUT.get(benchmark.name)) is not None:
        found = {len(task.gallery_rows) for task in benchmark.tasks}
        parts.append(Part("images with labels", str(options.get("table")), max(found), size))
    if benchmark.train is not None:
        tables.append(benchmark.train.images)
        parts.append(Part("training split: images", str(benchmark.train.images.root), len(benchmark.train.images)))
    return Survey(tuple(parts), tuple(tables), problems, benchmark.notes, benchmark.name)


def _distinct(tables: Iterator[ImageTable]) -> Iterator[ImageTable]:
    """Each table object once; several tasks may share one."""
    by_id: dict[int, ImageTable] = {id(table): table for table in tables}
    yield from by_id.values()
