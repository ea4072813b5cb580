"""Rankings out and in: what is imported is measured exactly as the run that was exported."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from condsim.harness.errors import CondsimError
from condsim.harness.exchange.imported import ImportedRanking, NoFeatures, bind
from condsim.harness.exchange.run_file import QueryRanking, read_rankings, write_rankings
from condsim.harness.method import Gallery, Method, Queries, Scorer
from condsim.harness.ranking.engine import Ranking
from condsim.harness.run.identity import RunSettings
from condsim.harness.run.run import measure, measure_task, rank
from condsim.harness.task import Benchmark, ImageTable, Ragged, Task
from condsim.harness.variants.fewer_queries import unique_query_ids

NAMES = ("a b.png", "50%.png", "ü/1.png", *(f"{i}.png" for i in range(5)))
METRICS = ("recall@1", "recall@2", "map", "mrr", "ndcg@3")


class Coarse(Method):
    """Few distinct scores, so that many candidates tie."""

    needs_text = False

    def prepare(self, gallery: Gallery) -> Scorer:
        def score(queries: Queries, rows: Tensor | None = None) -> Tensor:
            assert queries.row is not None
            items = torch.from_numpy(gallery.rows) if rows is None else torch.from_numpy(gallery.rows)[rows]
            mixed = (queries.row[:, None] * 7 + items * 5) % 4
            return mixed.float() / 3

        return score


def own_lists() -> Task:
    """GeneCIS's form: crops, lists of different lengths, one with an item twice."""
    boxes = np.full((len(NAMES), 4), np.nan)
    boxes[3:] = [0.1, 2, 30.25, 4]
    images = ImageTable(Path("nowhere"), (*NAMES[:4], NAMES[3], *NAMES[5:]), boxes + np.arange(len(NAMES))[:, None])
    lists = [[0, 1, 2, 3], [3, 4, 3, 5, 6], [7, 0, 4], [1, 2]]
    return Task(
        "toy", "own", images, (("color",),), np.zeros(4, np.int64), np.array([7, 0, 1, 3]),
        Ragged.of([[2], [3], [0], [1]]), METRICS, candidates=Ragged.of(lists),
    )  # fmt: skip


def gallery_with_subsets() -> Task:
    """CIRR's form: one gallery without the reference, a subset, several relevant items, clusters, ids of its own."""
    reference = np.array([0, 1, 2, 3, 0])
    return Task(
        "toy", "shared", ImageTable(Path("nowhere"), NAMES), (("color",),), np.zeros(5, np.int64), reference,
        Ragged.of([[4, 5], [0], [7, 1], [6], [2]]), (*METRICS, "subset_recall@1", "target_recall@2"),
        gallery=np.arange(8), excluded=Ragged.of(reference[:, None]),
        subset=Ragged.of([[4, 5, 1], [0, 2, 3], [7, 6, 5], [6, 0], [2, 1, 7]]),
        clusters=reference, cluster_name="reference", query_ids=("q 1", "q2", "q3", "q4", "q5"),
        target=np.array([5, 0, 1, 6, 2]),
    )  # fmt: skip


def ranking_of(task: Task) -> Ranking:
    return rank(Benchmark("toy", (task,)), task, Coarse(), NoFeatures("none"), top=len(NAMES))[0]


def written(task: Task, path: Path, form: str, depth: int | None = None) -> Path:
    ranking, items = ranking_of(task), task.images.keys
    assert ranking.top is not None
    assert ranking.top_scores is not None
    lists = [
        [(items[row], score) for row, score in dict(zip(rows, scores, strict=True)).items() if row >= 0][:depth]
        for rows, scores in zip(ranking.top.tolist(), ranking.top_scores.tolist(), strict=True)
    ]
    write_rankings(path, form, zip(unique_query_ids(task), lists, strict=True), "coarse")
    return path


@pytest.mark.parametrize("form", ["trec", "jsonl"])
@pytest.mark.parametrize("make", [own_lists, gallery_with_subsets])
def test_an_imported_ranking_has_the_numbers_of_the_run_to_the_last_digit(
    make: Callable[[], Task], form: str, tmp_path: Path
) -> None:
    task = make()
    places, _ = bind(task, read_rankings([written(task, tmp_path / f"run.{form}.gz", form)]))
    settings = RunSettings("theirs", {"ranking": places.digest}, {})
    imported = measure_task(
        Benchmark("toy", (task,)), task, ImportedRanking(places), NoFeatures("imported", ["a note"]), settings
    )
    assert imported.record.metrics == measure(task, ranking_of(task), 10_000, 0)
    assert imported.record.notes == ["a note"]


def test_both_formats_and_any_order_of_lines_are_one_run(tmp_path: Path) -> None:
    task = gallery_with_subsets()
    trec, lines = (written(task, tmp_path / f"run.{form}", form) for form in ("trec", "jsonl"))
    shuffled = tmp_path / "shuffled.trec"
    shuffled.write_text("".join(sorted(trec.read_text(encoding="utf-8").splitlines(keepends=True))), encoding="utf-8")
    digests = {bind(task, read_rankings([path]))[0].digest for path in (trec, lines, shuffled)}
    assert len(digests) == 1


