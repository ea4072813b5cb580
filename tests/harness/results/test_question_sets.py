"""Runs on different queries are never in one table, one mean or one test; what is left out is named."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from builders import Methods, make_record, make_results, make_task, write_run
from condsim.harness.commands.compare import main as compare_main
from condsim.harness.commands.leaderboard import main as leaderboard_main
from condsim.harness.errors import CondsimError
from condsim.harness.results.leaderboard import Leaderboard, make_leaderboard
from condsim.harness.results.order import created, is_misdated, tell_pictures_apart
from condsim.harness.results.question_set import group_runs
from condsim.harness.results.results import Results
from condsim.harness.results.stored_run import StoredRun
from condsim.harness.run.record import Measurement

COLOR_AND_SHAPE = [["color", "map", "c1"], ["shape", "map", "s1"]]


def run(task: str, method: str, fingerprint: str, value: float, day: int = 1, **changes: object) -> StoredRun:
    record = make_record(
        run=f"{task}-{method}-{fingerprint}", benchmark="labelled", task=task, method=method,
        config={"fingerprint": fingerprint, "method_config": {}}, queries=10, clusters=10,
        metrics={"map": Measurement(value, value - 0.1, value + 0.1)}, created=f"2020-01-{day:02}T00:00:00+00:00",
    )  # fmt: skip
    return StoredRun(Path("runs/labelled") / task / record.run, replace(record, **changes))  # type: ignore[arg-type]


def means(*runs: StoredRun) -> dict[str, float]:
    """Method -> its headline mean."""
    entries = make_leaderboard(runs).entries
    return {entry.method: entry.metrics["map"].value for entry in entries if entry.is_mean}


def test_each_question_set_has_a_table_and_a_best_of_its_own() -> None:
    leaderboard = make_leaderboard(
        [run("color", "a", "f1", 0.5), run("color", "b", "f1", 0.3), run("color", "a", "f2", 0.9, 2)]
    )
    newest, older = leaderboard.by()
    assert newest.title == "labelled/color, question set f2, backbone tiny, 10 queries"
    assert older.title == "labelled/color, other question set f1, backbone tiny, 10 queries"
    assert [len(table.rows) for table in (newest, older)] == [1, 2]
    assert [(e.method, e.question_set, e.standing) for e in leaderboard.entries] == [
        ("a", "f1", "best"), ("b", "f1", ""), ("a", "f2", ""),
    ]  # fmt: skip
    of_a = leaderboard.by("method")[0]
    assert "question_set" in [column.name for column in of_a.head]


def test_the_overview_shows_the_newest_question_set_and_names_the_others() -> None:
    leaderboard = make_leaderboard(
        [run("color", "a", "f1", 0.5), run("color", "b", "f2", 0.4, 2), run("shape", "b", "s1", 0.3)]
    )
    (table,) = leaderboard.overview()
    assert [str(row[0]) for row in table.rows] == ["b"]
    assert leaderboard.left_out_of_overview() == ["labelled/color: 1 run on the other question set f1 (10 queries)"]
    (old,) = leaderboard.select(question_set="f1").overview()
    assert "other question set f1" in old.title


def test_a_set_in_other_words_does_not_take_the_place_of_the_usual_one() -> None:
    leaderboard = make_leaderboard(
        [run("color", "a", "f1", 0.5), run("color", "a", "f2", 0.9, 2, variant="wording=the {}")]
    )
    assert [entry.question_set for entry in leaderboard.entries if entry.is_newest] == ["f1"]
    assert leaderboard.left_out_of_overview() == [
        "labelled/color: 1 run on the other question set f2 wording=the {} (10 queries)"
    ]


def test_a_run_that_a_newer_one_replaces_in_all_tables_is_named(tmp_path: Path) -> None:
    task = make_task(("color",))
    first, second = (
        write_run(tmp_path, task, "mine", 0.5, {}, seed, created=f"2020-01-0{seed}T00:00:00+00:00", headlines={})
        for seed in (1, 2)
    )
    results = Results(tmp_path)
    assert [entry.runs[0] for entry in results.leaderboard().entries] == [second.run]
    assert [hidden.run for hidden in results.hidden] == [first.run]
    assert [note for note in results.notes if "not shown: 1 run, such as" in note and first.run in note]


def test_a_mean_is_over_tasks_of_one_version_of_the_benchmark() -> None:
    """Two tables under one benchmark name: the tasks of one are never averaged with those of the other."""
    other = [["color", "map", "c2"], ["shape", "map", "s2"]]
    one: dict[str, Any] = {"headlines": {"average": COLOR_AND_SHAPE}}
    two: dict[str, Any] = {"headlines": {"average": other}}
    mixed = (run("color", "a", "c1", 0.9, **one), run("shape", "a", "s2", 0.1, **two))
    assert means(*mixed) == {}
    assert means(*mixed, run("shape", "a", "s1", 0.3, **one)) == {"a": pytest.approx(0.6)}
    both = (run("color", "a", "c1", 0.9, **one), run("shape", "a", "s1", 0.1, **one),
            run("color", "b", "c2", 0.8, **two), run("shape", "b", "s2", 0.2, **two))  # fmt: skip
    entries = [entry for entry in make_leaderboard(both).entries if entry.is_mean]
    assert len({entry.question_set for entry in entries}) == 2
    assert [entry.standing for entry in entries] == ["", ""]


def test_a_mean_is_not_guessed_where_a_record_does_not_name_the_other_tasks() -> None:
    old: dict[str, Any] = {"headlines": {"average": [["color", "map"], ["shape", "map"]]}}
    runs = (run("color", "a", "c1", 0.9, **old), run("shape", "a", "s1", 0.1, **old))
    assert means(*runs) == {"a": pytest.approx(0.5)}  # one question set per task: nothing to mix up
    assert means(*runs, run("color", "a", "c2", 0.7, 2, **old)) == {}
    # a command that ran one task knows the fingerprint of that task alone
    alone: dict[str, Any] = {"headlines": {"average": [["color", "map", ""], ["shape", "map", "s1"]]}}
    first: dict[str, Any] = {"headlines": {"average": [["color", "map", "c1"], ["shape", "map", ""]]}}
    second: dict[str, Any] = {"headlines": {"average": [["color", "map", "c2"], ["shape", "map", ""]]}}
    assert means(run("color", "a", "c1", 0.9, **first), run("shape", "a", "s1", 0.1, **alone)) == {
        "a": pytest.approx(0.5)
    }
    ambiguous = (run("color", "a", "c1", 0.9, **first), run("color", "a", "c2", 0.8, **second))
    assert means(*ambiguous, run("shape", "a", "s1", 0.1, **alone)) == {}


def test_runs_without_unusable_images_have_a_mean_and_give_way_to_whole_ones() -> None:
    one: dict[str, Any] = {"headlines": {"average": COLOR_AND_SHAPE}}
    partial = (run("color", "a", "c1-without-3", 0.5, **one), run("shape", "a", "s1", 0.1, **one))
    assert means(*partial) == {"a": pytest.approx(0.3)}
    assert means(*partial, run("color", "a", "c1", 0.9, **one)) == {"a": pytest.approx(0.5)}


def test_a_mean_over_fewer_tasks_gives_way_to_the_larger_one() -> None:
    color: dict[str, Any] = {"headlines": {"average": [["color", "map", "c1"]]}}
    both: dict[str, Any] = {"headlines": {"average": COLOR_AND_SHAPE}}
    assert means(run("color", "a", "c1", 0.9, **color)) == {"a": pytest.approx(0.9)}
    assert means(run("color", "a", "c1", 0.9, **color), run("shape", "a", "s1", 0.1, **both)) == {
        "a": pytest.approx(0.5)
    }


def on(pictures: str, fingerprint: str) -> dict[str, Any]:
    config = {"fingerprint": fingerprint, "method_config": {}, "images": pictures}
    return {"run": f"{fingerprint}-{pictures}", "config": config, "headlines": {"average": COLOR_AND_SHAPE}}


def test_runs_on_other_pictures_of_the_same_names_are_another_question_set() -> None:
    runs = [
        run("color", "a", "c1", 0.7, 1, **on("old", "c1")),
        run("color", "a", "c1", 0.9, 2, **on("new", "c1")),
        run("color", "published", "c1", 0.4, 1, **on("", "c1")),  # on features that others published
        run("shape", "a", "s1", 0.5, 1, **on("old", "s1")),
        run("shape", "a", "s1", 0.3, 2, **on("new", "s1")),
    ]
    apart = tell_pictures_apart(runs)
    leaderboard = make_leaderboard(apart)
    newest = {entry.method: entry.metrics["map"].value for entry in leaderboard.entries if entry.is_newest
              and entry.task == "color"}  # fmt: skip
    assert newest == {"a": 0.9, "published": 0.4}
    (color, shape) = leaderboard.left_out_of_overview()
    assert color.startswith("labelled/color: 1 run on the other question set")
    assert "pictures old" in color
    assert "pictures old" in shape
    of_old = leaderboard.of_runs({"c1-old", "s1-old"})
    assert {entry.task: entry.metrics["map"].value for entry in of_old.entries} == {
        "color": 0.7, "shape": 0.5, "average": pytest.approx(0.6)
    }  # fmt: skip
    assert [group.is_newest for group in group_runs(apart)] == [True, False, True, False]


def test_a_mean_is_never_over_two_contents_of_the_same_pictures() -> None:
    runs = [
        run("color", "a", "c1", 0.7, 1, **on("old", "c1")),
        run("shape", "a", "s1", 0.5, 1, **on("old", "s1")),
        run("color", "a", "c1", 0.9, 2, **on("new", "c1")),  # and shape not yet
    ]
    assert means(*tell_pictures_apart(runs)) == {"a": pytest.approx(0.6)}


def test_one_content_of_the_pictures_is_no_variant() -> None:
    runs = [run("color", "a", "c1", 0.7, 1, **on("old", "c1")), run("color", "b", "c1", 0.5, 1, **on("", "c1"))]
    assert [(r.question_set, r.variant) for r in tell_pictures_apart(runs)] == [("c1", ""), ("c1", "")]


def test_a_date_in_the_future_counts_as_the_oldest() -> None:
    future = run("color", "a", "f1", 0.5, created="2931-01-01T00:00:00+00:00")
    past = run("color", "b", "f2", 0.4)
    assert [group.id for group in group_runs([future, past])] == ["f2", "f1"]
    assert (is_misdated(future), is_misdated(past)) == (True, False)
    now = datetime(2020, 1, 1, tzinfo=UTC)
    assert created(run("color", "a", "f", 0.5, 2), now) == datetime(2020, 1, 2, tzinfo=UTC)  # clocks differ by hours
    assert created(run("color", "a", "f", 0.5, 3), now) < now
    assert created(run("color", "a", "f", 0.5, created="yesterday"), now) < now


@pytest.fixture
def two_question_sets(tmp_path: Path) -> Results:
    make_results(tmp_path / "results", queries=20, methods=(("old", 1.0, {}),), created="2020-01-01T00:00:00+00:00")
    methods: Methods = (("new", 1.0, {}), ("newer", 0.0, {}))
    make_results(tmp_path / "results", queries=30, methods=methods, seed=5, created="2020-02-01T00:00:00+00:00")
    return Results(tmp_path / "results")


@pytest.mark.usefixtures("no_charts")
def test_commands_name_what_they_leave_out(
    two_question_sets: Results, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = str(two_question_sets.folder)
    assert compare_main(["--results", folder, "--task", "toy/focus"]) == 0
    shown = capsys.readouterr()
    assert "| old" not in shown.out
    assert "not compared: toy/focus: 1 run on the other question set" in shown.err
    older = two_question_sets.question_sets[1]
    assert older.full_name == "toy/find"
    assert compare_main(["--results", folder, "--task", "toy/find", "--question-set", older.id[:8]]) == 0
    assert "| old" in capsys.readouterr().out
    with pytest.raises(CondsimError, match="has no question set"):
        compare_main(["--results", folder, "--task", "toy/find", "--question-set", "zzz"])
    assert leaderboard_main(["--results", folder, "--overview"]) == 0
    assert "not in the overview: toy/find: 1 run on the other question set" in capsys.readouterr().err
    rows = list(csv.DictReader(io.StringIO((two_question_sets.folder / "leaderboard.csv").read_text())))
    assert len({row["question_set"] for row in rows if row["task"] == "focus"}) == 2
    two_question_sets.report(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "toy/focus: 1 run on the other question set" in page
    assert page.count("(older)") >= 2


def test_only_runs_on_the_same_queries_are_paired(two_question_sets: Results) -> None:
    (group,) = (g for g in two_question_sets.question_sets if g.name == "focus" and g.is_newest)
    assert {run.record.method for run in group.runs} == {"new", "newer"}
    board: Leaderboard = two_question_sets.leaderboard()
    letters = {entry.method: entry.letters for entry in board.select(task="focus").entries}
    assert letters["old"] == ""
    assert letters["new"]
