"""What many tests build: tasks, records, results folders, and small benchmarks in the real ones' file formats.

No torch and no encoder: those are in encoders.py.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from condsim.harness.files.hashing import settings_hash
from condsim.harness.ranking.ranks import Ranks
from condsim.harness.run.record import Measurement, Record, record_folder, write_record
from condsim.harness.run.task_file import save_task, task_path
from condsim.harness.task import Condition, ImageTable, Kinds, Ragged, Task

# --- tasks and records ---------------------------------------------------------------------------------------------


def image_table(count: int) -> ImageTable:
    """A table of ``count`` images without files: 0.jpg, 1.jpg, ..."""
    return ImageTable(Path("images"), tuple(f"{i}.jpg" for i in range(count)))


def make_task(*conditions: Condition, name: str = "toy", reference: int = 0) -> Task:
    """One query per condition, on five images; the second image is relevant."""
    n = len(conditions)
    return Task(
        benchmark="bench",
        name=name,
        images=image_table(5),
        conditions=conditions or (("color",),),
        condition=np.arange(n) if n else np.array([-1]),
        reference=np.full(max(n, 1), reference),
        relevant=Ragged.of([[1]] * max(n, 1)),
        metrics=("recall@1",),
        gallery=np.arange(5),
    )


def make_record(**changes: Any) -> Record:
    """The record of a run of clay on toy/one: four queries, recall@1 of 50% with an interval from 40% to 60%."""
    parts: dict[str, Any] = {
        "run": "run", "benchmark": "toy", "task": "one", "method": "clay", "backbone": "tiny", "settings": {},
        "config": {}, "queries": 4, "clusters": 4, "cluster_name": "query",
        "metrics": {"recall@1": Measurement(0.5, 0.4, 0.6)}, "seconds": {"score": 0.1}, "versions": {},
    }  # fmt: skip
    return Record(**{**parts, **changes})


# --- a results folder as `condsim bench` leaves it -----------------------------------------------------------------

COLORS = {"red": "#d33", "green": "#3a5", "blue": "#36c", "yellow": "#ec3", "purple": "#93c", "white": "#eee"}
SHAPES = ("circle", "square", "triangle", "cross")


@cache
def drawn(color: str, shape: str, number: int) -> bytes:
    """The file of a picture with one shape."""
    picture = Image.new("RGB", (72, 64), ("#fff", "#cde", "#fed")[number % 3])
    pen = ImageDraw.Draw(picture)
    x, y = 16 + number % 7, 12 + number % 5
    box = (x, y, x + 36, y + 36)
    if shape == "circle":
        pen.ellipse(box, COLORS[color])
    elif shape == "square":
        pen.rectangle(box, COLORS[color])
    elif shape == "triangle":
        pen.polygon([(x + 18, y), (x, y + 36), (x + 36, y + 36)], COLORS[color])
    else:
        pen.line((x, y, x + 36, y + 36), COLORS[color], 9)
        pen.line((x + 36, y, x, y + 36), COLORS[color], 9)
    file = io.BytesIO()
    picture.save(file, "png")
    return file.getvalue()


def make_tasks(
    folder: Path, queries: int, seed: int = 0, condition: str = "color", prefix: str = "", pictures: bool = False
) -> list[Task]:
    """Two tasks on the same pictures: "focus" has nine distractors of two kinds per query, "find" a gallery.

    ``pictures``: whether their files are written into ``folder``.
    """
    rng = np.random.default_rng(seed)
    looks = [(color, shape, i) for i in range(8) for color in COLORS for shape in SHAPES]
    names = [f"{prefix}{color}-{shape}-{i}.png" for color, shape, i in looks]
    if pictures:
        folder.mkdir(parents=True, exist_ok=True)
        for name, look in zip(names, looks, strict=True):
            (folder / name).write_bytes(drawn(*look))
    colors, shapes = (np.array([look[part] for look in looks]) for part in (0, 1))
    rows = np.arange(len(looks))
    reference = rng.integers(0, len(looks), queries)
    which = rng.integers(0, 2, queries)
    lists, relevant, codes = [], [], []
    for row, by_shape in zip(reference, which, strict=True):
        label, other = (shapes, colors) if by_shape else (colors, shapes)
        same = rows[(label == label[row]) & (rows != row)]
        alike = rows[(label != label[row]) & (other == other[row])]
        unlike = rows[(label != label[row]) & (other != other[row])]
        target = rng.choice(same)
        lists.append([target, *rng.choice(alike, 5, replace=False), *rng.choice(unlike, 4, replace=False)])
        codes += [-1, 0, 0, 0, 0, 0, 1, 1, 1, 1]
        relevant.append([target])
    table = ImageTable(folder, tuple(names))
    conditions = ((condition,), ("shape",))
    shared: dict[str, Any] = {"images": table, "conditions": conditions, "condition": which, "reference": reference}
    focus = Task(
        "toy", "focus", **shared, relevant=Ragged.of(relevant), metrics=("recall@1", "recall@2", "recall@5"),
        candidates=Ragged.of(lists), clusters=reference, cluster_name="reference",
        kinds=Kinds(("looks like the reference", "neither"), np.array(codes)),
    )  # fmt: skip
    everywhere = [
        rows[((shapes if s else colors) == (shapes if s else colors)[r]) & (rows != r)]
        for r, s in zip(reference, which, strict=True)
    ]
    find = Task(
        "toy", "find", **shared, relevant=Ragged.of(everywhere), metrics=("recall@1", "recall@10"), gallery=rows,
        excluded=Ragged.of(reference[:, None]),
    )  # fmt: skip
    return [focus, find]


def rank_by(task: Task, scores: np.ndarray, top: int = 10) -> tuple[Ranks, np.ndarray]:
    """Ranks by scores [Q, images] without ties, by sorting; and the best candidates' rows."""
    above, places, counts, totals = [], [], [], []
    for i in range(len(task)):
        own = task.gallery_rows if task.candidates is None else task.candidates[i]
        own = own[~np.isin(own, [] if task.excluded is None else task.excluded[i])]
        order = own[np.argsort(-scores[i, own], kind="stable")]
        above.append(int(np.isin(order, task.relevant[i]).argmax()))
        places.append(np.pad(order[:top], (0, max(0, top - len(order))), constant_values=-1))
        counts.append(len(own))
        totals.append(len(task.relevant[i]))
    ones = np.ones(len(task), dtype=np.int64)
    ranks = Ranks(
        np.arange(len(task) + 1), np.array(above), ones, 0 * ones, np.array(totals), np.array(counts), complete=False
    )
    return ranks, np.array(places)