def test_several_files_are_one_ranking_and_a_query_is_in_one_of_them(tmp_path: Path) -> None:
    task = gallery_with_subsets()
    whole = written(task, tmp_path / "run.jsonl", "jsonl")
    first, *rest = whole.read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "1.jsonl").write_text(first, encoding="utf-8")
    (tmp_path / "2.jsonl").write_text("".join(rest), encoding="utf-8")
    parts = [tmp_path / "1.jsonl", tmp_path / "2.jsonl"]
    assert bind(task, read_rankings(parts))[0].digest == bind(task, read_rankings([whole]))[0].digest
    with pytest.raises(CondsimError, match=r"2\.jsonl, line 1: query 'q2' has a ranking in .*run\.jsonl, line 2"):
        read_rankings([whole, tmp_path / "2.jsonl"])


def test_candidates_that_are_not_listed_tie_for_the_last_place(tmp_path: Path) -> None:
    task = gallery_with_subsets()
    places, notes = bind(task, read_rankings([written(task, tmp_path / "run.trec", "trec", depth=2)]))
    ranking, _ = rank(Benchmark("toy", (task,)), task, ImportedRanking(places), NoFeatures("none"), top=0)
    for query in range(len(task)):
        listed = {task.reference[query]} | {key % 8 for key in places.key if key // 8 == query}
        missing = set(task.relevant[query].tolist()) - listed
        last = ranking.ranks.offsets[query + 1] - 1
        if missing:  # the last group is theirs: two are above, the five others of the gallery tie
            assert ranking.ranks.above[last] == 2
            assert ranking.ranks.relevant[last] + ranking.ranks.irrelevant[last] == 5
    assert notes[0].startswith("5 of 5 queries do not list every candidate")


def line(query: str = "0", ranking: object = ((NAMES[0], 1.0),)) -> str:
    return json.dumps({"query": query, "ranking": ranking})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file holds no ranking"),
        ("0 Q0 a 1 0.5", "line 1: 5 columns, expected six columns"),
        ("0 Q0 a 1 high x", "line 1: the score 'high' is not a finite number"),
        ("0 Q0 a 1 nan x", "line 1: the score 'nan' is not a finite number"),
        ('{"query": "0"}', "line 1: expected a line such as"),
        ("{" * 100_000, "line 1: expected a line such as"),
        (line(ranking=[["a", True]]), "line 1: the score 'True' is not"),
        (line(ranking=[["a"]]), "line 1: expected a line such as"),
    ],
)
def test_a_file_that_is_no_ranking_is_one_message(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "run.txt").write_text(text, encoding="utf-8")
    with pytest.raises(CondsimError, match=message):
        read_rankings([tmp_path / "run.txt"])


def test_a_damaged_archive_and_a_missing_file_are_named(tmp_path: Path) -> None:
    whole = gzip.compress(b"0 Q0 a 1 0.5 x\n" * 1000)
    (tmp_path / "run.gz").write_bytes(whole[: len(whole) // 2])
    for name in ("run.gz", "missing.trec"):
        with pytest.raises(CondsimError, match=f"{name}: the ranking cannot be read"):
            read_rankings([tmp_path / name])


def queries(**changes: QueryRanking | None) -> dict[str, QueryRanking]:
    """A ranking of each query of the shared gallery, with changes."""
    usual = {f"q{i}": QueryRanking(f"q{i}", NAMES, tuple(map(float, range(8))), f"run.trec, line {i}") for i in "2345"}
    usual["q 1"] = QueryRanking("q 1", NAMES, tuple(map(float, range(8))), "run.trec, line 1")
    return {name: ranking for name, ranking in (usual | changes).items() if ranking is not None}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (queries(q3=None), "1 of the 5 queries of toy/shared have no ranking, the first is query 'q3'"),
        (
            queries(q33=QueryRanking("q33", NAMES, (0.0,) * 8, "run.trec, line 9")),
            "line 9: .* no query 'q33'. A name is",
        ),
        (queries(q3=QueryRanking("q3", ("0.pgn",), (0.0,), "here")), "here: query 'q3' ranks '0.pgn'.*mean '0.png'"),
        (queries(q3=QueryRanking("q3", ("0.png",) * 2, (0.0, 1.0), "here")), "gives '0.png' two different scores"),
    ],
)
def test_ids_that_do_not_fit_the_task_are_named(given: dict[str, QueryRanking], message: str) -> None:
    with pytest.raises(CondsimError, match=message):
        bind(gallery_with_subsets(), given)


def test_what_is_no_candidate_is_ignored_and_counted() -> None:
    task = own_lists()
    every = task.images.keys
    given = {str(i): QueryRanking(str(i), tuple(every), tuple(range(8)), "here") for i in range(4)}
    places, notes = bind(task, given)
    assert len(places.key) == 4 + 4 + 3 + 2
    assert notes == ["19 entries that are no candidates of their query were ignored"]
