"""Ranking against the bare product, and against the argsort-over-names recipe. Ratios are ours / theirs, in one run."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from condsim.harness.method import Queries
from condsim.harness.ranking.engine import rank_task
from condsim.harness.ranking.metrics import per_query
from condsim.harness.task import ImageTable, Ragged, Task

Row = dict[str, object]


class Cosine:
    """The cheapest composed query there is, so that the rest is ranking."""

    def __init__(self, gallery: Tensor) -> None:
        self.gallery = normalize(gallery, dim=1)

    def __call__(self, queries: Queries, rows: Tensor | None = None) -> Tensor:
        query = normalize(queries.reference + queries.text, dim=1)
        if rows is None:
            return query @ self.gallery.T
        if rows.ndim == 2:
            return torch.bmm(self.gallery[rows.clamp(min=0)], query.unsqueeze(2)).squeeze(2)
        return query @ self.gallery[rows].T


def measure() -> list[Row]:
    return [*mit_states(), *cirr(), *genecis()]


def mit_states(queries: int = 4000, items: int = 10_546, width: int = 640) -> list[Row]:
    """A part of MIT-States' 82,732 queries against its whole gallery, 25 relevant images each."""
    rng = np.random.default_rng(0)
    features, texts = torch.randn(items, width), torch.randn(115, width)
    reference = rng.integers(0, items, queries)
    block = (reference[:, None] + rng.integers(1, items - 25, (queries, 1)) + np.arange(25)) % items
    relevant = [row[row != own] for row, own in zip(block, reference, strict=True)]

    def task(metrics: tuple[str, ...]) -> Task:
        return Task(
            "mit_states",
            "size",
            images(items),
            tuple((str(i),) for i in range(len(texts))),
            rng.integers(0, len(texts), queries),
            reference,
            Ragged.of(relevant),
            metrics,
            gallery=np.arange(items),
            excluded=Ragged.of(reference[:, None]),
        )

    scorer, query = Cosine(features), normalize(torch.randn(queries, width), dim=1)
    buffer = torch.empty(512, items)

    def bare() -> None:
        for start in range(0, queries, 512):
            part = query[start : start + 512]
            torch.mm(part, scorer.gallery.T, out=buffer[: len(part)])

    first, whole = task(("recall@1", "recall@5", "recall@10")), task(("map",))
    seconds = best(
        3,
        bare,
        lambda: rank_task(first, scorer, features, texts),
        lambda: rank_task(first, scorer, features, texts, top=10),
        lambda: rank_task(whole, scorer, features, texts),
    )
    size = f"{queries:,} of 82,732 queries x {items:,} x {width}, 25 relevant"
    against = "the bare product in chunks of 512, into one buffer"
    return [
        row(f"MIT-States size, recall: {size}", against, seconds[1], seconds[0], 1.25),
        row("the same, keeping the 10 best of each query", against, seconds[2], seconds[0], None),
        row("the same, mAP over the whole ranking", against, seconds[3], seconds[0], None),
    ]


def cirr() -> list[Row]:
    """CIRR val from given scores: recall without the reference, and recall within the image set."""
    names, reference, target, members = cirr_val()
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
    found: dict[str, list[float]] = {}

    def ours() -> None:
        ranking = rank_task(task, lambda queries, rows=None: known[queries.condition], nothing, texts)
        found["ours"] = [per_query(name, ranking.ranks, ranking.subset_ranks).mean() for name, _ in at]

    def over_names() -> None:
        found["theirs"] = argsort_over_names(scores, names, reference, target, members)

    theirs = best(1, over_names)[0]
    seconds = best(3, ours)[0]
    if not np.allclose(found["ours"], found["theirs"]):
        raise AssertionError(f"the two disagree: {found}")
    size = f"{len(rows):,} x {len(names):,}"
    return [row(f"CIRR val from scores, {size}", "sorting all names by score", seconds, theirs, 1 / 40)]


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
    """Names, references, targets and the other five members, from the real annotations where they are at hand."""
    root = Path(os.environ.get("CONDSIM_ANNOTATIONS", Path(__file__).parents[3] / "shared" / "data")) / "cirr"
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
    """A method on cached features, four tasks of GeneCIS's size with up to 400 conditions: 8,032 templates."""
    rng = np.random.default_rng(3)
    cases = []
    for queries, candidates, items, conditions in (
        (2000, 10, 15_773, 40),
        (2112, 15, 18_212, 400),
        (1960, 15, 2198, 97),
        (1960, 15, 2739, 109),
    ):
        lists = rng.integers(0, items, (queries, candidates))
        task = Task(
            "genecis",
            "size",
            images(items),
            tuple((str(i),) for i in range(conditions)),
            rng.integers(0, conditions, queries),
            rng.integers(0, items, queries),
            Ragged.of(lists[:, :1]),
            ("recall@1", "recall@2", "recall@3"),
            candidates=Ragged.of(lists),
        )
        features = torch.randn(items, 512)
        cases.append(
            (task, Cosine(features[torch.from_numpy(task.gallery_rows)]), features, torch.randn(conditions, 512))
        )

    def run() -> None:
        for task, scorer, features, texts in cases:
            ranks = rank_task(task, scorer, features, texts, top=10).ranks
            for metric in task.metrics:
                per_query(metric, ranks)

    return [row("a method on cached features, 8,032 GeneCIS templates x 512", "0.5 s", best(5, run)[0], 0.5, 1.0)]


def images(n: int) -> ImageTable:
    return ImageTable(Path(), tuple(str(i) for i in range(n)))


def best(times: int, *runs: Callable[[], object]) -> list[float]:
    """The least seconds of each of ``runs``, taken in turn so that a busy machine slows all of them alike."""
    least = [float("inf")] * len(runs)
    for _ in range(times):
        for i, run in enumerate(runs):
            started = time.perf_counter()
            run()
            least[i] = min(least[i], time.perf_counter() - started)
    return least


def row(what: str, against: str, seconds: float, baseline: float, aim: float | None) -> Row:
    return {
        "what": what,
        "against": against,
        "seconds": seconds,
        "baseline_seconds": baseline,
        "ratio": seconds / baseline,
        "aim": aim,
    }


if __name__ == "__main__":
    for entry in measure():
        print(entry)
