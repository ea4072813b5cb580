"""One run: a task, a method and a backbone in; ranks, metrics and one record out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from platform import python_version

import numpy as np
import torch
from torch import Tensor

from condsim.harness.backbone import Backbone, MapsImages
from condsim.harness.condition_features import condition_features
from condsim.harness.errors import NotApplicable
from condsim.harness.hashing import settings_hash
from condsim.harness.memory_map import is_mapped
from condsim.harness.method import Gallery, Method, TrainFeatures
from condsim.harness.progress import track
from condsim.harness.ranking.engine import Ranking, rank_task
from condsim.harness.ranking.metrics import chance_level, per_query
from condsim.harness.run.identity import RunSettings
from condsim.harness.run.record import MetricValue, Record, record_folder, write_record
from condsim.harness.run.task_file import save_task, task_path
from condsim.harness.statistics.intervals import mean_intervals
from condsim.harness.task import Benchmark, Rows, Task


def run_task(
    results: Path, benchmark: Benchmark, task: Task, method: Method, backbone: Backbone, settings: RunSettings
) -> Record:
    """Score, rank, measure, and write the record under ``results``. Raises NotApplicable before anything is encoded."""
    method.check(task)
    ranking, seconds = rank(benchmark, task, method, backbone, settings.top)
    config = settings.config(task, backbone)
    run = settings_hash(config)
    record = Record(
        run=run,
        benchmark=task.benchmark,
        task=task.name,
        method=settings.method,
        backbone=backbone.name,
        settings=dict(settings.settings),
        config=config,
        queries=len(task),
        clusters=len(task) if task.clusters is None else len(np.unique(task.clusters)),
        cluster_name=task.cluster_name,
        metrics=measure(task, ranking, settings.resamples, settings.seed),
        seconds={name: round(value, 4) for name, value in seconds.items()},
        versions=_versions(),
        headlines={name: [list(pair) for pair in pairs] for name, pairs in benchmark.headlines.items()},
        skipped=list(task.skipped),
        variant=task.variant,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    # The task's file comes first: a record never stands without what its rows and ranks point into.
    save_task(task_path(results, task.benchmark, task.name, task.fingerprint), task)
    folder = record_folder(results, task.benchmark, task.name, settings.method, run)
    write_record(folder, record, lambda scratch: write_ranking(scratch, task, ranking, settings.top))
    return record


def rank(
    benchmark: Benchmark, task: Task, method: Method, backbone: Backbone, top: int
) -> tuple[Ranking, dict[str, float]]:
    """The task's ranking by this method, and the wall seconds of its three stages."""
    started = time.perf_counter()
    device = backbone.device
    if method.reads_mapped and isinstance(backbone, MapsImages):
        images = backbone.mapped_images(task.images)
    else:
        images = backbone.encode_images(task.images).to(device)
    conditions = condition_features(task, partial(encode_texts, backbone))
    encoded = time.perf_counter()
    gallery = Gallery(
        features=_gallery_features(images, task.gallery_rows, method.reads_mapped),
        conditions=task.conditions,
        condition_features=conditions,
        encode_texts=partial(encode_texts, backbone),
        train=_train_features(benchmark, backbone),
        table=task.images,
        rows=task.gallery_rows,
    )
    scorer = method.prepare(gallery)
    prepared = time.perf_counter()
    wanted = max(top, task.submission.top if task.submission else 0)
    with track(len(task), f"scoring {task.full_name}") as advance:
        ranking = rank_task(task, scorer, images, conditions, pointwise=method.pointwise, top=wanted, progress=advance)
    scored = time.perf_counter()
    return ranking, {"encode": encoded - started, "prepare": prepared - encoded, "score": scored - prepared}


def _gallery_features(images: Tensor, rows: Rows, reads_mapped: bool) -> Tensor:
    """The features of the gallery: the beginning of ``images`` themselves where that is what it is, else a copy, as it
    is of a mapped file for a method that does not read those."""
    if np.array_equal(rows, np.arange(len(rows))) and (reads_mapped or not is_mapped(images)):
        return images[: len(rows)]
    return images[torch.from_numpy(rows).to(images.device)].float()


def measure(task: Task, ranking: Ranking, resamples: int, seed: int) -> dict[str, MetricValue]:
    """Every metric of the task: mean over queries, 95 % interval clustered as the protocol says, chance level."""
    if not task.metrics:
        return {}
    ranks, subset = ranking.ranks, ranking.subset_ranks
    values = np.stack([per_query(name, ranks, subset, task.clusters) for name in task.metrics], axis=1)
    intervals = mean_intervals(values, task.clusters, resamples=resamples, seed=seed)
    return {
        name: MetricValue(
            interval.value,
            # A single cluster says nothing about others: the interval is then all that a metric can be.
            0.0 if np.isnan(interval.low) else interval.low,
            1.0 if np.isnan(interval.high) else interval.high,
            chance_level(name, ranks, subset, task.clusters),
        )
        for name, interval in zip(task.metrics, intervals, strict=True)
    }


def write_ranking(folder: Path, task: Task, ranking: Ranking, top: int) -> None:
    """The per-query files of a record: ``ranks.npz``, ``subset_ranks.npz``, ``top.npy`` (image-table rows [Q, top]).

    Where the ground truth is withheld, also ``submission/`` with the files for the benchmark's own server.
    """
    ranking.ranks.save(folder / "ranks.npz")
    if ranking.subset_ranks is not None:
        ranking.subset_ranks.save(folder / "subset_ranks.npz")
    if ranking.top is None:
        return
    if top > 0:
        np.save(folder / "top.npy", ranking.top[:, :top])
    if task.submission is not None:
        subset_top = ranking.top[:, :0] if ranking.subset_top is None else ranking.subset_top
        task.submission.write(task, ranking.top, subset_top, folder / "submission")


def encode_texts(backbone: Backbone, texts: Sequence[str]) -> Tensor:
    """[len(texts), D] raw features of distinct texts, on the backbone's device; no text gives no row."""
    if not texts:
        return torch.zeros(0, backbone.width, device=backbone.device)
    return backbone.encode_texts(texts).to(backbone.device)


def _train_features(benchmark: Benchmark, backbone: Backbone) -> Callable[[], TrainFeatures]:
    @cache
    def train() -> TrainFeatures:
        if benchmark.train is None:
            raise NotApplicable(f"benchmark {benchmark.name} has no training split to look things up in")
        split = benchmark.train
        return TrainFeatures(backbone.encode_images(split.images).to(backbone.device), split.images, split.phrases)

    return train


@cache
def _versions() -> dict[str, str]:
    packages = ("condsim", "torch", "open_clip_torch", "numpy")
    return {"python": python_version(), **{package: version(package) for package in packages}}
