"""The field's headline means: the plain mean of one metric per task, over tasks of one version of a benchmark."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations

from condsim.harness.files.hashing import content_digest
from condsim.harness.results.entry import Entry, entry_of
from condsim.harness.results.order import method_order
from condsim.harness.results.stored_run import StoredRun
from condsim.harness.run.record import Measurement

Parts = tuple[tuple[str, str], ...]
"""(task, metric) pairs of a headline mean."""
Version = Mapping[str, str]
"""Task -> fingerprint of the whole task in one version of the benchmark, for the tasks where it is known."""


def headline_entries(runs: Sequence[StoredRun]) -> list[Entry]:
    """The headline means of every method, in the order of the leaderboard.

    ``runs``: the newest ones (:func:`condsim.harness.results.order.newest`). A mean needs a run on every task, and all
    of them from one version of the benchmark: a record names the fingerprints of the tasks that were loaded with its
    own. Where a record does not, and a task has runs on several question sets, there is no mean.
    """
    groups: dict[tuple[str, ...], list[StoredRun]] = {}
    for run in runs:
        groups.setdefault(run.alike, []).append(run)
    ordered = sorted(groups.values(), key=lambda group: (group[0].record.benchmark, *method_order(group[0])))
    return [entry for group in ordered for entry in _means(group)]


def mean_of_tasks(metrics: Sequence[Measurement], *, independent: bool) -> Measurement:
    """Mean of one metric per task, with its 95 % interval.

    ``independent``: each task has its own sample of queries, so errors partly cancel. Otherwise the interval is as wide
    as if they never did, which is safe whatever the tasks have in common.
    """
    power = 2 if independent else 1
    mean = sum(metric.value for metric in metrics) / len(metrics)
    below = sum((metric.value - metric.ends[0]) ** power for metric in metrics) ** (1 / power) / len(metrics)
    above = sum((metric.ends[1] - metric.value) ** power for metric in metrics) ** (1 / power) / len(metrics)
    return Measurement(mean, mean - below, mean + above)


def _means(runs: Sequence[StoredRun]) -> Iterator[Entry]:
    """The headline means of one method with one backbone and one choice of settings."""
    names = sorted({name for run in runs for name in run.record.headlines})
    for name in names:
        complete: dict[tuple[str, ...], tuple[Parts, list[StoredRun]]] = {}
        for candidates in _by_pictures(runs):
            for parts, version in _versions(name, candidates):
                tasks = dict.fromkeys(task for task, _ in parts)
                certain = _is_certain(tasks, version, candidates)
                chosen = [_run_of(task, version, name, candidates) for task in tasks if certain]
                of_parts = [run for run in chosen if run is not None]
                whole = len(of_parts) == len(tasks) > 0 and _have_metrics(parts, of_parts)
                if whole and not _mixes_pictures(of_parts, runs):
                    complete[tuple(run.run for run in of_parts)] = parts, of_parts
        for key, (parts, of_parts) in complete.items():
            if not any(set(key) < set(other) for other in complete):  # a mean over fewer tasks of the same version
                yield _mean(name, parts, of_parts)


def _by_pictures(runs: Sequence[StoredRun]) -> Iterator[list[StoredRun]]:
    """Where pictures changed and kept their names: the runs on the newest ones, then those on older ones."""
    oldest: dict[str, int] = {}
    for run in runs:
        oldest[run.record.task] = max(run.age, oldest.get(run.record.task, 0))
    for age in range(max(oldest.values()) + 1):
        yield [run for run in runs if run.age == min(age, oldest[run.record.task])]


def _mixes_pictures(chosen: Sequence[StoredRun], runs: Iterable[StoredRun]) -> bool:
    """Whether two tasks of one set of pictures were run on different contents of them."""
    contents: dict[str, set[str]] = {}
    for run in runs:
        contents.setdefault(run.record.task, set()).add(run.images)
    return any(
        one.images != other.images and contents[one.record.task] & contents[other.record.task]
        for one, other in combinations(chosen, 2)
    )


def _versions(name: str, runs: Iterable[StoredRun]) -> list[tuple[Parts, dict[str, str]]]:
    """The versions of the benchmark that these runs know for one headline; those that do not contradict are one."""
    versions: list[tuple[Parts, dict[str, str]]] = []
    listings = [(_parts(run, name), _known(run, name)) for run in runs if name in run.record.headlines]
    for parts, known in sorted(listings, key=lambda listing: -len(listing[1])):  # the most complete ones first
        alike = [found for of, found in versions if of == parts and not _contradict(found, known)]
        if len(alike) == 1:
            alike[0].update(known)
        elif not alike:
            versions.append((parts, dict(known)))
    return versions


def _is_certain(tasks: Collection[str], version: Version, runs: Iterable[StoredRun]) -> bool:
    """Whether the version names every task's question set, or no task has runs on several."""
    sets = {(run.record.task, run.fingerprint) for run in runs if run.record.task in tasks}
    return version.keys() >= set(tasks) or len(sets) == len({task for task, _ in sets})


