"""The leaderboard is a pure function of records: fixed order, newest of equals, headline means, filters, letters."""

import csv
import io
import json
import random
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builders import Methods, make_record, make_results, make_tasks, write_run
from condsim.harness.commands.leaderboard import main
from condsim.harness.errors import CondsimError
from condsim.harness.results.entry import Entry
from condsim.harness.results.leaderboard import Leaderboard, make_leaderboard, parse_filters
from condsim.harness.results.published import find_published, read_published
from condsim.harness.results.report.page import context
from condsim.harness.results.results import Results
from condsim.harness.results.stored_run import StoredRun
from condsim.harness.results.table import task_columns
from condsim.harness.run.record import Measurement, Record
from condsim.harness.statistics.letters import share_letter


def record(
    task: str = "one", method: str = "clay", value: float = 0.5, rank: int | None = None, **more: object
) -> Record:
    settings = {} if rank is None else {"rank": rank}
    parts: dict[str, Any] = {
        "run": f"{task}-{method}-{rank}", "task": task, "method": method, "settings": settings,
        "config": {"method_config": settings, "fingerprint": f"{task} fingerprint"},
        "metrics": {"recall@1": Measurement(value, value - 0.1, value + 0.1), "recall@10": Measurement(1, 1, 1)},
    }  # fmt: skip
    return make_record(**{**parts, **more})


def board(*records: Record, letters: dict[str, str] | None = None) -> Leaderboard:
    return make_leaderboard([StoredRun(Path(record.run), record) for record in records], letters)


def values(leaderboard: Leaderboard, metric: str = "recall@1") -> list[float]:
    return [entry.metrics[metric].value for entry in leaderboard.entries]


def test_rows_do_not_depend_on_the_order_of_records() -> None:
    records = [record(t, m, rank=r) for t in ("one", "two") for m in ("clay", "image_only") for r in (2, 10, 5)]
    expected = board(*records).to_csv()
    for seed in range(5):
        random.Random(seed).shuffle(records)
        assert board(*records).to_csv() == expected
    entries = board(*records).select(task="one", method="clay").entries
    assert [entry.rank for entry in entries] == [2, 5, 10]


def test_the_newest_of_equal_records_counts() -> None:
    old = record(value=0.2, created="2020-01-01", run="zz")
    new = record(value=0.3, created="2020-02-01", run="aa")
    assert values(board(new, old)) == [0.3]


def test_a_headline_is_the_mean_and_absent_while_a_task_is_missing() -> None:
    headlines = {"average": [["one", "recall@1"], ["two", "recall@1"]]}
    one, two = record("one", value=0.2, headlines=headlines), record("two", value=0.6, headlines=headlines)
    assert [entry.task for entry in board(one).entries] == ["one"]
    (average,) = board(one, two).select(task="average").entries
    assert average.metrics["recall@1"].value == pytest.approx(0.4)
    assert average.runs == (one.run, two.run)


def test_the_mean_of_tasks_has_the_interval_of_independent_samples() -> None:
    headlines = {
        "average": [["one", "recall@1"], ["two", "recall@1"]],
        "same": [["one", "recall@1"], ["one", "recall@10"]],
    }
    one, two = (record(task, value=value, headlines=headlines) for task, value in (("one", 0.2), ("two", 0.6)))
    entries = {entry.task: entry for entry in board(one, replace(two, queries=5)).entries}
    half = 0.1 * 2**0.5 / 2  # each task's interval is 10 points either way
    assert entries["average"].metrics["recall@1"].ends == pytest.approx((0.4 - half, 0.4 + half))
    # two questions about the same sample: errors need not cancel
    (alike,) = board(one, two).select(task="average").entries
    assert alike.metrics["recall@1"].ends == pytest.approx((0.3, 0.5))
    assert entries["same"].metrics["mean"].value == pytest.approx(0.6)
    assert entries["same"].metrics["mean"].low is None  # two metrics of the same queries are not independent


def test_the_part_of_a_command_has_only_means_over_its_own_runs() -> None:
    headlines = {"average": [["one", "recall@1"], ["two", "recall@1"]]}
    records = [record(task, rank=rank, headlines=headlines) for task in ("one", "two") for rank in (4, 8)]
    everything = board(*records)
    part = everything.of_runs({"two-clay-8"})
    assert [(entry.task, entry.settings) for entry in part.entries] == [("two", "rank=8")]
    part = everything.of_runs({"one-clay-8", "two-clay-8", "one-clay-4"})
    assert [(entry.task, entry.settings) for entry in part.entries] == [
        ("one", "rank=4"), ("one", "rank=8"), ("two", "rank=8"), ("average", "rank=8"),
    ]  # fmt: skip


