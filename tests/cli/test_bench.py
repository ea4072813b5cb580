"""`condsim bench` as a user runs it, with the user's own benchmark, backbone and methods outside the repository."""

import csv
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TOY = Path(__file__).parent / "toy"
CONDSIM = Path(sys.executable).with_name("condsim")
COMMAND = [str(CONDSIM), "bench", "--config-dir", ".", "benchmark=toy", "backbone=toy"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(TOY, tmp_path / "own")
    return tmp_path / "own"


def bench(folder: Path, *arguments: str, status: int = 0) -> str:
    done = subprocess.run([*COMMAND, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


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
    assert "6 run, 0 already done" in bench(folder, *sweep)
    records = sorted(folder.glob("results/runs/toy/*/*/record.json"))
    assert len(records) == 6
    settings = [json.loads(path.read_text())["settings"] for path in records]
    assert sorted(entry.get("value", 1.0) for entry in settings) == [1, 1, 2, 2, 3, 3]
    before = [path.stat().st_mtime_ns for path in records]
    assert "0 run, 6 already done" in bench(folder, *sweep)
    assert [path.stat().st_mtime_ns for path in records] == before
    assert "2 run" in bench(folder, "method=constant", "force=true")


def test_one_task_of_a_benchmark(folder: Path) -> None:
    bench(folder, "method=constant", "tasks=[few]")
    assert {row["task"] for row in leaderboard(folder)} == {"few"}
    assert "Did you mean 'few'" in bench(folder, "method=constant", "tasks=[fwe]", status=1)


def test_a_class_named_on_the_command_line(folder: Path) -> None:
    bench(folder, "method=custom", "method._target_=toy.Constant", "+method.value=7")
    assert {(row["method"], row["settings"]) for row in leaderboard(folder)} == {("Constant", "value=7")}


def test_a_failing_run_is_told_and_the_sweep_goes_on(folder: Path) -> None:
    shown = bench(folder, "-m", "method=broken,constant", status=1)
    assert "2 run" in shown
    assert "2 FAILED" in shown
    assert "ZeroDivisionError" in shown
    assert {row["method"] for row in leaderboard(folder)} == {"constant"}
    assert "a fault in a user's method" in next(folder.glob("results/errors/broken-*.txt")).read_text()


def test_scores_that_are_not_numbers_are_refused(folder: Path) -> None:
    assert "FAILED" in bench(folder, "method=broken", "method.how=nan", status=1)
    assert list(folder.glob("results/runs/**/record.json")) == []


def test_a_refused_setting_is_one_message(folder: Path) -> None:
    assert "how=refuse was asked for" in bench(folder, "method=broken", "method.how=refuse", status=1)
    assert "unexpected keyword argument 'valeu'" in bench(folder, "method=constant", "+method.valeu=1", status=1)
    assert "nowhere_to_be_found" in bench(
        folder, "method=custom", "method._target_=nowhere_to_be_found.Method", status=1
    )


def test_killing_and_running_again_ends_in_the_same_leaderboard(folder: Path, tmp_path: Path) -> None:
    sweep = ("-m", "method=constant", "method.slow=0.4", "method.value=1,2,3")
    untouched = tmp_path / "untouched"
    shutil.copytree(folder, untouched)
    bench(untouched, *sweep)
    rng = random.Random(0)
    for _ in range(4):
        process = subprocess.Popen([*COMMAND, *sweep], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(1, 7))
        process.send_signal(signal.SIGKILL)
        process.wait()
    bench(folder, *sweep)
    assert leaderboard(folder) == leaderboard(untouched)


def test_a_backbone_that_cannot_be_loaded_is_reported_once(folder: Path) -> None:
    shown = bench(folder, "-m", "backbone=unloadable,toy", "method=constant,image_only", status=1)
    assert shown.count("the weights are not on this machine") == 1
    assert shown.count("backbone unloadable cannot be loaded") == 2, "at once, and in the summary"
    assert {row["backbone"] for row in leaderboard(folder)} == {"toy"}
    assert "4 run, 0 already done, 1 FAILED" in shown


def test_what_does_not_apply_is_one_line_per_method(folder: Path) -> None:
    shown = bench(folder, "-m", "method=specific_object", "method.min_score=0,0.1,0.2")
    assert shown.count("does not apply to") == 1
