"""One run: a task, a method and a backbone in; ranks, metrics and one record out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from condsim.harness.backbone import Backbone, MapsImages, NotesInputs, parts_of
from condsim.harness.condition_features import condition_features
from condsim.harness.encoding import encode_images, encode_texts, jointly, pseudo_words
from condsim.harness.engine.engine import Engine
from condsim.harness.engine.local import LocalEngine
from condsim.harness.errors import CondsimError, NotApplicable
from condsim.harness.method import Method, NotesScores, TrainFeatures, prepared_scorer
from condsim.harness.ranking.engine import Ranking, rank_task
from condsim.harness.ranking.gallery import make_gallery
from condsim.harness.ranking.metrics import averages_clusters, chance_level, per_query
from condsim.harness.run.choice import choice_note
from condsim.harness.run.identity import Identity, RunSettings, identify, images_digest
from condsim.harness.run.isolation import isolated
from condsim.harness.run.read_only import Watch, read_only
from condsim.harness.run.record import Measurement, Record, record_folder, write_record
from condsim.harness.run.sharded import rank_parts, require_sharded
from condsim.harness.run.task_file import save_task, task_path
from condsim.harness.statistics.intervals import cluster_sums, mean_intervals
from condsim.harness.task import Benchmark, Task
from condsim.harness.terminal.progress import track


@dataclass(frozen=True)
class MeasuredRun:
    """A run that is done and not yet written."""

    task: Task
    ranking: Ranking
    record: Record

    def write(self, results: Path) -> Record:
        """Write the record and its files under ``results``. Raises OSError where that is not possible."""
        record, task = self.record, self.task
        # The task's file comes first: no record is ever without what its rows and ranks point into.
        save_task(task_path(results, task.benchmark, task.name, task.fingerprint), task)
        folder = record_folder(results, task.benchmark, task.name, record.method, record.run)
        return write_record(folder, record, lambda scratch: write_ranking(scratch, task, self.ranking, record.top))


def measure_task(
    benchmark: Benchmark,
    task: Task,
    method: Method,
    backbone: Backbone,
    settings: RunSettings,
    identity: Identity | None = None,
    engine: Engine | None = None,
) -> MeasuredRun:
    """Score, rank and measure. Raises NotApplicable before anything is encoded.

    ``identity``: what :func:`condsim.harness.run.identity.identify` says of these arguments, where the caller knows it.
    ``engine``: as in ``rank``.
    """
    method.check(task)
    identity = identity or identify(benchmark, task, method, backbone, settings)
    method, choice = chosen_method(benchmark, task, method, backbone, settings, engine)
    with isolated():
        texts: list[str] = []
        notes: list[str] = []
        ranking, seconds = rank(benchmark, task, method, backbone, settings.top, texts, engine, notes=notes)
    if images_digest(backbone, task.images) != identity.config["images"]:
        raise CondsimError(f"pictures below {task.images.root} changed during the run: run the same command again")
    record = Record(
        run=identity.run,
        benchmark=task.benchmark,
        task=task.name,
        method=settings.method,
        backbone=backbone.name,
        settings=dict(settings.settings),
        config=identity.config,
        queries=len(task),
        clusters=len(task) if task.clusters is None else len(np.unique(task.clusters)),
        cluster_name=task.cluster_name,
        metrics=measure(task, ranking, settings.resamples, settings.seed),
        seconds={name: round(value, 4) for name, value in seconds.items()},
        versions=_versions(),
        headlines=headline_parts(benchmark),
        skipped=list(task.skipped),
        notes=[*benchmark.notes, *_notes(backbone, task, texts), *notes, *([choice_note(choice)] if choice else [])],
        variant=task.variant,
        created=datetime.now(UTC).isoformat(timespec="milliseconds"),
        top=settings.top,
        choice=choice,
        training=dict(method.trained_with()),
    )
    return MeasuredRun(task, ranking, record)


def chosen_method(
    benchmark: Benchmark,
    task: Task,
    method: Method,
    backbone: Backbone,
    settings: RunSettings,
    engine: Engine | None = None,
) -> tuple[Method, dict[str, Any]]:
    """The method with the settings that are chosen on validation data, and what was compared; ``method`` and nothing
    where no setting is open."""
    if settings.choice is None:
        return method, {}
    return settings.choice.best(task, partial(_score, benchmark, backbone, engine))


def _score(
    benchmark: Benchmark, backbone: Backbone, engine: Engine | None, method: Method, task: Task, metric: str
) -> float:
    """The mean of a metric on a validation task; what a method looks up is the training split of ``benchmark``."""
    with isolated():
        ranking, _ = rank(benchmark, task, method, backbone, top=1, engine=engine)
    return float(per_query(metric, ranking.ranks, ranking.subset_ranks, task.clusters).mean())


def headline_parts(benchmark: Benchmark) -> dict[str, list[list[str]]]:
    """Headline mean -> [task, metric, fingerprint of the whole task] of its parts; "" for a task that was not chosen.

    The fingerprints say which runs belong together: a mean is never over tasks of two versions of a benchmark.
    """
    fingerprints = {task.name: task.fingerprint for task in benchmark.tasks}
    return {
        name: [[task, metric, fingerprints.get(task, "")] for task, metric in parts]
        for name, parts in benchmark.headlines.items()
    }


def _notes(backbone: Backbone, task: Task, texts: Sequence[str]) -> list[str]:
    return backbone.notes(task.images, list(dict.fromkeys(texts))) if isinstance(backbone, NotesInputs) else []


def rank(
    benchmark: Benchmark,
    task: Task,
    method: Method,
    backbone: Backbone,
    top: int,
    encoded_texts: list[str] | None = None,
    engine: Engine | None = None,
    notes: list[str] | None = None,
) -> tuple[Ranking, dict[str, float]]:
    """The task's ranking by this method, and the wall seconds of its three stages.

    ``encoded_texts`` gets every text that is encoded on the way, ``notes`` those of the scorer. ``engine``: who ranks
    a gallery in parts; None: this process.

    Raises CondsimError, among others, where the method writes into features that it received.
    """
    started = time.perf_counter()
    device = backbone.device

    def encode(texts: Sequence[str]) -> Tensor:
        if encoded_texts is not None:
            encoded_texts.extend(texts)
        return encode_texts(backbone, texts)

    parts = parts_of(backbone, task)
    images: Tensor | None = None
    if parts is not None:
        require_sharded(method)
    elif method.reads_mapped and isinstance(backbone, MapsImages):
        images = backbone.mapped_images(task.images)
    else:
        images = encode_images(backbone, task.images)
    if method.needs_text:
        conditions = condition_features(task, encode)
    else:
        conditions = torch.zeros(len(task.conditions), backbone.width, device=device)
    encoded = time.perf_counter()
    with read_only(type(method).__name__, backbone) as watch:
        gallery = make_gallery(
            task,
            images,
            conditions,
            lambda texts: encode(texts).clone(),
            _train_features(benchmark, method, backbone, watch),
            reads_mapped=method.reads_mapped,
            encode_images=lambda table: encode_images(backbone, table).clone(),
            encode_texts_with=pseudo_words(backbone),
            encode_jointly=jointly(backbone, task),
        )
        watch.add("gallery.features", gallery.features)
        watch.add("gallery.condition_features", conditions)
        scorer = None if images is None else prepared_scorer(method, gallery)
        prepared = time.perf_counter()
        wanted = max(top, task.submission.top if task.submission else 0)
        with track(len(task), f"scoring {task.full_name}") as advance:
            if parts is not None:
                ranking = rank_parts(
                    task, method, parts, gallery, engine or LocalEngine(), top=wanted, progress=advance
                )
            else:
                assert scorer is not None
                assert images is not None
                ranking = rank_task(
                    task, scorer, images, conditions, pointwise=method.pointwise, top=wanted, progress=advance
                )
    if notes is not None and isinstance(scorer, NotesScores):
        notes.extend(scorer.notes())
    scored = time.perf_counter()
    return ranking, {"encode": encoded - started, "prepare": prepared - encoded, "score": scored - prepared}


def measure(task: Task, ranking: Ranking, resamples: int, seed: int) -> dict[str, Measurement]:
    """Every metric of the task: mean over queries, 95 % interval clustered as the protocol says, chance level."""
    if not task.metrics:
        return {}
    ranks, subset = ranking.ranks, ranking.subset_ranks
    values = np.stack([per_query(name, ranks, subset, task.clusters) for name in task.metrics], axis=1)
    intervals = mean_intervals(values, task.clusters, resamples=resamples, seed=seed)
    for i, name in enumerate(task.metrics):
        if averages_clusters(name):  # a mean over clusters, each of which is one value
            sizes, sums = cluster_sums(values[:, [i]], task.clusters)
            of_clusters = sums * len(sizes) / len(values)
            (intervals[i],) = mean_intervals(of_clusters, resamples=resamples, seed=seed)
    measured = {}
    for name, interval in zip(task.metrics, intervals, strict=True):
        value = min(max(interval.value, 0.0), 1.0)  # a mean of ones may be one and a last bit
        # A single cluster says nothing about others: the interval is then all that a metric can be.
        low = 0.0 if np.isnan(interval.low) else min(interval.low, value)
        high = 1.0 if np.isnan(interval.high) else max(interval.high, value)
        measured[name] = Measurement(value, low, high, min(chance_level(name, ranks, subset, task.clusters), 1.0))
    return measured


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


def _train_features(
    benchmark: Benchmark, method: Method, backbone: Backbone, watch: Watch
) -> Callable[[], TrainFeatures]:
    @cache
    def train() -> TrainFeatures:
        if benchmark.train is None:
            raise NotApplicable(f"benchmark {benchmark.name} has no training split to look things up in")
        if not method.reads_train:
            name = type(method).__name__
            raise CondsimError(
                f"{name} reads the training split without saying so: set reads_train = True in the class {name}, so "
                "that the training pictures count as a part of what identifies a run"
            )
        split = benchmark.train
        images = encode_images(backbone, split.images)
        watch.add("gallery.train().images", images)
        return TrainFeatures(images, split.images, split.phrases)

    return train


@cache
def _versions() -> dict[str, str]:
    packages = ("condsim", "torch", "open_clip_torch", "numpy")
    return {"python": python_version(), **{package: version(package) for package in packages}}