def write_run(
    results: Path, task: Task, method: str, strength: float, settings: dict[str, Any], seed: int, **more: object
) -> Record:
    """A record whose scores are noise plus ``strength`` for what is relevant."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(len(task), len(task.images)))
    for i in range(len(task)):
        scores[i, task.relevant[i]] += strength
    ranks, top = rank_by(task, scores)
    hits = {name: ranks.rank <= int(name.split("@")[1]) for name in task.metrics}
    error = {name: 1.96 * np.sqrt(hit.mean() * (1 - hit.mean()) / len(task)) for name, hit in hits.items()}
    config = {"task": task.full_name, "fingerprint": task.fingerprint, "method": method, "seed": seed,
              "method_config": {"_target_": f"toy.{method}", **settings}}  # fmt: skip
    parts: dict[str, Any] = {
        "run": settings_hash(config), "benchmark": task.benchmark, "task": task.name, "method": method,
        "settings": settings, "config": config, "queries": len(task), "clusters": len(task),
        "cluster_name": task.cluster_name, "variant": task.variant,
        "metrics": {
            name: Measurement(
                float(h.mean()), max(0.0, float(h.mean() - error[name])), min(1.0, float(h.mean() + error[name])), 0.1
            )
            for name, h in hits.items()
        },
        "seconds": {"encode": 1.5, "prepare": 0.1, "score": 0.02 * (1 + seed)}, "versions": {"condsim": "0.1.0"},
        "headlines": {"average": [["focus", "recall@1"], ["find", "recall@1"]]}, "created": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    record = make_record(**{**parts, **more})

    def arrays(folder: Path) -> None:
        ranks.save(folder / "ranks.npz")
        np.save(folder / "top.npy", top)

    write_record(record_folder(results, task.benchmark, task.name, method, record.run), record, arrays)
    save_task(task_path(results, task.benchmark, task.name, task.fingerprint), task)
    return record


Methods = tuple[tuple[str, float, dict[str, Any]], ...]
"""(method, strength, settings) of each run of a results folder."""

METHODS: Methods = (
    ("image_only", 0.6, {}), ("text_only", 0.1, {}), ("image_plus_text", 0.8, {}),
    ("clay", 0.5, {"rank": 1}), ("clay", 1.8, {"rank": 4}), ("clay", 1.7, {"rank": 8}), ("clay", 1.0, {"rank": 32}),
)  # fmt: skip


def make_results(
    folder: Path,
    queries: int = 60,
    methods: Methods = METHODS,
    clusters: int | None = None,
    created: str = "2026-01-01T00:00:00+00:00",
    change: Callable[[Task], Task] = lambda task: task,
    **task: Any,
) -> Path:
    """A results folder with every method on both tasks, after ``change``; ``task`` are the settings of ``make_tasks``,
    on the folder ``folder.parent / "pictures"``."""
    for made in map(change, make_tasks(folder.parent / "pictures", queries, **task)):
        if clusters is not None:
            made = replace(made, clusters=np.arange(queries) % clusters)
        for seed, (method, strength, settings) in enumerate(methods):
            write_run(
                folder, made, method, strength, dict(settings), seed, clusters=clusters or len(made), created=created
            )
    return folder


# --- benchmarks in the real ones' file formats ---------------------------------------------------------------------

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
    def arguments(self) -> dict[str, Any]:
        return {
            "templates": str(self.root / "templates"),
            "visual_genome": str(self.root / "vg"),
            "coco": str(self.root / "coco"),
        }


def crop(image: str, *box: float) -> dict[str, Any]:
    return {"image_id": image, "instance_bbox": list(box)}


@dataclass
class CIRR:
    """Captions and splits on disk; ``write`` puts changed ones in place."""

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
    def arguments(self) -> dict[str, Any]:
        return {"annotations": str(self.root), "images": str(self.root / "images"), "split": self.split}


def make_genecis(root: Path) -> GeneCIS:
    """Three templates of each attribute task, two of each object task, and their pictures."""
    world = GeneCIS(root)
    for number, image in enumerate(VG):
        picture(world.root / "vg" / ("VG_100K", "VG_100K_2")[number % 2] / f"{image}.jpg")
    for number in COCO:
        picture(world.root / "coco" / f"{number:012d}.jpg")
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


def make_cirr(root: Path, split: str = "val", images: int = 14) -> CIRR:
    """Eight queries about the first twelve of ``images`` images, which are two image sets of six."""
    place = {"val": "dev"}.get(split, split)
    names = [f"{place}-{i}-0-img0" for i in range(images)]
    files = {name: f"./{place}/{name}.png" for name in names}
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