def test_headline_rows_keep_the_order_of_rows() -> None:
    headlines = {"average": [["one", "recall@1"]]}
    entries = board(*(record(rank=rank, headlines=headlines) for rank in (32, 4, 8))).entries
    assert [entry.rank for entry in entries] == [4, 8, 32] * 2


def test_the_best_and_those_not_significantly_different() -> None:
    records = [record(method=name, value=value) for name, value in (("a", 0.5), ("b", 0.45), ("c", 0.2))]
    leaderboard = board(*records, letters={records[0].run: "a", records[1].run: "ab", records[2].run: "b"})
    best = leaderboard.best("toy/one")
    assert best.method == "a"
    assert [entry.method for entry in leaderboard.tied(best)] == ["b"]
    with pytest.raises(CondsimError, match="toy/one"):
        leaderboard.best("toy/on")


PUBLISHED = """paper,table,benchmark,task,method,backbone,metric,value
A Paper,Table 1,toy,one,clay,tiny,recall@1,47.5
Another,Table 2,toy,one,clay,tiny,recall@1,99.0
A Paper,Table 1,toy,one,clay,tiny,recall@99,1.0
A Paper,Table 1,toy,one,image_only,other,recall@1,12.0
"""


def test_published_numbers_are_beside_ours_with_the_difference(tmp_path: Path) -> None:
    (tmp_path / "reference").mkdir()
    (tmp_path / "reference/published.csv").write_text(PUBLISHED)
    published = read_published(find_published(tmp_path))
    runs = [StoredRun(tmp_path, made) for made in (record(), record(rank=5), record(method="image_only"))]
    leaderboard = make_leaderboard(runs, published=published)
    first, swept, other = leaderboard.entries
    assert first.metrics["recall@1"].reported == pytest.approx(0.475)
    assert first.metrics["recall@1"].source == first.reported_in == "A Paper, Table 1"
    assert swept.metrics["recall@1"].reported is None  # not the published settings
    assert other.metrics["recall@1"].reported is None  # not the published backbone
    assert "reported: A Paper, Table 1" in leaderboard.to_markdown()
    assert "47.5 (+2.5)" in leaderboard.to_markdown()
    long = list(csv.DictReader(io.StringIO(leaderboard.to_long_csv())))
    row = next(row for row in long if row["metric"] == "recall@1")
    assert (row["reported"], row["difference"]) == ("47.5", "2.5")


def test_a_wrong_line_of_published_numbers_is_named(tmp_path: Path) -> None:
    path = tmp_path / "published.csv"
    path.write_text(PUBLISHED.replace("99.0", "n/a"))
    with pytest.raises(CondsimError, match=r"published\.csv, line 3: value 'n/a'"):
        read_published(path)
    path.write_text("paper,value\n")
    with pytest.raises(CondsimError, match="backbone"):
        read_published(path)


def test_the_repositorys_published_numbers_are_read() -> None:
    path = find_published(Path("nowhere"))
    assert path is not None
    reported = read_published(path)["genecis", "focus_attribute", "image_only", "RN50x4/openai"]
    assert reported[0].values == {"recall@1": 17.7, "recall@2": 30.9, "recall@3": 41.9}


def test_filters_choose_entries_and_metrics_and_name_the_nearest() -> None:
    everything = board(*(record(t, m, rank=r) for t in ("one", "two") for m in ("clay", "other") for r in (2, 10)))

    def select(*texts: str) -> tuple[Entry, ...]:
        return everything.select(**parse_filters(texts)).entries  # type: ignore[arg-type]

    (chosen,) = select("method=clay", "rank=10", "task=toy/one", "metric=recall@10")
    assert (chosen.task, chosen.method, chosen.rank, list(chosen.metrics)) == ("one", "clay", 10, ["recall@10"])
    assert len(select("rank=2,10", "task=one")) == 4
    assert everything.select(rank=[2, 10], task="one").entries == select("rank=2,10", "task=one")
    messages = {"methud=clay": "'method'", "method=klay": "'clay'", "metric=recal@1": "'recall@1'",
                "clay": "COLUMN=VALUE", "results=/my": "--results /my"}  # fmt: skip
    for wrong, message in messages.items():
        with pytest.raises(CondsimError, match=message):
            select(wrong)