def _run_of(task: str, version: Version, name: str, runs: Iterable[StoredRun]) -> StoredRun | None:
    """The run on ``task`` in this version of the benchmark; None where there is none, or more than one.

    Of a run on the whole task and one without its unusable images (``on_error=skip``) it is the former.
    """
    fitting = [
        run for run in runs if run.record.task == task and not _contradict(version, _known(run, name) | _own(run, name))
    ]
    whole = [run for run in fitting if run.fingerprint == version.get(task)]
    chosen = whole if len(fitting) > 1 else fitting
    return chosen[0] if len(chosen) == 1 else None


def _parts(run: StoredRun, name: str) -> Parts:
    return tuple((part[0], part[1]) for part in run.record.headlines[name])


def _known(run: StoredRun, name: str) -> dict[str, str]:
    """Task -> fingerprint, of the tasks that were loaded with this run's."""
    return {part[0]: part[2] for part in run.record.headlines.get(name, ()) if len(part) > 2 and part[2]}


def _own(run: StoredRun, name: str) -> dict[str, str]:
    """The fingerprint of the run's own whole task: its record may be of a part of it."""
    return {run.record.task: _known(run, name).get(run.record.task, run.fingerprint)}


def _contradict(one: Version, other: Version) -> bool:
    return any(other.get(task, fingerprint) != fingerprint for task, fingerprint in one.items())


def _have_metrics(parts: Parts, runs: Iterable[StoredRun]) -> bool:
    metrics = {run.record.task: run.record.metrics for run in runs}
    return all(metric in metrics[task] for task, metric in parts)


def _mean(name: str, parts: Parts, runs: Sequence[StoredRun]) -> Entry:
    """The entry of one headline mean. A mean of metrics on the same queries has no interval: they are dependent."""
    by_task = {run.record.task: run for run in runs}
    measurements = [by_task[task].record.metrics[metric] for task, metric in parts]
    samples = {(run.record.queries, run.record.clusters) for run in runs}
    # tasks with equal numbers of queries and clusters are one sample with several questions (the labels of its images)
    mean = mean_of_tasks(measurements, independent=len(samples) > 1)
    metrics = {metric for _, metric in parts}
    column = metrics.pop() if len(metrics) == 1 else "mean"
    first = entry_of(runs[0])
    same_queries = len(by_task) < len(parts)
    hashes = tuple(run.run for run in runs)
    return Entry(
        benchmark=first.benchmark,
        task=name,
        method=first.method,
        backbone=first.backbone,
        settings=first.settings,
        rank=first.rank,
        question_set=_digest([(task, metric, by_task[task].question_set) for task, metric in parts]),
        variant="; ".join(dict.fromkeys(run.variant for run in runs if run.variant)),
        queries=None,
        seconds=None,
        runs=hashes,
        training=hashes,
        metrics={column: Measurement(mean.value) if same_queries else mean},
    )


def _digest(parts: Sequence[tuple[str, ...]]) -> str:
    return content_digest(repr(parts).encode("utf-8", "surrogatepass"))
