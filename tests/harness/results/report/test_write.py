"""The report is a pure function of the results folder, whole in one file, and shows data as text."""

from __future__ import annotations

import html.parser
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from builders import Methods, make_record, make_results
from condsim.harness.commands.report import main
from condsim.harness.commands.report import run as run_report
from condsim.harness.errors import CondsimError
from condsim.harness.results.breakdown import by_condition, fooled, informative_order, kind_shares, wins
from condsim.harness.results.costs import CostPlot, CostPoint, cost_plots
from condsim.harness.results.figures import cost_scatter
from condsim.harness.results.question_set import group_runs
from condsim.harness.results.report import charts, page, queries
from condsim.harness.results.report.inline_svg import inline_svg
from condsim.harness.results.report.thumbnails import thumbnail_uri
from condsim.harness.results.report.write import embedded_json
from condsim.harness.results.results import Results
from condsim.harness.results.stored_run import StoredRun
from condsim.harness.results.sweeps import Sweep, find_sweeps
from condsim.harness.run.record import Measurement, Record
from condsim.harness.task import ImageTable, Kinds, Ragged, Task

HOSTILE = "<script>alert(1)</script>\"'&</table>"


class Page(html.parser.HTMLParser):
    """What a browser would make of the file: its elements, its addresses, its texts, the data it carries."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.texts: list[str] = []
        self.data = ""
        self.inside = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "srcset")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.inside = "data" if found.get("id") == "data" else tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "data":
            self.data += data
        elif self.inside not in ("script", "style"):
            self.texts.append(data)


def small_task() -> Task:
    """Three queries of two conditions; candidates 0..4, the relevant one first; kinds near and far."""
    return Task(
        "toy", "kinds", ImageTable(Path("."), tuple("abcde")), (("color",), ("shape",)), np.array([1, 1, 0]),
        np.zeros(3, dtype=np.int64), Ragged.of([[1], [2], [3]]), ("recall@1",),
        candidates=Ragged.of([[1, 2, 3], [2, 3, 4, 4], [3, 1]]),
        kinds=Kinds(("near", "far"), np.array([-1, 0, 1, -1, 0, 1, -1, -1, 1])),
    )  # fmt: skip


def test_who_fools_a_method() -> None:
    found = fooled(small_task(), np.array([3, 2, 1]))  # query 0: far, query 1: right, query 2: far
    assert found.right == pytest.approx(1 / 3)
    assert found.by_kind == {"near": 0, "far": pytest.approx(2 / 3)}
    assert found.unknown == 0
    assert fooled(small_task(), np.array([2, 3, 1])).by_kind["near"] == pytest.approx(2 / 3)
    # a row that is there twice counts as what it is first; a best candidate that is in no list is unknown
    assert fooled(small_task(), np.array([1, 4, 0])).unknown == pytest.approx(1 / 3)
    assert fooled(small_task(), np.array([1, 4, 0])).by_kind["far"] == pytest.approx(1 / 3)


def test_shares_of_kinds_leave_the_targets_out() -> None:
    assert kind_shares(small_task()) == {"near": pytest.approx(2 / 6), "far": pytest.approx(3 / 6)}


def test_conditions_are_averaged_over_their_own_queries() -> None:
    rows = by_condition(small_task(), {"one": np.array([1.0, 0.0, 0.5])})
    assert [(row.name, row.queries, row.means) for row in rows] == [
        ("shape", 2, {"one": 0.5}),
        ("color", 1, {"one": 0.5}),
    ]


def test_wins_count_what_one_gets_and_the_other_misses() -> None:
    rng = np.random.default_rng(0)
    right = [rng.random(50) < 0.5 for _ in range(4)]
    counted = wins(right)
    for i in range(4):
        for j in range(4):
            assert counted[i][j] == sum(a and not b for a, b in zip(right[i], right[j], strict=True))


def test_disagreement_comes_first_and_conditions_take_turns() -> None:
    task = small_task()
    order = informative_order(task, [np.array([True, True, True]), np.array([False, False, True])])
    assert list(order) == [0, 1, 2]
    alike = informative_order(task, [np.array([True, True, True])])
    assert task.condition[alike].tolist() == [1, 0, 1]


def sweep_record(task: str, rank: int, **config: object) -> Record:
    return make_record(
        run=f"{task}{rank}{config}", task=task, settings={"rank": rank, **config},
        config={"method_config": {"rank": rank, "flag": True, "base": {"weight": 0.5}, **config}, "fingerprint": task},
        metrics={"recall@1": Measurement(rank / 100, 0, 1)}, created="2020-01-01T00:00:00+00:00",
    )  # fmt: skip


def sweeps_of(records: list[Record]) -> list[Sweep]:
    return find_sweeps(group_runs([StoredRun(Path(record.run), record) for record in records]))


def test_sweeps_are_found_per_setting_and_all_else_must_be_equal() -> None:
    records = [sweep_record(task, rank) for task in ("one", "two") for rank in (10, 2, 5)]
    records += [sweep_record("one", rank, centre=True) for rank in (2, 5)]  # too few, and not the same method
    (found,) = sweeps_of(records)
    assert (found.method, found.setting, found.fixed) == ("clay", "rank", "")
    assert {task: [x for x, _ in line] for task, line in found.lines.items()} == {"one": [2, 5, 10], "two": [2, 5, 10]}


def test_a_sweep_over_what_is_trained_has_a_checkpoint_at_each_value() -> None:
    records = [sweep_record("one", rank, checkpoint=f"content:{rank}") for rank in (16, 4, 8)]
    again = sweep_record("one", 8, checkpoint="content:newer")
    again = replace(again, created="2020-02-01T00:00:00+00:00", metrics={"recall@1": Measurement(0.9, 0, 1)})
    (found,) = sweeps_of([again, *records])
    assert (found.setting, found.fixed) == ("rank", "")
    assert [(x, metric.value) for x, metric in found.lines["one"]] == [(4, 0.04), (8, 0.9), (16, 0.16)]


def test_cost_is_shown_for_runs_that_saw_only_some_tasks(tmp_path: Path) -> None:
    """Where no run saw every task there is a plot nevertheless: the fullest first, and every run is on one."""
    results = make_results(tmp_path / "results", queries=10, methods=tuple((name, 0.5, {}) for name in "abcd"))
    for gone in ("find/a-*", "find/b-*", "focus/c-*"):
        (folder,) = (results / "runs/toy").glob(gone)
        shutil.rmtree(folder)
    focus, find = cost_plots(Results(results).chosen())
    assert (focus.title, sorted(point.label for point in focus.points)) == ("toy, focus", ["a", "b", "d"])
    assert (find.title, sorted(point.label for point in find.points)) == ("toy, find", ["c", "d"])
    assert focus.methods == find.methods  # one colour per method
    (whole,) = cost_plots(Results(make_results(tmp_path / "whole/results", queries=10)).chosen())
    assert (whole.title, whole.note) == ("toy", "")


def test_charts_of_the_page_take_its_colours_and_escape() -> None:
    points = tuple(CostPoint(HOSTILE, HOSTILE + str(x), x, Measurement(0.5, 0.4, 0.6)) for x in (1.0, 10.0, 100.0))
    plot = CostPlot(HOSTILE, HOSTILE, points, (HOSTILE,))
    charts = [inline_svg(lambda: cost_scatter(plot), f"{HOSTILE}{i}") for i in (0, 1)]
    for chart in charts:
        assert chart.startswith("<svg ")
        assert chart.count("<svg") == chart.count("</svg>") == 1
        assert "<script" not in chart
        assert "var(--c0)" in chart
        assert "var(--soft)" in chart
        assert not re.search(r"#(?!ff)[0-9a-f]{6}\b", chart)
    identifiers = [set(re.findall(r' id="([^"]*)"', chart)) for chart in charts]
    assert identifiers[0].isdisjoint(identifiers[1])  # both are on one page
    for chart, own in zip(charts, identifiers, strict=True):
        assert set(re.findall(r"url\(#([^)]*)\)", chart)) | set(re.findall(r'href="#([^"]*)"', chart)) <= own


@pytest.fixture(scope="module")
def whole(results_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The report of ``results_folder``, and what it holds in numbers."""
    path = tmp_path_factory.mktemp("whole") / "deep/report.html"
    return path, Results(results_folder).report(path)


