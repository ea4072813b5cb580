"""The real lists of domain conversion: published counts, queries without positives, and every line read back."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from condsim.datasets import domain_conversion
from condsim.datasets.domain_conversion import DATASETS
from condsim.datasets.sources import PUBLISHED
from condsim.harness.task import Benchmark

pytestmark = pytest.mark.slow


def load(folder: Path, dataset: str) -> Benchmark:
    return domain_conversion.load(dataset, str(folder))


def entries(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines()]


def test_ltll(domain_conversion_lists: Path) -> None:
    benchmark = load(domain_conversion_lists, "ltll")
    assert [(task.name, len(task), task.conditions) for task in benchmark.tasks] == [
        ("source_today", 279, (("Archive",),)),
        ("source_archive", 209, (("Today",),)),
    ]
    listed = {path.partition("/")[2]: (domain, label) for path, domain, label in entries(
        domain_conversion_lists / "ltll_full_files.csv"
    )}  # fmt: skip
    assert (len(listed), len({label for _, label in listed.values()})) == (488, 25)
    for task, source, target in zip(benchmark.tasks, ("New", "Old"), ("Old", "New"), strict=True):
        names = task.images.names
        assert set(names) == set(listed)
        assert len(task.gallery_rows) == 488
        for query, row in enumerate(task.reference):
            domain, label = listed[names[row]]
            assert domain == source
            expected = {name for name, of in listed.items() if of == (target, label)}
            assert {names[positive] for positive in task.relevant[query]} == expected
        assert task.relevant.lengths.all()


def test_imagenet_r_counts_the_queries_without_positives(domain_conversion_lists: Path) -> None:
    benchmark = load(domain_conversion_lists, "imagenet_r")
    images = {"cartoon": 3_726, "origami": 550, "toy": 1_511, "sculpture": 1_196, "photo": 10_000}
    assert {task.name: len(task) for task in benchmark.tasks} == {f"source_{d}": 4 * n for d, n in images.items()}
    assert all(len(task.gallery_rows) == 16_983 for task in benchmark.tasks)
    lists = entries(domain_conversion_lists / "imagenet_r_targets.txt")
    words = {0: "cartoon", 1: "origami", 2: "toy", 3: "sculpture", 6: "photo"}
    known = [(words[int(label) // 1000], path.split("/")[2]) for path, label in lists]
    assert len({synset for _, synset in known}) == 200
    of_class, unanswerable = Counter(known), {}
    for task in benchmark.tasks:
        assert task.labels is not None
        source = task.name.removeprefix("source_")
        for code, target in enumerate(task.labels.names):
            lengths = task.relevant.lengths[task.labels.codes.values == code]
            expected = [of_class[target, synset] for domain, synset in known if domain == source]
            assert lengths.tolist() == expected, "by WordNet's ids, which the loader does not read"
            unanswerable[source, target] = int(np.count_nonzero(lengths == 0))
    assert unanswerable["photo", "origami"] == 4_700
    assert unanswerable["cartoon", "photo"] == 0
    assert sum(unanswerable.values()) == 14_721


def test_pic2words_older_protocol(domain_conversion_lists: Path) -> None:
    benchmark = load(domain_conversion_lists, "imagenet_pic2word")
    assert [task.name for task in benchmark.tasks] == ["cartoon", "origami", "toy", "sculpture"]
    photographs = load(domain_conversion_lists, "imagenet_r").tasks[-1]
    assert photographs.labels is not None
    for task in benchmark.tasks:
        assert (len(task), len(task.gallery_rows)) == (10_000, 16_983)
        assert task.conditions == ((f"a {task.name} of",),)
        same = photographs.labels.codes.values == photographs.labels.names.index(task.name)
        theirs = dict(zip(photographs.reference[same], photographs.relevant.lengths[same], strict=True))
        ours = dict(zip(task.reference, task.relevant.lengths, strict=True))
        assert ours == theirs, "the same questions as from FreeDom's photographs"


@pytest.mark.parametrize(("dataset", "file"), [("nico_pp", "nico"), ("minidomainnet", "minidn")])
def test_query_lists(domain_conversion_lists: Path, tmp_path: Path, dataset: str, file: str) -> None:
    """The gallery's lists of NICO++ and MiniDomainNet are not at hand: the query list stands in for them."""
    content = (domain_conversion_lists / f"{file}_query_files.csv").read_text()
    for name in ("query", "database"):
        (tmp_path / f"{file}_{name}_files.csv").write_text(content)
    tasks = load(tmp_path, dataset).tasks
    others = len(DATASETS[dataset].domains) - 1
    assert sum(len(task) for task in tasks) == PUBLISHED[dataset]["references"] * others
    assert all(task.relevant.lengths.all() for task in tasks)
