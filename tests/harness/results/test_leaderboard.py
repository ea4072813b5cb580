"""The leaderboard is a pure function of records: fixed order, percent, newest of equals, headline means."""

import csv
import io
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from condsim.harness.commands.leaderboard import main, select
from condsim.harness.errors import CondsimError
from condsim.harness.hashing import settings_hash
from condsim.harness.results.csv_file import filter_rows, to_csv, to_long_csv
from condsim.harness.results.leaderboard import leaderboard_rows, read_leaderboard, rows_of_runs, write_leaderboard
from condsim.harness.results.published import find_published, read_published
from condsim.harness.results.significance import share_letter
from condsim.harness.results.table import task_tables, to_latex, to_markdown
from condsim.harness.run.record import MetricValue, Record, record_folder, write_record


def record(
    task: str = "one", method: str = "clay", value: float = 0.5, rank: int | None = None, **more: object
) -> Record:
    settings = {} if rank is None else {"rank": rank}
    parts: dict[str, object] = {
        "run": f"{task}-{method}-{rank}",
        "benchmark": "toy",
        "task": task,
        "method": method,
        "backbone": "tiny",
        "settings": settings,
        "config": {"method_config": settings},
        "queries": 4,
        "clusters": 4,
        "cluster_name": "query",
        "metrics": {"recall@1": MetricValue(value, value - 0.1, value + 0.1), "recall@10": MetricValue(1, 1, 1)},
        "seconds": {"score": 0.1},
        "versions": {},
    }
    return Record(**{**parts, **more})  # type: ignore[arg-type]


def test_rows_do_not_depend_on_the_order_of_records() -> None:
    records = [record(t, m, rank=r) for t in ("one", "two") for m in ("clay", "image_only") for r in (2, 10, 5)]
    expected = to_csv(leaderboard_rows(records))
    for seed in range(5):
        random.Random(seed).shuffle(records)
        assert to_csv(leaderboard_rows(records)) == expected
    ranks = [row["rank"] for row in leaderboard_rows(records) if (row["task"], row["method"]) == ("one", "clay")]
    assert ranks == [2, 5, 10]


def test_columns_are_percent_with_intervals_and_settings() -> None:
    table = list(csv.DictReader(io.StringIO(to_csv(leaderboard_rows([record(rank=5), record(method="image_only")])))))
    assert [row["settings"] for row in table] == ["rank=5", ""]
    assert [float(row["recall@1"]) for row in table] == [50, 50]
    assert [(float(row["recall@1_low"]), float(row["recall@1_high"])) for row in table] == [(40, 60), (40, 60)]
    header = list(table[0])
    assert header.index("recall@1") < header.index("recall@10") < header.index("seconds") < header.index("run")


def test_the_newest_of_equal_records_counts() -> None:
    old = record(value=0.2, created="2026-01-01", run="zz")
    new = record(value=0.3, created="2026-02-01", run="aa")
    assert [row["recall@1"] for row in leaderboard_rows([new, old])] == [30]


def test_a_headline_is_the_mean_and_absent_while_a_task_is_missing() -> None:
    headlines = {"average": [["one", "recall@1"], ["two", "recall@1"]]}
    one, two = record("one", value=0.2, headlines=headlines), record("two", value=0.6, headlines=headlines)
    assert [row["task"] for row in leaderboard_rows([one])] == ["one"]
    average = [row for row in leaderboard_rows([one, two]) if row["task"] == "average"]
    assert [row["recall@1"] for row in average] == [pytest.approx(40)]


def test_a_corrupt_record_is_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {"task": "toy/one", "method": "clay", "fingerprint": "0", "method_config": {}}
    good = record(config=config, run=settings_hash(config), created="2026-01-01T00:00:00+00:00")
    write_record(record_folder(tmp_path, "toy", "one", "clay", good.run), good)
    (tmp_path / "runs/toy/one/clay-b").mkdir()
    (tmp_path / "runs/toy/one/clay-b/record.json").write_text("{")
    rows = write_leaderboard(tmp_path)
    assert len(rows) == 1
    assert (tmp_path / "leaderboard.csv").read_text() == to_csv(rows)
    assert "clay-b/record.json" in capsys.readouterr().out


def test_the_mean_of_tasks_has_the_interval_of_independent_samples() -> None:
    headlines = {
        "average": [["one", "recall@1"], ["two", "recall@1"]],
        "same": [["one", "recall@1"], ["one", "recall@10"]],
    }
    one, two = (record(task, value=value, headlines=headlines) for task, value in (("one", 0.2), ("two", 0.6)))
    rows = {row["task"]: row for row in leaderboard_rows([one, replace(two, queries=5)])}
    half = 10 * 2**0.5 / 2  # each task's interval is 10 points either way
    assert (rows["average"]["recall@1_low"], rows["average"]["recall@1_high"]) == pytest.approx((40 - half, 40 + half))
    # the same sample asked two things: errors need not cancel
    (alike,) = (row for row in leaderboard_rows([one, two]) if row["task"] == "average")
    assert (alike["recall@1_low"], alike["recall@1_high"]) == pytest.approx((30, 50))
    assert rows["same"]["mean"] == pytest.approx(60)
    assert "mean_low" not in rows["same"]  # two metrics of the same queries are not independent


