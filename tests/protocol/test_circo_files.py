"""The real CIRCO annotations: the counts of the protocol, the semantic aspects, and the published submission files."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from condsim.datasets import circo
from condsim.datasets.circo_submission import faults, submission
from condsim.harness.ranking.metrics import per_query
from condsim.harness.ranking.ranks import Ranks
from condsim.harness.results.breakdown import by_label
from condsim.harness.task import Task

pytestmark = pytest.mark.slow

ASPECTS = {
    "cardinality", "addition", "negation", "direct_addressing", "compare_change", "comparative_statement",
    "statement_with_conjunction", "spatial_relations_background", "viewpoint",
}  # fmt: skip
NAMED = 32_762
"""Images that the annotations and the submission examples name, of COCO's 123,403."""


def entries(folder: Path, split: str) -> list[dict[str, Any]]:
    value: list[dict[str, Any]] = json.loads((folder / "annotations" / f"{split}.json").read_text())
    return value


def example(folder: Path, split: str) -> dict[str, list[int]]:
    value: dict[str, list[int]] = json.loads((folder / "submission_examples" / f"submission_{split}.json").read_text())
    return value


@pytest.fixture(scope="module")
def info(circo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """COCO's list is not at hand: a list, in its format, of every image that a real file names."""
    ids = {image for split in circo.SPLITS for images in example(circo_folder, split).values() for image in images}
    for split in circo.SPLITS:
        for entry in entries(circo_folder, split):
            ids |= {entry["reference_img_id"], *entry.get("gt_img_ids", ())}
    path = tmp_path_factory.mktemp("circo") / circo.IMAGE_INFO
    images = [{"id": image, "file_name": f"{image:012d}.jpg"} for image in sorted(ids)]
    path.write_text(json.dumps({"images": images}))
    return path


@cache
def read(folder: Path, info: Path, split: str, **options: Any) -> Task:
    arguments: dict[str, Any] = {"image_info": str(info), "split": split, "on_error": "survey", **options}
    (task,) = circo.load(str(folder), **arguments).tasks
    return task


@pytest.mark.parametrize(("split", "queries", "references"), [("val", 220, 220), ("test", 800, 798)])
def test_counts(circo_folder: Path, info: Path, split: str, queries: int, references: int) -> None:
    task = read(circo_folder, info, split)
    assert (len(task), len(set(task.reference)), len(task.gallery_rows)) == (queries, references, NAMED)
    assert task.excluded is None
    assert task.query_ids == tuple(map(str, range(queries)))


def test_val_reads_back_unchanged(circo_folder: Path, info: Path) -> None:
    task = read(circo_folder, info, "val")
    ids = [int(Path(name).stem) for name in task.images.names]
    assert task.target is not None
    assert task.labels is not None
    for i, entry in enumerate(entries(circo_folder, "val")):
        assert [ids[row] for row in task.relevant[i]] == entry["gt_img_ids"]
        assert ids[task.target[i]] == entry["target_img_id"]
        assert ids[task.reference[i]] == entry["reference_img_id"]
        assert task.conditions[task.condition[i]] == (entry["relative_caption"],)
        assert {task.labels.names[code] for code in task.labels.codes[i]} == set(entry["semantic_aspects"])
    assert (task.relevant.lengths.min(), task.relevant.lengths.max()) == (1, 14)
    assert round(float(task.relevant.lengths.mean()), 2) == 4.16
    assert set(task.labels.names) == ASPECTS


def ranks_of_example(task: Task, predictions: dict[str, list[int]]) -> Ranks:
    """Ranks under which each query's 50 predictions come first, and its other positives last, one behind the other."""
    ids = np.array([int(Path(name).stem) for name in task.images.names])
    above, offsets, targets = [], [0], []
    assert task.target is not None
    for i in range(len(task)):
        order = predictions[str(i)] + [image for image in ids[task.relevant[i]] if image not in predictions[str(i)]]
        places = sorted((order.index(image), image) for image in ids[task.relevant[i]])
        above += [place for place, _ in places]
        targets.append([image for _, image in places].index(ids[task.target[i]]))
        offsets.append(len(above))
    one = np.ones(len(above), dtype=np.int64)
    sizes = np.full(len(task), len(ids))
    return Ranks(
        np.array(offsets), np.array(above), one, 0 * one, task.relevant.lengths, sizes, True, np.array(targets)
    )


def test_the_published_example_gets_the_numbers_of_the_published_definition(circo_folder: Path, info: Path) -> None:
    """CIRCO's evaluation as its paper defines it, written down once more from lists of ids."""
    task, predictions = read(circo_folder, info, "val"), example(circo_folder, "val")
    ranks = ranks_of_example(task, predictions)
    queries = entries(circo_folder, "val")
    for k in circo.CUTS:
        precision, recall = [], []
        for entry in queries:
            top, truth = predictions[str(entry["id"])][:k], set(entry["gt_img_ids"])
            hits = [image in truth for image in top]
            gains = [sum(hits[: i + 1]) / (i + 1) for i, hit in enumerate(hits) if hit]
            precision.append(sum(gains) / min(len(truth), k))
            recall.append(entry["target_img_id"] in top)
        np.testing.assert_allclose(per_query(f"map@{k}", ranks), precision, atol=1e-12)
        np.testing.assert_allclose(per_query(f"target_recall@{k}", ranks), recall)
    values = per_query("map@10", ranks)
    rows = {row.name: row for row in by_label(task, {"example": values})}
    counts = Counter(aspect for entry in queries for aspect in set(entry["semantic_aspects"]))
    assert {label: row.queries for label, row in rows.items()} == dict(counts)
    for aspect, row in rows.items():
        of_aspect = [values[i] for i, entry in enumerate(queries) if aspect in entry["semantic_aspects"]]
        assert row.means["example"] == pytest.approx(np.mean(of_aspect))


@pytest.mark.parametrize(("split", "queries"), [("val", 220), ("test", 800)])
def test_the_published_submission_passes_and_is_what_we_write(
    circo_folder: Path, info: Path, split: str, queries: int
) -> None:
    published, task = example(circo_folder, split), read(circo_folder, info, split)
    assert not list(faults(published, queries))
    row = {int(Path(name).stem): i for i, name in enumerate(task.images.names)}
    top = np.array([[row[image] for image in published[ident]] for ident in task.query_ids or ()])
    ours = submission(task, top)
    assert ours == published
    assert list(ours) == list(published)
    for spoilt in ({**published, "0": published["0"][:49]}, {**published, str(queries): published["0"]}):
        assert list(faults(spoilt, queries))
