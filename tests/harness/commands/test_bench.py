"""`condsim bench` as a user runs it, with the user's own benchmark, backbone and methods outside the repository."""

import csv
import io
import json
import os
import random
import shutil
import signal
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from condsim.harness import cli
from running import as_new_process, run_condsim, start_python

pytestmark = pytest.mark.slow

TOY = Path(__file__).parents[2] / "user_folder"
MAIN = "import sys; from condsim.harness.cli import main; sys.exit(main())"
BENCH = ("bench", "--config-dir", ".", "benchmark=toy", "backbone=toy")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(TOY, tmp_path / "own")
    return tmp_path / "own"


def bench(folder: Path, *arguments: str, status: int = 0) -> str:
    return run_condsim(*BENCH, *arguments, folder=folder, status=status)


def leaderboard(folder: Path) -> list[dict[str, str]]:
    with (folder / "results/leaderboard.csv").open() as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def test_a_constant_scorer_gets_exactly_chance(folder: Path) -> None:
    bench(folder, "method=constant")
    few, whole, mean = sorted(leaderboard(folder), key=lambda row: ("few", "whole", "mean").index(row["task"]))
    assert float(few["recall@1"]) == pytest.approx(100 / 6, abs=1e-3)
    assert float(few["recall@2"]) == pytest.approx(200 / 6, abs=1e-3)
    assert float(whole["recall@10"]) == pytest.approx(1000 / 99, abs=1e-3)  # the reference is excluded
    assert float(whole["map"]) == pytest.approx(100 * sum(1 / i for i in range(1, 100)) / 99, abs=1e-3)
    assert float(mean["mean"]) == pytest.approx((100 / 6 + 1000 / 99) / 2, abs=1e-3)


def test_a_sweep_leaves_one_record_a_value_and_runs_nothing_twice(folder: Path) -> None:
    sweep = ("-m", "method=constant", "method.value=1,2,3")
    assert "6 runs finished, 0 already done" in bench(folder, *sweep)
    records = sorted(folder.glob("results/runs/toy/*/*/record.json"))
    assert len(records) == 6
    settings = [json.loads(path.read_text())["settings"] for path in records]
    assert sorted(entry.get("value", 1.0) for entry in settings) == [1, 1, 2, 2, 3, 3]
    before = [path.stat().st_mtime_ns for path in records]
    assert "0 runs finished, 6 already done" in bench(folder, *sweep)
    assert [path.stat().st_mtime_ns for path in records] == before
    assert "2 run" in bench(folder, "method=constant", "force=true")


def test_one_task_of_a_benchmark(folder: Path) -> None:
    bench(folder, "method=constant", "tasks=[few]")
    assert {row["task"] for row in leaderboard(folder)} == {"few"}
    assert "Did you mean 'few'" in bench(folder, "method=constant", "tasks=[fwe]", status=1)


def test_a_class_named_on_the_command_line(folder: Path) -> None:
    bench(folder, "method=custom", "method._target_=toy.Constant", "+method.value=7")
    assert {(row["method"], row["settings"]) for row in leaderboard(folder)} == {("Constant", "value=7")}


def test_a_failing_run_is_reported_and_the_sweep_continues(folder: Path) -> None:
    shown = bench(folder, "-m", "method=broken,quari,constant", status=1)
    assert "2 run" in shown
    assert "4 FAILED" in shown
    assert "ZeroDivisionError" in shown
    assert shown.count("has no weights of its own") == 2, "at once, and in the summary for both tasks"
    assert "quari on toy/few, toy/whole: the method has no weights of its own" in shown
    assert {row["method"] for row in leaderboard(folder)} == {"constant"}
    assert "a fault in a user's method" in next(folder.glob("results/errors/broken*.txt")).read_text()


def test_scores_that_are_not_numbers_are_refused(folder: Path) -> None:
    assert "FAILED" in bench(folder, "method=broken", "method.how=nan", status=1)
    assert list(folder.glob("results/runs/**/record.json")) == []