def test_the_rows_of_some_runs_have_their_headlines_and_no_others() -> None:
    headlines = {"average": [["one", "recall@1"], ["two", "recall@1"]]}
    records = [record(task, rank=rank, headlines=headlines) for task in ("one", "two") for rank in (4, 8)]
    shown = rows_of_runs(leaderboard_rows(records), {"two-clay-8"})
    assert [(row["task"], row["settings"]) for row in shown] == [("two", "rank=8"), ("average", "rank=8")]


def test_headline_rows_keep_the_order_of_rows() -> None:
    headlines = {"average": [["one", "recall@1"]]}
    rows = leaderboard_rows([record(rank=rank, headlines=headlines) for rank in (32, 4, 8)])
    assert [row["rank"] for row in rows] == [4, 8, 32] * 2


PUBLISHED = """paper,table,benchmark,task,method,backbone,metric,value
A Paper,Table 1,toy,one,clay,tiny,recall@1,47.5
Another,Table 2,toy,one,clay,tiny,recall@1,99.0
A Paper,Table 1,toy,one,clay,tiny,recall@99,1.0
A Paper,Table 1,toy,one,image_only,other,recall@1,12.0
"""


def test_published_rows_stand_beside_ours_with_the_difference(tmp_path: Path) -> None:
    (tmp_path / "reference").mkdir()
    (tmp_path / "reference/published.csv").write_text(PUBLISHED)
    published = read_published(find_published(tmp_path))
    rows = leaderboard_rows([record(), record(rank=5), record(method="image_only")], published=published)
    first, swept, other = rows[0], rows[1], rows[2]
    assert (first["recall@1_reported"], first["recall@1_difference"]) == (47.5, 2.5)
    assert first["reported_in"] == "A Paper, Table 1"
    assert "recall@1_reported" not in swept  # not the published settings
    assert "recall@1_reported" not in other  # not the published backbone
    assert "reported: A Paper, Table 1" in to_markdown(task_tables(rows))
    assert "47.5 (+2.5)" in to_markdown(task_tables(rows))
    long = list(csv.DictReader(io.StringIO(to_long_csv(rows))))
    first = next(row for row in long if row["metric"] == "recall@1")
    assert (first["reported"], first["difference"]) == ("47.5", "2.5")


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


def test_the_long_table_has_a_row_a_metric() -> None:
    rows = leaderboard_rows(
        [record(), record(method="image_only", metrics={"recall@1": MetricValue(0.3, 0.2, 0.4, 0.1)})]
    )
    long = list(csv.DictReader(io.StringIO(to_long_csv(rows))))
    assert [(row["method"], row["metric"], row["value"], row["low"], row["high"], row["chance"]) for row in long] == [
        ("clay", "recall@1", "50.0", "40.0", "60.0", ""),
        ("clay", "recall@10", "100", "100", "100", ""),
        ("image_only", "recall@1", "30.0", "20.0", "40.0", "10.0"),
    ]


def test_filters_choose_rows_and_metrics_and_name_the_nearest() -> None:
    rows = leaderboard_rows([record(t, m, rank=r) for t in ("one", "two") for m in ("clay", "other") for r in (2, 10)])
    chosen = select(rows, ["method=clay", "rank=10", "task=toy/one", "metric=recall@10"])
    assert [(row["task"], row["method"], row["rank"]) for row in chosen] == [("one", "clay", 10)]
    assert "recall@1" not in chosen[0]
    assert "recall@1_low" not in chosen[0]
    assert len(select(rows, ["rank=2,10", "task=one"])) == 4
    told = {"methud=clay": "'method'", "method=klay": "'clay'", "metric=recal@1": "'recall@1'", "clay": "COLUMN=VALUE"}
    for wrong, message in told.items():
        with pytest.raises(CondsimError, match=message):
            select(rows, [wrong])


def test_letters_mark_who_is_not_separable_from_the_best() -> None:
    records = [record(method=name, value=value) for name, value in (("a", 0.5), ("b", 0.45), ("c", 0.2))]
    letters = {records[0].run: "a", records[1].run: "ab", records[2].run: "b"}
    rows = leaderboard_rows(records, letters)
    assert [(row["method"], row["standing"]) for row in rows] == [("a", "best"), ("b", "not separable"), ("c", "")]
    text = to_markdown(task_tables(rows))
    assert "**50.0** ±10.0" in text
    assert "45.0 ±10.0 ~" in text
    assert "20.0 ±10.0 |" in text
    # without the best, the next best is what others are compared with
    assert "20.0 ±10.0 ~" in to_markdown(task_tables(filter_rows(rows, {"method": ["b", "c"]})))


