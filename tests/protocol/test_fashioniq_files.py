"""The real FashionIQ annotations: the counts of both protocols, the blank captions, and the forms of the text."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from condsim.datasets import fashioniq
from condsim.harness.task import Task

pytestmark = pytest.mark.slow

COUNTS = {
    # category: queries, gallery "original", gallery "val", distinct references, entries with a blank caption
    "dress": (2_017, 3_817, 2_628, 1_331, []),
    "shirt": (2_038, 6_346, 3_089, 1_541, [1928]),
    "toptee": (1_961, 5_373, 2_902, 1_454, [676, 1076]),
}


@cache
def read(folder: Path, category: str, **options: Any) -> Task:
    return fashioniq.read_task(folder, Path("images"), None, category, **options)


@pytest.mark.parametrize("category", fashioniq.CATEGORIES)
def test_counts(fashioniq_annotations: Path, category: str) -> None:
    queries, original, val, references, blank = COUNTS[category]
    task = read(fashioniq_annotations, category)
    assert (len(task), len(task.gallery_rows), len(set(task.reference))) == (queries, original, references)
    assert len(read(fashioniq_annotations, category, gallery="val").gallery_rows) == val
    assert task.excluded is None
    assert set(task.relevant.lengths) == {1}
    messages = fashioniq.blank_captions(fashioniq_annotations, category)
    assert [int(message.split("entry ")[1].split(":")[0]) for message in messages] == blank


def test_all_categories_together(fashioniq_annotations: Path) -> None:
    names = {name for c in fashioniq.CATEGORIES for name in read(fashioniq_annotations, c).images.names}
    assert len(names) == 15_415
    assert sum(len(read(fashioniq_annotations, c)) for c in fashioniq.CATEGORIES) == 6_016
    assert sum(len(read(fashioniq_annotations, c, text="val")) for c in fashioniq.CATEGORIES) == 12_032


@pytest.mark.parametrize("category", fashioniq.CATEGORIES)
def test_every_query_reads_back_unchanged(fashioniq_annotations: Path, category: str) -> None:
    task = read(fashioniq_annotations, category)
    joined = read(fashioniq_annotations, category, text="magiclens")
    names = [Path(name).stem for name in task.images.names]
    entries = json.loads((fashioniq_annotations / "captions" / f"cap.{category}.val.json").read_text())
    for i, entry in enumerate(entries):
        assert (names[task.reference[i]], names[task.relevant[i][0]]) == (entry["candidate"], entry["target"])
        assert joined.conditions[joined.condition[i]] == (" and ".join(entry["captions"]),)
        first, second = (caption.strip(".?, ") for caption in entry["captions"])
        assert task.texts is not None
        assert task.texts[task.condition[i]] == (f"{first} and {second}", f"{second} and {first}")


def test_each_form_and_gallery_is_a_question_of_its_own(fashioniq_annotations: Path) -> None:
    prints = {
        read(fashioniq_annotations, "dress", text=text, gallery=gallery).fingerprint
        for text in fashioniq.TEXTS
        for gallery in fashioniq.GALLERIES
    }
    assert len(prints) == len(fashioniq.TEXTS) * len(fashioniq.GALLERIES)
