"""MIT-States, composed retrieval (TIRG's protocol, Vo et al., CVPR 2019): find the image's noun in another state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from condsim.datasets.annotations import keep_valid
from condsim.datasets.grouping import rows_by_code, word_codes
from condsim.datasets.image_files import folder_of, inner, shown_path
from condsim.harness.errors import CondsimError, require_one_of
from condsim.harness.files.json_files import read_json
from condsim.harness.images import IMAGE_SUFFIXES
from condsim.harness.names import clean_label, notes_on_alike, unusable_character
from condsim.harness.task import Benchmark, ImageTable, OnError, Ragged, Rows, Task, TrainSplit

TASKS = ("test", "adjective", "noun")
RECALL_AT = (1, 5, 10)
_TEST_NOUNS = (
    "armor bracelet bush camera candy castle ceramic cheese clock clothes coffee fan fig fish foam forest fruit "
    "furniture garden gate glass horse island laptop lead lightning mirror orange paint persimmon plastic plate potato "
    "road rubber sand shell sky smoke steel stream table tea tomato vacuum wax wheel window wool"
)
TEST_NOUNS = tuple(_TEST_NOUNS.split())
LAYOUT = (
    "the folder that holds one folder of images for each '<adjective> <noun>', or the folder above it (with images/)"
)

TextForm = Literal["adjective", "adjective noun"]


@dataclass(frozen=True)
class Split:
    """The images of some nouns. ``adjective`` and ``noun`` are [n] indices into the words, aligned with ``images``."""

    images: ImageTable
    adjectives: tuple[str, ...]
    nouns: tuple[str, ...]
    adjective: Rows
    noun: Rows
    skipped: tuple[str, ...] = ()
    """Images that are left out, one message each."""


def load(
    images: str | None = None,
    test_nouns: Sequence[str] | str | None = None,
    text: TextForm = "adjective",
    recall_at: Sequence[int] = RECALL_AT,
    tasks: Sequence[str] | None = None,
    on_error: OnError = "raise",
    name: str = "mit_states",
) -> Benchmark:
    """Tasks ``test`` (the field's recall), ``adjective`` and ``noun`` (same queries, a hit shares that word alone)."""
    chosen = tuple(tasks or TASKS)
    root = inner(folder_of(images, "benchmark.images", LAYOUT), "images")
    nouns = read_nouns(test_nouns)
    test, train = (read_split(root, nouns, inside, on_error) for inside in (True, False))
    if len(test.images) == 0:
        raise CondsimError(
            f"benchmark.images={root} has no image of a test noun ({', '.join(nouns[:5])} ...): it should be {LAYOUT}"
        )
    test = replace(test, skipped=test.skipped + train.skipped)
    return Benchmark(
        name,
        tuple(read_task(test, task, name, text=text, recall_at=recall_at) for task in chosen),
        TrainSplit(train.images, vocabulary(train)) if len(train.images) else None,
        on_error=on_error,
        notes=_notes(root, nouns, test, train),
    )


def read_nouns(nouns: Sequence[str] | str | Path | None) -> tuple[str, ...]:
    """The test split's nouns from a list, from a JSON file with one, or (None) as published."""
    if nouns is None:
        return TEST_NOUNS
    value: Any = read_json(Path(nouns), "a list of nouns") if isinstance(nouns, (str, Path)) else list(nouns)
    where = nouns if isinstance(nouns, (str, Path)) else "benchmark.test_nouns"
    if not isinstance(value, list) or not value or not all(isinstance(noun, str) and noun.strip() for noun in value):
        raise CondsimError(f"{where}: expected a list of nouns, at least one")
    if len(set(value)) < len(value):
        raise CondsimError(f"{where}: duplicate noun {next(noun for noun in value if value.count(noun) > 1)!r}")
    return tuple(clean_label(noun) for noun in value)


def read_split(root: Path, nouns: Sequence[str], inside: bool, on_error: OnError = "raise") -> Split:
    """The images whose noun is (``inside``) or is not among ``nouns``, in the order of folder and file name.

    Folder names without a space and those of the placeholder adjective "adj" are no part of the benchmark. A name that
    is not UTF-8 cannot be recorded: it raises CondsimError, or with "skip" its image is left out.
    """
    folders = [(folder, *_adjective_noun(folder.name)) for folder in sorted(root.iterdir()) if folder.is_dir()]
    chosen = [entry for entry in folders if entry[1] and (entry[2] in nouns) == inside]
    listed = (
        (f"{folder.name}/{file}", adjective, noun)
        for folder, adjective, noun in chosen
        for file in sorted(path.name for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    )
    images, skipped = keep_valid(listed, lambda _, image: _usable(image, root), on_error)
    adjectives, adjective_codes = word_codes(adjective for _, adjective, _ in images)
    noun_names, noun_codes = word_codes(noun for _, _, noun in images)
    table = ImageTable(root, tuple(name for name, _, _ in images))
    return Split(table, adjectives, noun_names, adjective_codes, noun_codes, skipped)


def _adjective_noun(folder: str) -> tuple[str, str]:
    """The words of a folder's name; two empty texts where it is no part of the benchmark."""
    adjective, _, noun = clean_label(folder).partition(" ")
    return ("", "") if not noun or adjective == "adj" else (adjective, noun)


def _usable(image: tuple[str, str, str], root: Path) -> tuple[str, str, str]:
    if fault := unusable_character(image[0]):
        raise CondsimError(
            f"{shown_path(root / image[0])}: the name holds {fault}, which no record can hold: rename the file"
        )
    return image


def _notes(root: Path, nouns: Sequence[str], test: Split, train: Split) -> tuple[str, ...]:
    """Folders whose words differ from the protocol's, or from another folder's, only in case."""
    return (
        *notes_on_alike((*nouns, *train.nouns), f"{root}: nouns of folders and test nouns"),
        *notes_on_alike(test.nouns, f"{root}: nouns of folders"),
        *notes_on_alike((*test.adjectives, *train.adjectives, "adj"), f"{root}: adjectives of folders"),
    )


def vocabulary(split: Split) -> tuple[str, ...]:
    """The split's adjectives, nouns and 'adjective noun' pairs."""
    pairs = {f"{split.adjectives[a]} {split.nouns[n]}" for a, n in zip(split.adjective, split.noun, strict=True)}
    return tuple(sorted({*split.adjectives, *split.nouns, *pairs}))


def read_task(
    split: Split,
    name: str = "test",
    benchmark: str = "mit_states",
    *,
    text: TextForm = "adjective",
    recall_at: Sequence[int] = RECALL_AT,
) -> Task:
    """Queries: every image x every other adjective its noun has in the split. Gallery: every image but the query's.

    Relevant, by ``name``: "test" the images of "<target adjective> <noun>"; "adjective" those of any noun in the target
    state; "noun" those of the noun in any state, except the query's own image.
    """
    require_one_of("tasks", name, TASKS)
    require_one_of("benchmark.text", text, ("adjective", "adjective noun"))
    exists = np.zeros((len(split.nouns), len(split.adjectives)), dtype=bool)
    exists[split.noun, split.adjective] = True
    targets = exists[split.noun]
    targets[np.arange(len(targets)), split.adjective] = False
    reference, target = np.nonzero(targets)
    if len(reference) == 0:
        raise CondsimError(f"{split.images.root}: no noun of the split has two adjectives, so there is no query")
    noun = split.noun[reference]
    if text == "adjective":
        codes, words = target, split.adjectives
    else:
        codes, words = (
            noun * len(split.adjectives) + target,
            tuple(f"{a} {n}" for n in split.nouns for a in split.adjectives),
        )
    used, condition = np.unique(codes, return_inverse=True)
    return Task(
        benchmark=benchmark,
        name=name,
        images=split.images,
        conditions=tuple((words[code],) for code in used),
        condition=condition.astype(np.int64),
        reference=reference.astype(np.int64),
        relevant=_relevant(split, name, reference, target),
        metrics=tuple(f"recall@{k}" for k in recall_at),
        gallery=np.arange(len(split.images), dtype=np.int64),
        excluded=Ragged.of(reference[:, None]),
        clusters=noun,
        cluster_name="noun",
        skipped=split.skipped,
    )


def _relevant(split: Split, name: str, reference: Rows, target: Rows) -> Ragged:
    width = len(split.adjectives)
    if name == "adjective":
        return rows_by_code(split.adjective, width).take(target)
    if name == "test":
        return rows_by_code(split.noun * width + split.adjective, width * len(split.nouns)).take(
            split.noun[reference] * width + target
        )
    lists = rows_by_code(split.noun, len(split.nouns)).take(split.noun[reference])
    others = lists.values != np.repeat(reference, lists.lengths)  # each list holds its own reference exactly once
    offsets = lists.offsets - np.arange(len(lists.offsets))
    return Ragged(offsets, lists.values[others])
