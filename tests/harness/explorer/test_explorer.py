"""Look, mark, measure: what the page of `condsim explore` does, without a browser, on drawn pictures."""

from __future__ import annotations

import json
import shlex
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import condsim
from condsim.harness import cli, configs
from condsim.harness.errors import CondsimError
from condsim.harness.explorer import task as explore_task
from condsim.harness.explorer.explorer import Explorer
from condsim.harness.explorer.search import USUAL, Search, Target, read_settings, read_values, write_values
from condsim.harness.explorer.task import Questions, chosen_questions
from condsim.harness.search.marks import Marks
from condsim.harness.task import Benchmark, Ragged, Task
from condsim.methods.phrases.lexicon import Lexicon

pytestmark = pytest.mark.slow

COLORS = ("red", "green", "blue", "yellow")


@pytest.fixture(scope="module")
def index(photos: Path, photo_cache: None) -> Iterator[condsim.Index]:
    configs.forget()
    yield condsim.Index(photos, "shapes-clip")
    configs.forget()


@pytest.fixture
def explorer(index: condsim.Index, photos: Path, tmp_path: Path) -> Iterator[Explorer]:
    explorer = Explorer(Target(index, (str(photos),), "shapes-clip"), Marks(tmp_path / "marks"))
    yield explorer
    explorer.close()


def by_color(name: str, rank: int = 4) -> Search:
    return Search(name, ("color",), "clay", {"rank": str(rank)}, {"color": COLORS})


