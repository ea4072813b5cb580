"""Domain conversion (FreeDom, WACV 2025; Pic2Word, CVPR 2023): the same class in the domain that the text names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from condsim.datasets.annotations import read_each_line, shown
from condsim.datasets.image_files import files_below, folder_of, image_folder, inner, moved, relative_file, with_files
from condsim.harness.errors import CondsimError, did_you_mean, require_one_of
from condsim.harness.names import unusable_character
from condsim.harness.task import Benchmark, Headline, ImageTable, Labels, OnError, Ragged, Task

IMAGENET_DOMAINS = {0: "cartoon", 1: "origami", 2: "toy", 3: "sculpture", 6: "real"}
"""Thousands of a label of Pic2Word's lists, whose last three digits are the class."""
ROWS = 'lines of "path domain class" (FreeDom), or "path label" (Pic2Word\'s ImageNet lists)'
TEXTS: Mapping[str, Callable[[str], str]] = {
    "freedom": lambda domain: domain,
    "pic2word": lambda domain: f"a {domain} of",
    "magiclens": lambda domain: f"find this object in {domain}",
}
"""Form -> domain word -> the query's text."""


class Domain(NamedTuple):
    """A domain as the lists call it, as published tables do, and its word in a query."""

    listed: str
    name: str
    word: str


@dataclass(frozen=True)
class Dataset:
    """One set of list files and what its paper measures on it."""

    folders: tuple[str, ...]
    """Names of its image folder, which are the first folder of its listed paths too."""
    database: tuple[str, ...]
    """Names of the list of its gallery, the first that is there counts."""
    domains: tuple[Domain, ...]
    cuts: tuple[int, int]
    queries: tuple[str, ...] | None = None
    """None: every image of the gallery is a query too."""
    source: str | None = None
    """The only domain that queries come from, and then one task per target; None: one task per source."""
    text: str = "freedom"

    @property
    def metrics(self) -> tuple[str, ...]:
        if self.source is not None:
            return tuple(f"{family}@{k}" for family in ("recall_share", "recall") for k in self.cuts)
        return ("map_trapezoid_eps", *(f"{name}@{k}" for name in ("recall_share", "precision") for k in self.cuts))


def _domains(*words: str, **renamed: str) -> tuple[Domain, ...]:
    """Domains whose three names are one word, and those whose listed name is another."""
    return (*(Domain(word, word, word) for word in words), *(Domain(k, v, v) for k, v in renamed.items()))


_IMAGENET = _domains("cartoon", "origami", "toy", "sculpture", real="photo")
DATASETS: Mapping[str, Dataset] = {
    "imagenet_r": Dataset(
        ("imagenet_r", "imgnet"), ("full_files.csv", "imgnet_targets.txt", "targets.txt"), _IMAGENET, (10, 50),
    ),
    "minidomainnet": Dataset(
        ("minidn",), ("database_files.csv",), _domains("clipart", "painting", "sketch", real="photo"), (50, 100),
        ("query_files.csv",),
    ),
    "nico_pp": Dataset(
        ("nico",), ("database_files.csv",),
        (*_domains("autumn", "grass", "outdoor", "rock", "water"), Domain("dim", "dim", "dimlight")), (50, 100),
        ("query_files.csv",),
    ),
    "ltll": Dataset(
        ("ltll",), ("full_files.csv",), (Domain("New", "today", "Today"), Domain("Old", "archive", "Archive")), (5, 10),
    ),
    "imagenet_pic2word": Dataset(
        ("imgnet", "imagenet_r"), ("imgnet_targets.txt", "targets.txt"), _IMAGENET, (10, 50),
        ("imgnet_real_query.txt", "real_query.txt"), "real", "pic2word",
    ),
}  # fmt: skip
ANNOTATIONS = "FreeDom's folder data/, or the folder of the lists of one dataset"
IMAGES = "the folder that holds the dataset's folder of images, or that folder itself"