def test_a_refused_setting_is_one_message(folder: Path) -> None:
    assert "how=refuse was asked for" in bench(folder, "method=broken", "method.how=refuse", status=1)
    shown = bench(folder, "method=constant", "+method.valeu=1", status=1)
    assert shown.count("method.valeu: toy.Constant has no setting 'valeu'. Did you mean 'value'?") == 1
    assert shown.strip().endswith("0 runs finished, 0 already done, 1 FAILED")
    assert "nowhere_to_be_found" in bench(
        folder, "method=custom", "method._target_=nowhere_to_be_found.Method", status=1
    )


def test_killing_and_running_again_ends_in_the_same_leaderboard(folder: Path, tmp_path: Path) -> None:
    sweep = ("-m", "method=constant", "method.slow=0.1", "method.value=1,2,3")
    untouched = tmp_path / "untouched"
    shutil.copytree(folder, untouched)
    bench(untouched, *sweep)
    rng = random.Random(0)
    for _ in range(3):
        process = start_python(MAIN, folder, *BENCH, *sweep)
        time.sleep(rng.uniform(0.2, 1.2))
        process.kill()
        process.join()
    bench(folder, *sweep)
    assert leaderboard(folder) == leaderboard(untouched)


def test_a_backbone_that_cannot_be_loaded_is_reported_once(folder: Path) -> None:
    shown = bench(folder, "-m", "backbone=unloadable,toy", "method=constant,image_only", status=1)
    assert shown.count("the weights are not on this machine") == 1
    assert shown.count("backbone unloadable cannot be loaded") == 2, "at once, and in the summary"
    assert {row["backbone"] for row in leaderboard(folder)} == {"toy"}
    assert "4 runs finished, 0 already done, 1 FAILED" in shown


def test_what_does_not_apply_is_one_line_per_method(folder: Path) -> None:
    shown = bench(folder, "-m", "method=specific_object", "method.min_score=0,0.1,0.2")
    assert shown.count("does not apply to") == 1


def test_no_method_ends_a_sweep_or_changes_what_others_get(folder: Path) -> None:
    hows = "exit,hard_exit,generator_exit,close_output,odd_message,fill_gpu,write,nothing"
    shown = bench(folder, "-m", "method=custom", "method._target_=evil.Evil", f"+method.how={hows}", status=1)
    assert "2 runs finished, 0 already done, 14 FAILED" in shown
    assert "it called sys.exit" in shown
    assert "Evil how=hard_exit on toy/few, toy/whole: a method must not end the process" in shown
    assert "GeneratorExit" in shown
    assert "must not close the output" in shown
    assert r"\udcff\x1b[2J [red]x[/nope]" in shown
    assert "the GPU's memory is full; backbone.device=cpu uses the computer's memory. CUDA out of memory" in shown
    assert "Evil wrote into gallery.features" in shown
    assert len(list(folder.glob("results/errors/*.txt"))) >= 6  # one per failure with a traceback, none overwritten
    in_the_sweep = leaderboard(folder)
    shutil.rmtree(folder / "results")
    bench(folder, "method=custom", "method._target_=evil.Evil", "+method.how=nothing")
    assert leaderboard(folder) == in_the_sweep


def test_a_method_that_crashes_the_process_is_no_success_and_the_runs_before_it_stay(folder: Path) -> None:
    sweep = ("-m", "method=custom", "method._target_=evil.Evil", "+method.how=nothing,crash")
    process = start_python(MAIN, folder, *BENCH, *sweep, output=folder / "shown")
    process.join()
    assert process.exitcode == -signal.SIGSEGV
    shown = (folder / "shown").read_text()
    assert "Fatal Python error: Segmentation fault" in shown
    assert "evil.py" in shown
    assert len(list(folder.glob("results/runs/toy/*/*/record.json"))) == 2


def test_a_method_that_does_not_apply_is_one_line_whatever_the_sweep(folder: Path) -> None:
    (folder / "picky.py").write_text(
        "from toy import Constant\nfrom condsim.harness.errors import NotApplicable\n"
        "class Picky(Constant):\n    def check(self, task): raise NotApplicable('it is picky')\n"
    )
    sweep = ("method=custom", "method._target_=picky.Picky", "+method.value=1,2,3")
    shown = bench(folder, "-m", *sweep)
    assert shown.count("Picky does not apply to toy/few, toy/whole: it is picky") == 1


