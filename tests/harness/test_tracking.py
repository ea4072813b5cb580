"""Tracking never fails a run: what it reports, and what happens when it cannot."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from condsim.harness.commands.overrides import compose_config
from condsim.harness.errors import CondsimError
from condsim.harness.runs.record import Record, find_records
from condsim.harness.tracking import CarefulTracker, FileTracking, WandbTracking, metric_numbers

TWO = (("one", 1.0, {}), ("two", 0.0, {"rank": 3}))


def records(results: Path) -> list[Record]:
    return [record for _, record in find_records(results) if isinstance(record, Record)]


def test_plain_files_hold_settings_metrics_the_table_and_plots(
    tmp_path: Path, results_maker: Callable[..., Path]
) -> None:
    results = results_maker(tmp_path / "results", queries=10, methods=TWO)
    tracker = FileTracking(results, results / "tracking", group="sweep")
    logged = [record for record in records(results) if record.task == "focus"]
    for record in logged:
        tracker.log(record)
    tracker.finish()
    lines = [json.loads(line) for line in (results / "tracking/sweep/runs.jsonl").read_text().splitlines()]
    assert [line["run"] for line in lines] == [record.run for record in logged]
    assert lines[1]["settings"] == {"rank": 3}
    metric = logged[0].metrics["recall@1"]
    assert [lines[0][name] for name in ("recall@1", "recall@1/low", "recall@1/high")] == [
        metric.value, metric.low, metric.high,
    ]  # fmt: skip
    with (results / "tracking/sweep/leaderboard.csv").open() as file:
        assert [row["run"] for row in csv.DictReader(file)] == [record.run for record in logged]
    assert {path.name for path in (results / "tracking/sweep").glob("*.png")} == {
        "toy-tasks.png", "toy-focus-conditions.png",
    }  # fmt: skip


class Broken(CarefulTracker):
    def __init__(self, results: Path, where: str) -> None:
        super().__init__(results)
        self.where = where
        self.calls: list[str] = []

    def report_run(self, record: Record) -> None:
        self.fail("run")

    def report_group(self, rows: list[dict[str, Any]], plots: list[Path]) -> None:
        self.fail("group")

    def fail(self, what: str) -> None:
        self.calls.append(what)
        if what == self.where:
            raise ConnectionError("the server is gone\nand more")


@pytest.mark.parametrize(("where", "calls"), [("run", ["run"]), ("group", ["run", "run", "group"])])
def test_a_failure_is_told_once_and_raises_nothing(
    tmp_path: Path, results_maker: Callable[..., Path], capsys: pytest.CaptureFixture[str], where: str, calls: list[str]
) -> None:
    results = results_maker(tmp_path / "results", queries=10, methods=(TWO[0],))
    tracker = Broken(results, where)
    for record in records(results):
        tracker.log(record)
    tracker.finish()
    assert tracker.calls == calls
    told = capsys.readouterr().out
    assert told.count("nothing more is tracked") == 1
    assert "the server is gone" in told


def test_a_command_without_runs_reports_nothing(tmp_path: Path) -> None:
    tracker = Broken(tmp_path, "group")
    tracker.finish()
    assert tracker.calls == []


def test_wandb_writes_offline_runs_in_one_group(
    tmp_path: Path, results_maker: Callable[..., Path], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    wandb = pytest.importorskip("wandb")
    results = results_maker(tmp_path / "results", queries=10, methods=TWO)
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb-home"))
    started: list[dict[str, Any]] = []
    logged: list[dict[str, Any]] = []
    init = wandb.init

    def spy(**settings: Any) -> Any:
        started.append(settings)
        run = init(**settings)
        log = run.log
        run.log = lambda data: (logged.append(data), log(data))
        return run

    monkeypatch.setattr(wandb, "init", spy)
    tracker = WandbTracking(results, "condsim-tests")
    (record, *_) = records(results)
    tracker.log(record)
    tracker.finish()
    assert not tracker.failed, capsys.readouterr().out
    assert {settings["group"] for settings in started} == {tracker.group}
    assert {settings["mode"] for settings in started} == {"offline"}
    assert started[0]["config"] == record.config
    assert metric_numbers(record).items() <= logged[0].items()
    table = logged[1]["leaderboard"]
    assert [row[table.columns.index("run")] for row in table.data] == [record.run]
    assert any(name.startswith("plots/") for name in logged[1])
    assert len(list((results / "wandb").glob("offline-run-*/*.wandb"))) == 2


def test_online_without_a_key_warns_and_asks_nobody(
    tmp_path: Path, results_maker: Callable[..., Path], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    wandb = pytest.importorskip("wandb")
    results = results_maker(tmp_path / "results", queries=10, methods=(TWO[0],))
    monkeypatch.setattr(wandb, "login", lambda **_: False)
    monkeypatch.setattr(wandb, "init", lambda **_: pytest.fail("asked the server"))
    tracker = WandbTracking(results, "condsim-tests", mode="online")
    for record in records(results):
        tracker.log(record)
    tracker.finish()
    assert "WANDB_API_KEY" in capsys.readouterr().out


def test_a_mistyped_mode_is_an_error_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(CondsimError, match=r"tracking\.mode=onlin"):
        WandbTracking(tmp_path, "condsim-tests", mode="onlin")


@pytest.mark.parametrize("choice", ["none", "file", "wandb"])
def test_every_choice_composes_and_is_made(choice: str, tmp_path: Path) -> None:
    from hydra.utils import instantiate

    config = compose_config("bench", [f"tracking={choice}", f"results={tmp_path}"])
    instantiate(config.tracking).finish()