def test_the_file_is_whole_and_names_nothing_outside(results_folder: Path, whole: tuple[Path, dict[str, Any]]) -> None:
    path, facts = whole
    page = Page(path)
    assert facts["records"] == 14
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    assert "http" not in path.read_text().replace("http-equiv", "")
    assert {"link", "iframe", "object"} & set(page.tags) <= {"link"}
    assert str(results_folder.parent) not in path.read_text()  # no path of this machine
    text = " ".join(page.texts)
    for section in (
        "Leaderboard",
        "Task by task",
        "Sweeps",
        "Condition by condition",
        "Distractors",
        "Cost",
        "Queries",
    ):
        assert section in text
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_its_numbers_are_those_of_the_records(results_folder: Path, whole: tuple[Path, dict[str, Any]]) -> None:
    shown = (whole[0]).read_text()
    groups = {group.name: group for group in Results(results_folder).chosen()}
    for group in groups.values():
        for run in group.runs:
            for metric in run.record.metrics.values():
                assert f'data-value="{round(100 * metric.value, 4)}"' in shown
    data = json.loads(Page(whole[0]).data)
    for task in data["tasks"]:
        group = groups[task["name"].split("/")[1]]
        right = [run.values("recall@1") for run in group.runs]
        assert task["wins"][0][1] == int(((right[0] == 1) & (right[1] == 0)).sum())
        assert task["runs"] == [run.label for run in group.runs]
        for query in task["queries"]:
            number = int(query["id"])
            assert query["ranks"] == [run.ranks.rank[number] for run in group.runs]
            for run, top, hits in zip(group.runs, query["top"], query["hits"], strict=True):
                assert group.task is not None
                assert run.top is not None
                names = [data["pictures"][index][0] for index in top]
                assert names == [group.task.images.names[row] for row in run.top[number, : len(top)]]
                assert hits == [int(row in group.task.relevant[number]) for row in run.top[number, : len(top)]]