@pytest.mark.parametrize(("one", "other", "shared"), [("ab", "b", True), ("a", "b", False), ("a(53)", "(53)", True),
                                                      ("(53)", "(54)", False), ("", "", False)])  # fmt: skip
def test_letters_beyond_the_alphabet_are_shared_whole(one: str, other: str, shared: bool) -> None:
    assert share_letter(one, other) is shared


def test_markup_of_names_is_shown_and_not_obeyed() -> None:
    hostile = r"<script>alert(1)</script> | \input{x} 100% a_b$"
    rows = leaderboard_rows([record(method=hostile), record()])
    markdown = to_markdown(task_tables(rows))
    assert "<script>" not in markdown.replace(r"\<script>", "")
    lines = [line.replace(r"\|", "") for line in markdown.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1  # the name's own bar makes no column
    latex = to_latex(task_tables(rows))
    assert r"\textbackslash{}input\{x\} 100\% a\_b\$" in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 1


def test_tables_can_be_grouped_by_other_columns() -> None:
    rows = leaderboard_rows([record(t, m) for t in ("one", "two") for m in ("clay", "other")])
    tables = task_tables(rows, ("method",))
    assert [table.title.split(",")[0] for table in tables] == ["clay", "other"]
    assert [row[0] for row in tables[0].rows] == ["one", "two"]


def test_letters_come_from_the_ranks_are_kept_and_follow_the_records(
    tmp_path: Path, results_maker: Callable[..., Path]
) -> None:
    methods = (("good", 2.0, {}), ("as_good", 2.0, {}), ("bad", 0.0, {}))
    results = results_maker(tmp_path / "results", queries=60, methods=methods)
    rows = {(row["task"], row["method"]): row for row in read_leaderboard(results)}
    assert share_letter(rows["focus", "good"]["letters"], rows["focus", "as_good"]["letters"])
    assert not share_letter(rows["focus", "good"]["letters"], rows["focus", "bad"]["letters"])
    assert {rows["focus", name]["standing"] for name in ("good", "as_good")} == {"best", "not separable"}
    assert rows["focus", "bad"]["standing"] == ""
    kept = results / "runs/toy/focus/letters.json"
    before, before_text = kept.stat().st_mtime_ns, kept.read_text()
    assert {(row["task"], row["method"]): row for row in read_leaderboard(results)} == rows
    assert kept.stat().st_mtime_ns == before
    kept.write_text("{")
    assert {(row["task"], row["method"]): row for row in read_leaderboard(results)} == rows
    removed = rows["focus", "as_good"]["run"]
    assert removed in before_text
    shutil.rmtree(results / f"runs/toy/focus/as_good-{removed}")
    assert {row["method"] for row in read_leaderboard(results) if row["task"] == "focus"} == {"good", "bad"}
    assert removed not in kept.read_text()


def test_clustered_queries_without_their_task_file_are_not_compared(
    tmp_path: Path, results_maker: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    results = results_maker(tmp_path / "results", queries=20, methods=(("one", 1.0, {}), ("two", 0.0, {})), clusters=5)
    next((results / "runs/toy/focus").glob("task-*.npz")).unlink()
    rows = read_leaderboard(results)
    assert {row["letters"] for row in rows if row["task"] == "focus"} == {""}
    assert "5 clusters" in capsys.readouterr().out


def test_the_command_writes_every_format_and_needs_nothing_slow(
    tmp_path: Path, results_maker: Callable[..., Path]
) -> None:
    results = results_maker(tmp_path / "results", queries=20, methods=(("one", 1.0, {}), ("two", 0.0, {})))
    rows = write_leaderboard(results)
    for name, expected in (("wide.csv", to_csv(rows)), ("long.csv", to_long_csv(rows))):
        form = ["--format", "long"] if name == "long.csv" else []
        assert main(["--results", str(results), "--output", str(tmp_path / name), *form]) == 0
        assert (tmp_path / name).read_text() == expected
    for name, part in (("board.md", "| method |"), ("board.tex", r"\toprule")):
        assert main(["--results", str(results), "--output", str(tmp_path / name), "method=one"]) == 0
        text = (tmp_path / name).read_text()
        assert part in text
        assert "two" not in text
    with pytest.raises(CondsimError, match=r"\.xlsx"):
        main(["--results", str(results), "--output", str(tmp_path / "board.xlsx")])
    code = (
        "import sys; from condsim.harness.commands.leaderboard import main; main(['--results', sys.argv[1]]);"
        "sys.exit(bool({'torch', 'scipy', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(results)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "toy/focus" in done.stdout
    assert "\x1b" not in done.stdout