def test_an_edited_method_is_run_again_and_its_older_runs_are_named(folder: Path) -> None:
    own = ("method=custom", "method._target_=edited.Mine")
    for value in (1, 2):
        (folder / "edited.py").write_text(f"from toy import Constant\nclass Mine(Constant):\n    level = {value}\n")
        assert "2 runs finished, 0 already done" in bench(folder, *own)
    assert "not shown: 2 runs, such as" in bench(folder, *own)
    (folder / "edited.py").write_text("from toy import Constant\nclass Mine(Constant):\n    level = 1\n")
    again = bench(folder, *own)
    assert "0 runs finished, 2 already done" in again
    assert again.count("no table shows it: a newer run has the same settings") == 2


def test_a_damaged_run_is_named_and_run_again(folder: Path) -> None:
    bench(folder, "method=constant")
    before = leaderboard(folder)
    ranks = next(folder.glob("results/runs/toy/few/*/ranks.npz"))
    ranks.write_bytes(ranks.read_bytes()[:-9])
    task = next(folder.glob("results/runs/toy/whole/task-*.npz"))
    task.write_bytes(b"damaged")
    shown = bench(folder, "method=constant")
    assert "ranks.npz is damaged" in shown
    assert "1 run finished, 1 already done" in shown
    assert leaderboard(folder) == before
    assert task.read_bytes() != b"damaged"
    assert "0 runs finished, 2 already done" in bench(folder, "method=constant")


def test_more_best_candidates_replace_a_record(folder: Path) -> None:
    bench(folder, "method=constant", "top=2")
    assert "2 run" in bench(folder, "method=constant", "top=5")
    assert "0 runs finished, 2 already done" in bench(folder, "method=constant", "top=3")
    assert len(list(folder.glob("results/runs/toy/*/*/record.json"))) == 2


@pytest.mark.parametrize("results", ["a_file", "x" * 300])
def test_results_that_cannot_be_written_are_one_message_and_nothing_is_run(folder: Path, results: str) -> None:
    (folder / "a_file").write_text("mine")
    shown = bench(folder, "method=constant", f"results={results}", status=1)
    assert shown.count("cannot be written") == 1
    assert "nothing was run" in shown
    assert (folder / "a_file").read_text() == "mine"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_an_output_that_cannot_be_written_loses_no_run(folder: Path) -> None:
    shown = io.StringIO()
    with as_new_process(folder), open("/dev/full", "w") as full, redirect_stdout(full), redirect_stderr(shown):
        assert cli.main([*BENCH, "method=constant"]) == 1
    assert shown.getvalue().count("the output cannot be written") == 1
    assert "Traceback" not in shown.getvalue()
    assert len(list(folder.glob("results/runs/toy/*/*/record.json"))) == 2
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with as_new_process(folder), redirect_stdout(ascii_only):
        assert cli.main([*BENCH, "method=constant"]) == 0


def test_nothing_is_written_outside_the_results_and_the_cache(folder: Path, tmp_path: Path) -> None:
    environment = {"AUDIT": str(tmp_path / "audit"), "CONDSIM_CACHE": str(tmp_path / "cache")}
    code = f"import os; os.environ |= {environment}\n{(folder / 'audited.py').read_text()}"
    start_python(code, folder, *BENCH, "results=there", "-m", "method=constant,broken").join()
    touched = {Path(line) for line in (tmp_path / "audit").read_text().splitlines()}
    assert any(path.name == "record.json" for path in touched)
    places = (folder / "there", tmp_path / "cache", Path(tempfile.gettempdir()), Path(os.devnull), tmp_path / "audit")
    own = [path for path in touched if "__pycache__" not in path.parts and path.suffix != ".pyc"]
    outside = [path for path in own if not any(path.is_relative_to(place) for place in places)]
    beside = [path for path in own if path.is_relative_to(folder) and not path.is_relative_to(folder / "there")]
    assert outside == beside == []