def test_the_same_records_give_the_same_bytes_also_from_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = make_results(tmp_path / "results", queries=10)
    monkeypatch.setattr(charts, "_drawn", lambda drawing, content, name: f"<svg>{name}: {content}</svg>")
    Results(results).report(tmp_path / "first.html", queries=5)
    with monkeypatch.context() as patch:
        for module, name in ((charts, "_drawn"), (page, "run_gaps"), (page, "fooled"), (queries, "_entry")):
            patch.setattr(module, name, None)
        Results(results).report(tmp_path / "again.html", queries=5)
    kept = results / "runs/report.json"
    kept.write_text(kept.read_text().replace("recall", "recoil"))
    Results(results).report(tmp_path / "damaged.html", queries=5)
    assert len({(tmp_path / f"{name}.html").read_bytes() for name in ("first", "again", "damaged")}) == 1


@pytest.mark.usefixtures("no_charts")
def test_thumbnails_of_the_report_that_is_replaced_are_used_while_they_are_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two: Methods = (("one", 1.0, {}), ("two", 0.0, {}))
    results = Results(make_results(tmp_path / "results", queries=4, methods=two, pictures=True))
    made: list[str] = []

    def make(table: ImageTable, row: int, side: int, content: bytes) -> str | None:
        made.append(table.names[row])
        return thumbnail_uri(table, row, side, content)

    monkeypatch.setattr(queries, "thumbnail_uri", make)

    def names_made(**settings: Any) -> list[str]:
        made.clear()
        results.report(tmp_path / "report.html", **settings)
        return sorted(made)

    every = names_made()
    first = (tmp_path / "report.html").read_bytes()
    assert names_made() == []
    assert (tmp_path / "report.html").read_bytes() == first
    Image.new("RGB", (72, 64), "black").save(tmp_path / "pictures" / every[0])
    assert names_made() == [every[0]]
    assert names_made(thumbnail=32) == every
    page = (tmp_path / "report.html").read_text()
    for other in (page[: len(page) // 2], page.replace("data:image/webp", "javascript:alert(1)")):
        (tmp_path / "report.html").write_text(other)
        assert names_made(thumbnail=32) == every
        assert (tmp_path / "report.html").read_text() == page


def test_hostile_names_are_text(tmp_path: Path) -> None:
    results = make_results(
        tmp_path / "results", queries=12, condition=HOSTILE, prefix="<img src=x onerror=alert(1)>",
        methods=((HOSTILE, 1.0, {HOSTILE: HOSTILE}), ("plain", 0.0, {})),
    )  # fmt: skip
    Results(results).report(tmp_path / "report.html", title=HOSTILE)
    page = Page(tmp_path / "report.html")
    assert page.tags.count("script") == 2  # the data and the page's own
    assert "img" not in page.tags  # pictures are made by the page's script, from data
    assert page.handlers == []
    assert page.tags.count("table") == page.tags.count("thead") >= 5
    assert HOSTILE in "".join(page.texts)
    data = json.loads(page.data)
    assert data["tasks"][0]["runs"][0].startswith(HOSTILE)
    assert any(query["condition"] == HOSTILE for query in data["tasks"][0]["queries"])
    assert any(name.startswith("<img") for name, _, _ in data["pictures"])


def test_no_string_can_end_the_data_element() -> None:
    for text in ("</script>", "<!--<script>", "\u2028\u2029", "]]>", "&lt;", 'a"b\\'):
        embedded = embedded_json({"x": text})
        assert not set("<>&\u2028\u2029") & set(embedded)
        assert json.loads(embedded) == {"x": text}


@pytest.mark.parametrize("budget", [0.15, 20.0])
@pytest.mark.usefixtures("no_charts")
def test_the_budget_holds_and_tasks_share_it(results_folder: Path, tmp_path: Path, budget: float) -> None:
    path = tmp_path / "report.html"
    facts = Results(results_folder).report(path, budget_mb=budget, queries=60)
    assert path.stat().st_size <= budget * 1e6
    shown = [len(task["queries"]) for task in json.loads(Page(path).data)["tasks"]]
    assert max(shown) - min(shown) <= 1
    assert facts["full"] is (sum(shown) < 120)
    assert ("as many as fit into the size limit" in path.read_text()) is facts["full"]
    assert facts["full"] is (budget < 1)


@pytest.mark.usefixtures("no_charts")
def test_a_missing_picture_is_a_placeholder_and_counted(tmp_path: Path) -> None:
    results = make_results(tmp_path / "results", queries=10, methods=(("one", 1.0, {}), ("two", 0.0, {})))
    facts = Results(results).report(tmp_path / "report.html")
    pictures = json.loads(Page(tmp_path / "report.html").data)["pictures"]
    assert pictures
    assert all(uri is None for _, uri, _ in pictures)
    assert facts["missing_pictures"] == len(pictures)
    assert "could not be read" in (tmp_path / "report.html").read_text()


@pytest.mark.usefixtures("no_charts")
def test_records_without_their_task_file_still_have_a_leaderboard(
    tmp_path: Path,
) -> None:
    results = make_results(tmp_path / "results", queries=10, methods=(("one", 1.0, {}), ("two", 0.0, {})))
    for path in results.glob("runs/*/*/task-*.npz"):
        path.unlink()
    Results(results).report(tmp_path / "report.html")
    text = " ".join(Page(tmp_path / "report.html").texts)
    assert "No task file for toy/find, toy/focus" in text
    assert "Leaderboard" in text


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK", "I;16"])
def test_thumbnails_of_every_mode_fit_their_side(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (300, 150)).save(tmp_path / ("a.tif" if mode in ("CMYK", "I;16") else "a.png"))
    (name,) = (path.name for path in tmp_path.iterdir())
    uri = thumbnail_uri(ImageTable(tmp_path, (name,)), 0, 96)
    assert uri is not None
    assert opened(uri, tmp_path).size == (96, 48)


def test_a_boxed_row_shows_its_crop(tmp_path: Path) -> None:
    picture = Image.new("RGB", (100, 100), "blue")
    picture.paste("red", (60, 60, 90, 90))
    picture.save(tmp_path / "a.png")
    table = ImageTable(
        tmp_path, ("a.png", "a.png", "a.png"), np.array([[60, 60, 30, 30], [np.nan] * 4, [200, 0, 5, 5]]), 0.0
    )
    uri, whole, outside = (thumbnail_uri(table, row, 64) for row in range(3))
    assert uri is not None
    assert whole is not None
    red, _, blue = np.asarray(opened(uri, tmp_path).convert("RGB")).reshape(-1, 3).mean(axis=0)
    assert red > 200 > 60 > blue
    assert opened(whole, tmp_path).size == (64, 64)
    assert outside is None


def opened(uri: str, folder: Path) -> Image.Image:
    import base64

    (folder / "thumb.webp").write_bytes(base64.b64decode(uri.split(",", 1)[1]))
    return Image.open(folder / "thumb.webp")


@pytest.mark.slow
def test_the_command_takes_overrides_and_needs_no_torch(results_folder: Path, tmp_path: Path) -> None:
    code = (
        'import sys; from condsim.harness.cli import main; status = main(["report", *sys.argv[1:]]);'
        "sys.exit(status or (3 if {'torch', 'pandas'} & set(sys.modules) else 0))"
    )
    out = tmp_path / "report.html"
    arguments = [f"results={results_folder}", f"report.path={out}", "report.queries=3", "report.title=Mine"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "14 runs, 6 of 120 queries" in done.stdout.replace("\n", " ")
    assert "<title>Mine</title>" in out.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]  # Hydra leaves nothing behind


def test_what_cannot_be_reported_is_one_message(results_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CondsimError, match="condsim bench"):
        Results(tmp_path).report(tmp_path / "report.html")
    with pytest.raises(CondsimError, match="nothing_such"):
        Results(results_folder).report(tmp_path / "report.html", benchmarks=["nothing_such"])
    chosen = {"path": str(tmp_path), "budget_mb": 20, "queries": 1, "top": 1, "thumbnail": 1}
    with pytest.raises(CondsimError, match="is a folder"):
        run_report({"results": str(results_folder), "report": chosen})
    with pytest.raises(CondsimError, match=r"report\.budget_mb=-1"):
        main([f"results={results_folder}", "report.budget_mb=-1"])
    with pytest.raises(CondsimError, match="budget_mb"):
        main(["report.budget=3"])