def test_marks_become_a_leaderboard_with_intervals(
    explorer: Explorer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("red-0.png", "green-5.png", "blue-10.png", "yellow-15.png"):
        for result in explorer.search(by_color(name), 8):
            explorer.mark(result, by_color(name), "right" if result.name[:3] == name[:3] else "wrong")
    both = Search(
        "red-0.png", ("color", "shape"), "clay", {"rank": "4"}, {"color": COLORS, "shape": ("circle", "square")}
    )
    explorer.mark(explorer.search(both, 1)[0], both, "right")
    measured = explorer.save([both, replace(both, settings={"rank": "2"})]).splitlines()
    assert len(measured) == 3
    for command in measured:
        words = shlex.split(command)
        options = ["statistics.resamples=100"] * (words[1] == "bench")
        assert cli.main([*words[1:], *options]) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert "clay" in shown
    assert "±" in shown
    records = [json.loads(path.read_text()) for path in Path("results/runs").rglob("record.json")]
    assert {record["settings"]["rank"] for record in records} == {2, 4}
    for record in records:
        assert record["queries"] == 5
        metric = record["metrics"]["map@50"]
        assert metric["low"] <= metric["value"] <= metric["high"]


def test_the_command_prints_what_the_page_shows(explorer: Explorer, capsys: pytest.CaptureFixture[str]) -> None:
    commas = replace(by_color("red-0.png"), values={"color": ("red", "green, blue", "yellow")})
    for search in (by_color("red-0.png"), commas, Search(None, ("a red circle",)), Search("red-0.png", ())):
        shown = [result.name for result in explorer.search(search, 5)]
        words = shlex.split(search.command(explorer.target, 5))
        assert cli.main([*words[1:], "--format", "json"]) == 0
        (query,) = json.loads(capsys.readouterr().out)["queries"]
        assert [Path(result["path"]).name for result in query["results"]] == shown


def test_without_a_query_the_folder_is_shown(explorer: Explorer) -> None:
    results = explorer.search(Search(None, ()), 5)
    assert [result.name for result in results] == sorted(path.name for path in explorer.target.index.root.iterdir())[:5]
    with Image.open(explorer.thumbnail("red-0.png")) as picture:
        assert picture.size == (64, 64)


def test_a_mark_is_shown_and_the_same_one_again_takes_it_back(explorer: Explorer) -> None:
    search = by_color("red-0.png")
    results = explorer.search(search, 3)
    assert explorer.mark(results[0], search, "right").startswith(f"{results[0].name}: right. 1 mark in ")
    assert [caption[0] for _, caption in explorer.grid(results, search)] == ["✓", "2", "3"]
    explorer.mark(results[0], search, "wrong")
    assert explorer.grid(results, search)[0][1].startswith("✗ 1: ")
    explorer.mark(results[0], search, "wrong")
    assert [caption[0] for _, caption in explorer.grid(results, search)] == ["1", "2", "3"]


def test_a_mark_needs_a_query_that_a_table_can_hold(explorer: Explorer, tmp_path: Path) -> None:
    (result,) = explorer.search(by_color("red-0.png"), 1)
    Image.new("RGB", (9, 9)).save(tmp_path / "elsewhere.png")
    for search, message in (
        (Search(None, ()), "choose a picture or a condition first"),
        (Search(str(tmp_path / "elsewhere.png"), ()), "copy this one into it"),
    ):
        with pytest.raises(CondsimError, match=message):
            explorer.mark(result, search, "right")


def test_a_slider_is_the_setting_that_matters_most(explorer: Explorer) -> None:
    rank, weight = explorer.target.slider("clay"), explorer.target.slider("image_plus_text")
    assert rank is not None
    assert weight is not None
    assert (rank.name, rank.value, rank.high) == ("rank", 50, 128)
    assert (weight.name, weight.value, weight.high) == ("weight", 0.5, 1)
    assert explorer.target.slider("image_only") is explorer.target.slider(USUAL) is None


def test_edited_values_are_those_that_differ(explorer: Explorer) -> None:
    usual = {"color": ("red", "blue"), "shape": ("round", "square")}
    assert read_values(write_values(usual), usual) == {}
    assert read_values("color: red, green\n\nshape: round, square", usual) == {"color": ("red", "green")}
    assert read_settings("method.rank=5 template='a {}'") == {"rank": "5", "template": "a {}"}
    for read, text in (
        (lambda text: read_values(text, {}), "red, green"),
        (read_settings, "rank"),
        (read_settings, "'"),
    ):
        with pytest.raises(CondsimError):
            read(text)
    few, many = (Search("red-0.png", ("color",), "clay", {}, {"color": values}) for values in (COLORS[:2], COLORS))
    assert explorer.search(few, 3)[0].label != explorer.search(many, 3)[0].label


def of_benchmark(index: condsim.Index, task: Task, folder: Path) -> Explorer:
    questions = Questions(task)
    index = condsim.Index(questions.gallery, index.backbone)
    target = Target(index, ("benchmark=mine", "tasks=[crops]"), "shapes-clip", questions=questions)
    return Explorer(target, Marks(folder / "marks"))


def test_a_query_of_a_benchmark_ranks_what_it_ranks_there(index: condsim.Index, tmp_path: Path) -> None:
    boxes = np.full((len(index), 4), np.nan)
    boxes[3] = (5, 5, 50, 50)
    images = replace(index.pictures.table, boxes=boxes, crop="plain")
    crop = images.keys[3]
    task = Task(
        "mine", "crops", images, (("color",), ("shape", "color")), np.array([0, 1, 0]), np.array([3, 3, -1]),
        Ragged.of([[1], [2], [0]]), ("map",), candidates=Ragged.of([[1, 4, 6], [2, 5], [0, 1, 2]]),
        query_ids=("a", "b", "c"),
    )  # fmt: skip
    explorer = of_benchmark(index, task, tmp_path)
    assert len(explorer.target.index) == 6  # row 3 is nobody's candidate
    search = replace(by_color(crop), question="a")
    results = explorer.search(search, 24)
    assert [result.label.split(":")[0] for result in results] == ["1", "2", "3"]
    assert {result.name for result in results} == {images.keys[row] for row in (1, 4, 6)}
    every = [result.name for result in explorer.search(by_color(crop), 24)]
    assert [name for name in every if name in {result.name for result in results}] == [
        result.name for result in results
    ]
    (right,) = (caption for _, caption in explorer.grid(results, search) if "◎" in caption)
    assert right.startswith("◎ ")
    assert explorer.is_question("b", crop, ["shape", "color"])
    assert not explorer.is_question("b", crop, ["color"])
    assert not explorer.is_question("z", crop, ["color"])
    command = shlex.split(explorer.command(search, 24))
    assert command[:4] == ["condsim", "bench", "benchmark=mine", "tasks=[crops]"]
    assert f"method.phrases.file={tmp_path / 'marks/values.yaml'}" in command  # the values were edited
    assert (tmp_path / "marks/values.yaml").is_file()
    with Image.open(explorer.thumbnail(crop)) as picture:
        assert picture.size == (45, 45)
    with pytest.raises(CondsimError, match="marks are for whole pictures"):
        explorer.mark(results[0], search, "right")
    with pytest.raises(CondsimError, match="there is no query 'z'"):
        explorer.target.questions.of("z")
    explorer.close()


def test_a_benchmark_without_crops_can_be_marked(index: condsim.Index, photos: Path, tmp_path: Path) -> None:
    task = Task(
        "mine", "test", index.pictures.table, (("color",),), np.array([0]), np.array([12]), Ragged.of([[1]]), ("map",),
        gallery=np.arange(12), excluded=Ragged.of([[2]]),
    )  # fmt: skip
    explorer = of_benchmark(index, task, tmp_path)
    reference, excluded = (task.images.names[row] for row in (12, 2))
    search = replace(by_color(reference), question="0")
    results = explorer.search(search, 24)
    assert len(results) == 11
    assert excluded not in {result.name for result in results}
    explorer.mark(results[0], search, "right")
    assert f"benchmark.images={photos}" in explorer.save([search])
    assert f"{reference},color" in (tmp_path / "marks/queries.csv").read_text()
    explorer.close()


def test_one_task_of_a_benchmark_is_chosen_with_its_defaults(
    index: condsim.Index, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task(
        "mine", "color", index.pictures.table, (("color",),), np.array([0]), np.array([2]), Ragged.of([[1]]), ("map",),
        gallery=np.arange(12),
    )  # fmt: skip
    tasks = [task, replace(task, name="shape")]
    monkeypatch.setattr(explore_task, "chosen_benchmark", lambda *_: Benchmark("mine", tuple(tasks)))
    with pytest.raises(CondsimError, match=r"choose one task of mine, as in tasks=\[color\]: color, shape"):
        chosen_questions(["benchmark=shapes"])
    tasks.pop()
    target = Target(index, (), "shapes-clip", questions=chosen_questions(["benchmark=shapes"]))
    assert target.lexicon["color"] == Lexicon("shapes").entries["color"]
    with pytest.raises(CondsimError, match="Did you mean 'shapes'"):
        chosen_questions(["benchmark=shape"])


def test_bad_input_of_the_command_is_one_message(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert cli.main(["explore", str(photos)]) == 2
    assert "pip install 'condsim[explore]'" in capsys.readouterr().err


def test_a_busy_port_and_an_empty_folder_are_one_message(
    index: condsim.Index,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("gradio", reason="the page needs gradio (pip install 'condsim[explore]')")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["explore", str(tmp_path), "--backbone", "shapes-clip"]) == 2
    assert "there is no picture in this folder" in capsys.readouterr().err
    assert cli.main(["explore", str(photos), "tasks=[cirr]"]) == 2
    assert "give one folder, or the settings of a benchmark" in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert cli.main(["explore", str(photos), "--backbone", "shapes-clip", "--port", str(port), "--no-browser"]) == 2
    assert f"port {port} is in use: choose another one with --port" in capsys.readouterr().err