def test_marks_of_significance_follow_what_is_shown() -> None:
    records = [record(method=name, value=value) for name, value in (("a", 0.5), ("b", 0.45), ("c", 0.2))]
    leaderboard = board(*records, letters={records[0].run: "a", records[1].run: "ab", records[2].run: "b"})
    assert [(entry.method, entry.standing) for entry in leaderboard.entries] == [
        ("a", "best"), ("b", "not separable"), ("c", ""),
    ]  # fmt: skip
    text = leaderboard.to_markdown()
    assert "**50.0** ±10.0" in text
    assert "45.0 ±10.0 ~" in text
    assert "20.0 ±10.0 |" in text
    # without the best, the next best is what others are compared with
    assert "20.0 ±10.0 ~" in leaderboard.select(method=["b", "c"]).to_markdown()


def test_a_frame_has_the_columns_of_the_csv() -> None:
    frame = board(record(), record(method="image_only", metrics={"map": Measurement(0.3, 0.2, 0.4)})).to_frame()
    assert list(frame["method"]) == ["clay", "image_only"]
    assert frame["recall@1"].iloc[0] == 50
    assert frame["recall@1"].isna().tolist() == [False, True]
    assert frame["map_low"].iloc[1] == 20


@pytest.mark.parametrize(("one", "other", "shared"), [("ab", "b", True), ("a", "b", False), ("a(53)", "(53)", True),
                                                      ("(53)", "(54)", False), ("", "", False)])  # fmt: skip
def test_letters_beyond_the_alphabet_are_shared_whole(one: str, other: str, shared: bool) -> None:
    assert share_letter(one, other) is shared