class Listed(NamedTuple):
    image: str
    """Path without its first folder, which is another in each release."""
    domain: str
    label: str


def load(
    dataset: str | None = None,
    annotations: str | None = None,
    images: str | None = None,
    text: str | None = None,
    metrics: Sequence[str] | None = None,
    on_error: OnError = "raise",
    tasks: Sequence[str] | None = None,
    name: str | None = None,
) -> Benchmark:
    """One task per source domain, to every other domain, and the mean over the sources.

    The benchmark is named after ``dataset``, one of ``DATASETS``. With "imagenet_pic2word", Pic2Word's older protocol,
    there is one task per target domain instead, from photographs alone.
    """
    if not dataset:
        raise CondsimError(f"benchmark.dataset is not set: it should be one of {', '.join(DATASETS)}")
    require_one_of("benchmark.dataset", dataset, DATASETS)
    chosen = DATASETS[dataset]
    folder = folder_of(annotations, "benchmark.annotations", ANNOTATIONS)
    root = image_folder(images, IMAGES, on_error)
    name = name or dataset
    measured = chosen.metrics if metrics is None else tuple(metrics)
    read = read_tasks(folder, root, chosen, name, text=text or chosen.text, metrics=measured, on_error=on_error)
    return Benchmark(name, read, headlines=headlines(chosen, read, measured), on_error=on_error).select(tasks)


def headlines(dataset: Dataset, tasks: Sequence[Task], metrics: Sequence[str]) -> dict[str, Headline]:
    """The means over the tasks: of average precision, and of each share in Pic2Word's protocol."""
    if dataset.source is None:
        means = {"average": "map_trapezoid_eps"}
    else:
        means = {f"average@{k}": f"recall_share@{k}" for k in dataset.cuts}
    return {mean: tuple((task.name, metric) for task in tasks) for mean, metric in means.items() if metric in metrics}


def list_file(folder: Path, dataset: Dataset, names: Sequence[str]) -> Path:
    """The first of ``names`` in ``folder``: in the dataset's own folder, with its name before it, or as it is."""
    places = [
        place
        for name in names
        for own in dataset.folders
        for place in (folder / own / name, folder / f"{own}_{name}", folder / name)
    ]
    return next((place for place in places if place.is_file()), places[0])


def read_list_file(path: Path, dataset: Dataset, on_error: OnError = "raise") -> tuple[list[Listed], tuple[str, ...]]:
    """The lines in file order, and one message for each that is left out."""
    known = [domain.listed for domain in dataset.domains]
    first: dict[str, str] = {}

    def read(where: str, raw: str) -> Listed:
        cells = raw.split()
        if len(cells) == 2 and cells[1].isascii() and cells[1].isdigit():
            thousands, of_imagenet = divmod(int(cells[1]), 1000)
            cells = [cells[0], IMAGENET_DOMAINS.get(thousands, cells[1]), str(of_imagenet)]
        if len(cells) != 3:
            raise CondsimError(f"{where}: expected {ROWS}, found {shown(raw)}")
        image, domain, label = cells
        if domain not in known:
            raise CondsimError(f"{where}: there is no domain {domain!a}. {did_you_mean(domain, known)}")
        if fault := unusable_character(label):
            raise CondsimError(f"{where}: the class holds {fault}")
        image = relative_file(image, where).partition("/")[2]
        if not image:
            raise CondsimError(f"{where}: expected a path with the dataset's folder before it, found {cells[0]!a}")
        if (earlier := first.setdefault(image, where)) != where:
            raise CondsimError(f"{where}: {image} is in {earlier.removeprefix(f'{path}, ')} already")
        return Listed(image, domain, label)

    return read_each_line(path, ROWS, read, on_error)


