"""The tasks of the rendered world on disk, read by the loaders of the real benchmarks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from condsim.datasets import circo, cirr, cola, domain_conversion, fashioniq, genecis, instance, labelled, mit_states
from condsim.datasets.shapes.domains import DATASET, FOLDER
from condsim.harness.task import Benchmark, ImageTable, Task, TrainSplit

CONDITIONS = ("shape", "color", "texture", "size", "background")
INSTANCE_METRICS = ("map@50", "ndcg@50", "mrr")
BINDING_METRICS = ("recall@1", "recall@2")
CONDITION_PAIRS = (("color", "shape"),)


def read_world(root: Path, name: str, variant: str) -> Benchmark:
    """The tasks of GeneCIS, MIT-States, CIRR, CIRCO, FashionIQ, COLA, domain conversion, labels and instances.

    The headlines are those of the real benchmarks.
    """
    templates, edits, table = root / "genecis", str(root / "cirr"), root / "labelled/test.csv"
    attributes = genecis.load(str(templates), str(templates / "vg"), str(templates / "coco"), name=name)
    composed = mit_states.load(
        str(root / "mit_states"), str(root / "mit_states/test_nouns.json"), tasks=["test"], name=name
    )
    labels = labelled.load(str(table), conditions=CONDITIONS, together=CONDITION_PAIRS, name=name)
    parts = (
        _as_part(attributes, "genecis", ""),
        _as_part(composed, "mit_states"),
        _as_part(cirr.load(edits, edits, name=name), "cirr"),
        _as_part(circo.load(str(root / "circo"), str(root / "circo/COCO2017_unlabeled"), name=name), "circo"),
        _as_part(fashioniq.load(str(root / "fashioniq"), str(root / "fashioniq/images"), name=name), "fashioniq"),
        Benchmark(name, (replace(read_binding(root / "binding", name), name="binding"),)),
        _as_part(read_domains(root, name), FOLDER),
        _as_part(labels, "labelled"),
        *(_as_part(part, "instance", "") for part in _instances(root / "instance", name)),
    )
    all_tasks = tuple(replace(task, variant=variant) for part in parts for task in part.tasks)
    headlines = {key: pairs for part in parts for key, pairs in part.headlines.items()}
    return Benchmark(name, all_tasks, read_train(root / "captions"), headlines)


def read_binding(folder: Path, name: str) -> Task:
    """One query per entry, so COLA's score of a whole entry is plain recall."""
    paths = str(folder / "pairs.json"), str(folder / "images")
    return cola.load(*paths, metrics=BINDING_METRICS, name=name).tasks[0]


def read_domains(root: Path, name: str) -> Benchmark:
    """One task per source domain, to the other two."""
    metrics = DATASET.metrics
    tasks = domain_conversion.read_tasks(root / FOLDER, root, DATASET, name, metrics=metrics)
    return Benchmark(name, tasks, headlines=domain_conversion.headlines(DATASET, tasks, metrics))


def _instances(folder: Path, name: str) -> tuple[Benchmark, ...]:
    """Two benchmarks on the same instances: the query is one of their pictures, or their name."""
    gallery = str(folder / "gallery.csv")
    return tuple(
        instance.load(
            str(folder / f"{kind}_queries.csv"), gallery, str(folder), INSTANCE_METRICS, f"instance_{kind}", name=name
        )
        for kind in ("image", "text")
    )


def read_train(folder: Path) -> TrainSplit:
    """The training pictures that have captions; the split's texts are the distinct captions."""
    frame = pd.read_csv(folder / "train.csv")
    return TrainSplit(ImageTable(folder, tuple(frame["image"])), tuple(sorted(set(frame["caption"]))))


def _as_part(part: Benchmark, prefix: str, task_prefix: str | None = None) -> Benchmark:
    """A benchmark with ``prefix`` before its tasks' names; its main task is named ``prefix`` alone."""
    main = {"test", "val"}

    def rename(task: str) -> str:
        if task_prefix == "":
            return task
        return prefix if task in main else f"{prefix}_{task}"

    headlines = {
        f"{prefix}_{key}": tuple((rename(task), metric) for task, metric in pairs)
        for key, pairs in part.headlines.items()
    }
    return Benchmark(part.name, tuple(replace(task, name=rename(task.name)) for task in part.tasks), None, headlines)