def test_markup_of_names_is_text() -> None:
    hostile = r"<script>alert(1)</script> | \input{x} 100% a_b$"
    leaderboard = board(record(method=hostile), record())
    markdown = leaderboard.to_markdown()
    assert "<script>" not in markdown.replace(r"\<script>", "")
    lines = [line.replace(r"\|", "") for line in markdown.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1  # the name's own bar makes no column
    latex = leaderboard.to_latex()
    assert r"\textbackslash{}input\{x\} 100\% a\_b\$" in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 1


def test_tables_can_be_split_by_other_columns() -> None:
    tables = board(*(record(t, m) for t in ("one", "two") for m in ("clay", "other"))).by("method")
    assert [table.title.split(",")[0] for table in tables] == ["clay", "other"]
    assert [row[0] for row in tables[0].rows] == ["one", "two"]


def entries_of(results: Path) -> dict[tuple[str, str], Entry]:
    return {(entry.task, entry.method): entry for entry in Results(results).leaderboard().entries}


def test_letters_come_from_the_ranks_are_kept_and_follow_the_records(
    tmp_path: Path,
) -> None:
    methods: Methods = (("good", 2.0, {}), ("as_good", 2.0, {}), ("bad", 0.0, {}))
    results = make_results(tmp_path / "results", queries=60, methods=methods)
    entries = entries_of(results)
    assert share_letter(entries["focus", "good"].letters, entries["focus", "as_good"].letters)
    assert not share_letter(entries["focus", "good"].letters, entries["focus", "bad"].letters)
    assert {entries["focus", name].standing for name in ("good", "as_good")} == {"best", "not separable"}
    assert entries["focus", "bad"].standing == ""
    kept = results / "runs/toy/focus/letters.json"
    before, before_text = kept.stat().st_mtime_ns, kept.read_text()
    assert entries_of(results) == entries
    assert kept.stat().st_mtime_ns == before
    removed = entries["focus", "as_good"].run
    assert removed in before_text
    shutil.rmtree(results / f"runs/toy/focus/as_good-{removed}")
    assert {method for task, method in entries_of(results) if task == "focus"} == {"good", "bad"}
    assert removed not in kept.read_text()


def test_damaged_letters_are_computed_again(tmp_path: Path) -> None:
    methods: Methods = (("good", 2.0, {}), ("bad", 0.0, {}))
    results = make_results(tmp_path / "results", queries=20, methods=methods)
    expected = entries_of(results)
    kept = results / "runs/toy/focus/letters.json"
    good = kept.read_bytes()
    content = json.loads(good)
    (letters,) = content["kept"].values()
    letters.update(dict.fromkeys(letters, "a"))
    for damaged in (b"{", b"[" * 100_000, json.dumps(content).encode(), good.replace(b'"b"', b'"a"'), b"\xff", b"null"):
        kept.write_bytes(damaged)
        assert entries_of(results) == expected
        assert kept.read_bytes() == good
    for place in range(0, len(good), 37):
        kept.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        assert {key: entry.letters for key, entry in entries_of(results).items()} == {
            key: entry.letters for key, entry in expected.items()
        }


def test_clustered_queries_without_their_task_file_are_not_compared(
    tmp_path: Path,
) -> None:
    results = make_results(tmp_path / "results", queries=20, methods=(("one", 1.0, {}), ("two", 0.0, {})), clusters=5)
    next((results / "runs/toy/focus").glob("task-*.npz")).unlink()
    opened = Results(results)
    assert {entry.letters for entry in opened.leaderboard().entries if entry.task == "focus"} == {""}
    assert "5 clusters" in " ".join(opened.notes)


def test_the_command_writes_every_format_and_needs_nothing_slow(
    tmp_path: Path,
) -> None:
    results = make_results(tmp_path / "results", queries=20, methods=(("one", 1.0, {}), ("two", 0.0, {})))
    everything = Results(results).write_leaderboard()
    assert (results / "leaderboard.csv").read_text() == everything.to_csv()
    for name, expected in (("wide.csv", everything.to_csv()), ("long.csv", everything.to_long_csv())):
        form = ["--format", "long"] if name == "long.csv" else []
        assert main(["--results", str(results), "--output", str(tmp_path / name), *form]) == 0
        assert (tmp_path / name).read_text() == expected
    for name, part in (("board.md", "| method |"), ("board.tex", r"\toprule")):
        assert main(["--results", str(results), "--output", str(tmp_path / name), "method=one"]) == 0
        text = (tmp_path / name).read_text()
        assert part in text
        assert not re.search(r"^(\| )?two ", text, re.MULTILINE)
    assert main(["--results", str(results), "--output", str(tmp_path / "board.md"), "--names", "one=First"]) == 0
    assert "| First" in (tmp_path / "board.md").read_text()
    with pytest.raises(CondsimError, match=r"--names twi=First: no record has method 'twi'. Did you mean 'two'"):
        main(["--results", str(results), "--output", str(tmp_path / "board.md"), "--names", "twi=First"])
    with pytest.raises(CondsimError, match=r"\.xlsx"):
        main(["--results", str(results), "--output", str(tmp_path / "board.xlsx")])
    code = (
        "import sys; from condsim.harness.commands.leaderboard import main; main(['--results', sys.argv[1]]);"
        "sys.exit(bool({'torch', 'numpy', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(results)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "toy/focus" in done.stdout
    assert "\x1b" not in done.stdout


def test_every_table_for_a_paper_has_the_letters_and_says_what_was_tested(results_folder: Path) -> None:
    board = Results(results_folder).leaderboard().select(task="toy/focus")
    (table,) = board.by()
    place = [column.name for column in table.head].index("group")
    assert [row[place] for row in table.rows] == [entry.letters for entry in board.entries]
    assert any(entry.letters for entry in board.entries)
    for text in (board.to_markdown(), board.to_latex()):
        assert text.count("paired sign-flip test") == len(board.tables())
    assert "seconds" in board.to_markdown()
    assert "seconds" not in board.to_latex()
    by_method = Results(results_folder).leaderboard().by("method")
    assert all("group" not in [column.name for column in table.head] for table in by_method), "letters are per task"


def test_genecis_comes_first_in_the_order_of_its_mean(tmp_path: Path) -> None:
    headlines = {"genecis_average": [["zebra", "recall@1"], ["ant", "recall@1"]]}
    results = tmp_path / "results"
    for task in (replace(make_tasks(tmp_path / "pictures", 20)[0], name=name) for name in ("ant", "bee", "zebra")):
        write_run(results, task, "clay", 1.0, {}, 0, headlines=headlines)
    entries = Results(results).leaderboard().entries
    assert list(task_columns(entries)) == ["genecis_average", "zebra", "ant", "bee"]
    shown = context(Results(results).question_sets, entries, [], lambda depends_on, compute: compute())
    assert [table.name for table in shown["tasks"]] == ["toy/zebra", "toy/ant", "toy/bee"]