def read_lists(
    folder: Path, dataset: Dataset, on_error: OnError = "raise"
) -> tuple[list[Listed], list[Listed], tuple[str, ...]]:
    """The query images, the images of the gallery, and what was left out."""
    database, skipped = read_list_file(list_file(folder, dataset, dataset.database), dataset, on_error)
    if dataset.queries is None:
        return database, database, skipped
    queries, more = read_list_file(list_file(folder, dataset, dataset.queries), dataset, on_error)
    if dataset.source is not None:  # Pic2Word's query labels have no thousands: all are photographs
        queries = [query._replace(domain=dataset.source) for query in queries]
    return queries, database, (*skipped, *more)


def read_tasks(
    folder: Path,
    root: Path | None,
    dataset: Dataset,
    benchmark: str,
    *,
    text: str = "freedom",
    metrics: Sequence[str] = (),
    on_error: OnError = "raise",
) -> tuple[Task, ...]:
    """Positive is an image of the query's class in the target domain. A query image in the gallery stays there.

    Queries without a positive count 0, as the released codes count them. ``root`` None looks no image up.
    """
    require_one_of("benchmark.text", text, TEXTS)
    queries, database, skipped = read_lists(folder, dataset, on_error)
    rows: dict[str, int] = {}
    for line in (*database, *queries):
        rows.setdefault(line.image, len(rows))
    listed: dict[tuple[str, str], list[int]] = {}
    for line in database:
        listed.setdefault((line.domain, line.label), []).append(rows[line.image])
    of_class = {key: np.array(found, dtype=np.int64) for key, found in listed.items()}
    names = tuple(rows)
    place = None if root is None else inner(root, *dataset.folders)
    index = None if place is None else index_images(place)
    images = ImageTable(place or folder, names, files=moved(names, index))
    gallery = np.arange(len(database), dtype=np.int64)

    def task(name: str, pairs: Sequence[tuple[Domain, Domain]]) -> Task:
        lists = [(query, target) for source, target in pairs for query in queries if query.domain == source.listed]
        targets = [target for _, target in pairs]
        code = {target.listed: i for i, target in enumerate(targets)}
        condition = np.array([code[target.listed] for _, target in lists], dtype=np.int64)
        reference = np.array([rows[query.image] for query, _ in lists], dtype=np.int64)
        several = len(targets) > 1
        whole = Task(
            benchmark=benchmark,
            name=name,
            images=images,
            conditions=tuple((TEXTS[text](target.word),) for target in targets),
            condition=condition,
            reference=reference,
            relevant=Ragged.of(of_class.get((target.listed, query.label), ()) for query, target in lists),
            metrics=tuple(metrics),
            gallery=gallery,
            clusters=reference,
            cluster_name="reference",
            query_ids=tuple(f"{query.image} {target.name}" if several else query.image for query, target in lists),
            labels=Labels(tuple(t.name for t in targets), Ragged.of([c] for c in condition)) if several else None,
            counts_unanswerable=True,
            variant="" if text == dataset.text else f"text={text}",
            skipped=skipped,
        )
        return with_files(whole, index, on_error, IMAGES)

    there = {query.domain for query in queries}
    sources = [domain for domain in dataset.domains if domain.listed in there]
    if dataset.source is None:
        return tuple(
            task(f"source_{source.name}", [(source, target) for target in dataset.domains if target != source])
            for source in sources
        )
    return tuple(
        task(target.name, [(source, target)]) for source in sources for target in dataset.domains if target != source
    )


def index_images(root: Path) -> dict[str, str]:
    """Path as the lists have it -> path on disk, of every file below ``root``.

    FreeDom's set-up script renames LTLL's and NICO++'s folders and files with blanks in their names (to none or to an
    underscore); files that still have them are found too.
    """
    below = files_below(root)
    for path in list(below):
        if " " in path:
            parent, file = str(PurePosixPath(path).parent), PurePosixPath(path).name.replace(" ", "_")
            for blank in ("", "_"):
                below.setdefault(f"{parent.replace(' ', blank)}/{file}", below[path])
    return below
