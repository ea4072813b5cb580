"""Ranking against the bare product and against the argsort-over-names recipe; a whole run of GeneCIS's size."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import torch
from measuring import Row, cost, gain, in_turn, scaled, within
from numpy.typing import NDArray
from problems import MIT_STATES, Cosine, Held, images
from problems import mit_states as mit_states_task
from torch.nn.functional import normalize

from condsim.harness.ranking.engine import rank_task
from condsim.harness.ranking.metrics import per_query
from condsim.harness.run.run import measure as measure_run
from condsim.harness.run.run import rank
from condsim.harness.task import Benchmark, Ragged, Task
from condsim.methods.inner_product import ImagePlusTextUnit


def measure() -> list[Row]:
    return [*mit_states(), *cirr(), *genecis()]


def mit_states() -> list[Row]:
    """MIT-States' queries against its whole gallery; the extra rows on a tenth of them."""
    queries = MIT_STATES[0]
    return [
        _mit_states(scaled(queries), ("recall@1", "recall@5", "recall@10"), 0, 1.25),
        _mit_states(scaled(queries // 10), ("recall@1", "recall@5", "recall@10"), 10, None),
        _mit_states(scaled(queries // 10), ("map",), 0, None),
    ]


def _mit_states(queries: int, metrics: tuple[str, ...], top: int, aim: float | None) -> Row:
    _, items, width = MIT_STATES
    torch.manual_seed(0)
    features, texts = torch.randn(items, width), torch.randn(115, width)
    task, scorer = mit_states_task(queries, items, metrics), Cosine(features)
    query, buffer = normalize(torch.randn(queries, width), dim=1), torch.empty(512, items)

    def bare() -> None:
        for start in range(0, queries, 512):
            part = query[start : start + 512]
            torch.mm(part, scorer.gallery.T, out=buffer[: len(part)])

    times = in_turn(lambda: rank_task(task, scorer, features, texts, top=top), bare, repeats=3)
    kept = f", {top} best kept" if top else ""
    what = f"MIT-States size, {', '.join(metrics)}{kept}: {queries:,} queries x {items:,} x {width}, 25 relevant"
    against = f"the bare product in chunks of 512, into one buffer, {torch.get_num_threads()} threads"
    return cost(what, against, *times, aim)


def cirr() -> list[Row]:
    """CIRR val from given scores: recall without the reference, and recall within the image set."""
    names, reference, target, members = cirr_val()
    queries = scaled(len(reference), 200)
    reference, target, members = reference[:queries], target[:queries], members[:queries]
    scores = np.random.default_rng(1).standard_normal((len(reference), len(names))).astype(np.float32)
    number = {name: i for i, name in enumerate(names)}
    rows = np.array([number[name] for name in reference])
    task = Task(
        "cirr",
        "size",
        images(len(names)),
        tuple((str(i),) for i in range(len(rows))),
        np.arange(len(rows)),
        rows,
        Ragged.of([[number[name]] for name in target]),
        ("recall@1", "subset_recall@1"),
        gallery=np.arange(len(names)),
        excluded=Ragged.of(rows[:, None]),
        subset=Ragged.of([[number[name] for name in row] for row in members]),
    )
    known, nothing, texts = torch.from_numpy(scores), torch.zeros(len(names), 1), torch.zeros(len(rows), 1)
    at = [(f"recall@{k}", k) for k in (1, 5, 10, 50)] + [(f"subset_recall@{k}", k) for k in (1, 2, 3)]
    means: dict[str, list[float]] = {}

    def ours() -> None:
        ranking = rank_task(task, lambda queries, rows=None: known[queries.condition], nothing, texts)
        means["ours"] = [per_query(name, ranking.ranks, ranking.subset_ranks).mean() for name, _ in at]

    def over_names() -> None:
        means["theirs"] = argsort_over_names(scores, names, reference, target, members)

    times = in_turn(ours, over_names, repeats=3)
    if not np.allclose(means["ours"], means["theirs"]):
        raise AssertionError(f"the two disagree: {means}")
    what = f"CIRR val from scores, exclusion and subset, {len(rows):,} x {len(names):,}"
    return [gain(what, "sorting all names by score", *times, 40)]


def argsort_over_names(
    scores: NDArray[np.float32],
    names: NDArray[np.str_],
    reference: NDArray[np.str_],
    target: NDArray[np.str_],
    members: NDArray[np.str_],
) -> list[float]:
    """Recall@1, 5, 10, 50 and subset recall@1, 2, 3 as commonly computed: on a [Q, N] array of sorted names."""
    queries = len(scores)
    ranked = names[np.argsort(-scores, axis=1)]
    ranked = ranked[ranked != reference[:, None]].reshape(queries, -1)
    hit = ranked == target[:, None]
    in_set = (ranked[..., None] == members[:, None, :]).any(axis=2)
    set_hit = hit[in_set].reshape(queries, -1)
    return [float(hit[:, :k].any(axis=1).mean()) for k in (1, 5, 10, 50)] + [
        float(set_hit[:, :k].any(axis=1).mean()) for k in (1, 2, 3)
    ]


def cirr_val() -> tuple[NDArray[np.str_], NDArray[np.str_], NDArray[np.str_], NDArray[np.str_]]:
    """Names, references, targets and the other five members, from the real annotations where they are available."""
    root = Path(os.environ.get("CONDSIM_ANNOTATIONS", Path(__file__).parents[2] / "shared" / "data")) / "cirr"
    captions = root / "captions" / "cap.rc2.val.json"
    if captions.exists():
        entries = json.loads(captions.read_text())
        names = np.array(sorted(json.loads((root / "image_splits" / "split.rc2.val.json").read_text())))
        others = [[name for name in e["img_set"]["members"] if name != e["reference"]] for e in entries]
        columns = ([e["reference"] for e in entries], [e["target_hard"] for e in entries], others)
        reference, target, members = (np.array(column) for column in columns)
        return names, reference, target, members
    rng = np.random.default_rng(2)
    names = np.array([f"dev-{i}-0-img0" for i in range(2297)])
    drawn = names[np.argsort(rng.random((4181, len(names))), axis=1)[:, :6]]
    return names, drawn[:, 0], drawn[:, 1], drawn[:, 1:]


def genecis() -> list[Row]:
    """Runs on four tasks of GeneCIS's size, 8,032 templates: prepared, ranked, measured with intervals."""
    rng = np.random.default_rng(3)
    tasks, features = [], {}
    for number, (queries, candidates, items, conditions) in enumerate(
        ((2000, 10, 15_773, 40), (2112, 15, 18_212, 400), (1960, 15, 2198, 97), (1960, 15, 2739, 109))
    ):
        lists = rng.integers(0, items, (queries, candidates))
        reference = rng.integers(0, items, queries)
        tasks.append(
            Task(
                "genecis",
                str(number),
                images(items),
                tuple((str(i),) for i in range(conditions)),
                rng.integers(0, conditions, queries),
                reference,
                Ragged.of(lists[:, :1]),
                ("recall@1", "recall@2", "recall@3"),
                candidates=Ragged.of(lists),
                clusters=reference,
            )
        )
        features[items] = torch.randn(items, 512)
    backbone, method = Held(features, 512), ImagePlusTextUnit()

    def ranked(resamples: int) -> None:
        for task in tasks:
            ranking, _ = rank(Benchmark("genecis", tuple(tasks)), task, method, backbone, 10)
            if resamples:
                measure_run(task, ranking, resamples, 0)
            else:
                for metric in task.metrics:
                    per_query(metric, ranking.ranks)

    (plain, whole) = in_turn(lambda: ranked(0), lambda: ranked(10_000))
    size = "8,032 GeneCIS templates x 512, features in memory"
    return [
        within(f"a method on cached features, {size}: ranking and metrics", plain, 0.5),
        within(f"the same with 95 % intervals from 10,000 resamples: {size}", whole, 0.5),
    ]
