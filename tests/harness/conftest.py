"""A small results folder as `condsim bench` leaves it: tasks, pictures, records, ranks. No torch, no encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from condsim.harness.hashing import settings_hash
from condsim.harness.ranking.ranks import Ranks
from condsim.harness.run.record import Measurement, Record, record_folder, write_record
from condsim.harness.run.task_file import save_task, task_path
from condsim.harness.task import ImageTable, Kinds, Ragged, Task

COLORS = {"red": "#d33", "green": "#3a5", "blue": "#36c", "yellow": "#ec3", "purple": "#93c", "white": "#eee"}
SHAPES = ("circle", "square", "triangle", "cross")


def draw(path: Path, color: str, shape: str, number: int) -> None:
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
    picture.save(path)


def make_tasks(folder: Path, queries: int, seed: int = 0, condition: str = "color", prefix: str = "") -> list[Task]:
    """Two tasks on the same pictures: "focus" has nine distractors of two kinds a query, "find" a gallery."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    looks = [(color, shape, i) for i in range(8) for color in COLORS for shape in SHAPES]
    names = [f"{prefix}{color}-{shape}-{i}.png" for color, shape, i in looks]
    for name, look in zip(names, looks, strict=True):
        draw(folder / name, *look)
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
    shared = {"images": table, "conditions": conditions, "condition": which, "reference": reference}
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
        own = task.gallery if task.candidates is None else task.candidates[i]
        assert own is not None
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
    results: Path, task: Task, method: str, strength: float, settings: dict[str, object], seed: int, **more: object
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
    parts: dict[str, object] = {
        "run": settings_hash(config), "benchmark": task.benchmark, "task": task.name, "method": method,
        "backbone": "tiny", "settings": settings, "config": config, "queries": len(task), "clusters": len(task),
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
    record = Record(**{**parts, **more})  # type: ignore[arg-type]

    def arrays(folder: Path) -> None:
        ranks.save(folder / "ranks.npz")
        np.save(folder / "top.npy", top)

    write_record(record_folder(results, task.benchmark, task.name, method, record.run), record, arrays)
    save_task(task_path(results, task.benchmark, task.name, task.fingerprint), task)
    return record


METHODS: tuple[tuple[str, float, dict[str, object]], ...] = (
    ("image_only", 0.6, {}), ("text_only", 0.1, {}), ("image_plus_text", 0.8, {}),
    ("clay", 0.5, {"rank": 1}), ("clay", 1.8, {"rank": 4}), ("clay", 1.7, {"rank": 8}), ("clay", 1.0, {"rank": 32}),
)  # fmt: skip


def make_results(
    folder: Path,
    queries: int = 60,
    methods: tuple[tuple[str, float, dict[str, object]], ...] = METHODS,
    clusters: int | None = None,
    created: str = "2026-01-01T00:00:00+00:00",
    change: Callable[[Task], Task] = lambda task: task,
    **task: str,
) -> Path:
    """A results folder with every method on both tasks, after ``change``; its pictures are in ``folder.parent /
    "pictures"``."""
    for made in map(change, make_tasks(folder.parent / "pictures", queries, **task)):  # type: ignore[arg-type]
        if clusters is not None:
            made = replace(made, clusters=np.arange(queries) % clusters)
        for seed, (method, strength, settings) in enumerate(methods):
            write_run(
                folder, made, method, strength, dict(settings), seed, clusters=clusters or len(made), created=created
            )
    return folder


@pytest.fixture(scope="session")
def results_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only: shared by the session."""
    return make_results(tmp_path_factory.mktemp("toy") / "results")


@pytest.fixture(scope="session")
def results_maker() -> Callable[..., Path]:
    return make_results
