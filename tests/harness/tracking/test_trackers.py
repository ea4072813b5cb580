"""Tracking never fails a run: what it reports, and what happens when it cannot."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from builders import Methods, make_results
from condsim.harness.errors import CondsimError
from condsim.harness.files.paths import safe_name
from condsim.harness.results import plots
from condsim.harness.results.leaderboard import Leaderboard
from condsim.harness.run.record import Record, find_records
from condsim.harness.settings.composition import compose_config
from condsim.harness.tracking.careful import CarefulTracker, metric_numbers
from condsim.harness.tracking.tensorboard import TensorBoardTracking
from condsim.harness.tracking.wandb import WandbTracking

TWO: Methods = (("one", 1.0, {}), ("two", 0.0, {"rank": 3}))


def records(results: Path) -> list[Record]:
    return [record for _, record in find_records(results) if isinstance(record, Record)]


def events(folder: Path) -> Any:
    """What one TensorBoard run's files hold, as TensorBoard itself reads them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    return accumulator.EventAccumulator(str(folder)).Reload()


@pytest.mark.slow
def test_tensorboard_holds_settings_metrics_the_table_and_plots(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    results = make_results(tmp_path / "results", queries=10, methods=TWO)
    tracker = TensorBoardTracking(results, results / "tensorboard", group="sweep")
    logged = [record for record in records(results) if record.task == "focus"]
    for record in logged:
        tracker.log(record)
    tracker.finish()
    assert not tracker.failed, capsys.readouterr().out
    group = results / "tensorboard/sweep"
    assert {path.name for path in (group / "toy/focus").iterdir()} == {
        f"one-{logged[0].run}", f"{safe_name('two rank=3')}-{logged[1].run}",
    }  # fmt: skip
    for record, name in zip(logged, ("one", safe_name("two rank=3")), strict=True):
        found = events(group / "toy/focus" / f"{name}-{record.run}")
        expected = {**metric_numbers(record), "queries": record.queries}
        scalars = {tag: found.Scalars(tag)[0].value for tag in found.Tags()["scalars"]}
        assert scalars == pytest.approx(expected, rel=1e-6)  # kept as float32
        (config,) = found.Tensors("config/text_summary")[0].tensor_proto.string_val
        assert json.loads(config) == record.config
        start = HParamsPluginData.FromString(found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content)
        settings = start.session_start_info.hparams
        assert (settings["task"].string_value, settings["method"].string_value) == ("toy/focus", record.method)
        assert settings["rank"].number_value == record.settings.get("rank", 0)
    found = events(group / "leaderboard")
    (table,) = found.Tensors("leaderboard/text_summary")[0].tensor_proto.string_val
    assert "\n| one " in table.decode()
    assert set(found.Tags()["images"]) == {"plots/toy-tasks", "plots/toy-cost", "plots/toy-focus-conditions"}
    assert all(found.Images(tag)[0].width > 200 for tag in found.Tags()["images"])


def test_tensorboard_shows_each_training_of_a_sweep(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    tracker = TensorBoardTracking(tmp_path, tmp_path / "tensorboard", group="sweep")
    for rank in (4, 8):
        for step in (200, 400):
            tracker.log_step(f"train toy method.rank={rank}", step, {"loss": rank + step / 1000})
    tracker.finish()
    (folder,) = (tmp_path / "tensorboard/sweep").glob("train_toy_method.rank=8*")
    assert [(e.step, e.value) for e in events(folder).Scalars("loss")] == [
        (200, pytest.approx(8.2)), (400, pytest.approx(8.4)),
    ]  # fmt: skip


def test_without_tensorboard_one_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    results = make_results(tmp_path / "results", queries=10, methods=TWO)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    tracker = TensorBoardTracking(results, results / "tensorboard")
    tracker.log_step("train toy", 1, {"loss": 1.0})
    for record in records(results):
        tracker.log(record)
    tracker.finish()
    assert capsys.readouterr().out.count("pip install 'condsim[tensorboard]'") == 1


class Broken(CarefulTracker):
    def __init__(self, results: Path, where: str) -> None:
        super().__init__(results)
        self.where = where
        self.calls: list[str] = []

    def report_run(self, record: Record) -> None:
        self.fail("run")

    def report_group(self, leaderboard: Leaderboard, plots: list[Path]) -> None:
        self.fail("group")

    def report_step(self, name: str, step: int, values: Mapping[str, float]) -> None:
        self.fail("step")

    def fail(self, what: str) -> None:
        self.calls.append(what)
        if what == self.where:
            raise ConnectionError("the server is gone\nand more")


@pytest.mark.parametrize(("where", "calls"), [("run", ["run"]), ("group", ["run", "run", "group"])])
def test_a_failure_is_reported_once_and_raises_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], where: str, calls: list[str]
) -> None:
    monkeypatch.setattr(plots, "write_plots", lambda *_: [])  # drawing takes most of the time
    results = make_results(tmp_path / "results", queries=10, methods=(TWO[0],))
    tracker = Broken(results, where)
    for record in records(results):
        tracker.log(record)
    tracker.finish()
    assert tracker.calls == calls
    printed = capsys.readouterr().out
    assert printed.count("failed and is off for the rest of this command") == 1
    assert "the server is gone" in printed


def test_a_command_without_runs_reports_nothing(tmp_path: Path) -> None:
    tracker = Broken(tmp_path, "group")
    tracker.finish()
    assert tracker.calls == []


@pytest.mark.slow
def test_wandb_writes_offline_runs_in_one_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    wandb = pytest.importorskip("wandb")
    results = make_results(tmp_path / "results", queries=10, methods=TWO)
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb-home"))
    monkeypatch.setenv("WANDB_SERVICE", "")  # W&B sets it: so it is put back
    monkeypatch.delenv("WANDB_SERVICE")
    started: list[dict[str, Any]] = []
    logged: list[dict[str, Any]] = []
    init = wandb.init

    def spy(**settings: Any) -> Any:
        started.append(settings)
        run = init(**settings)
        log = run.log
        run.log = lambda data, **more: (logged.append(data), log(data, **more))
        return run

    monkeypatch.setattr(wandb, "init", spy)
    tracker = WandbTracking(results, "condsim-tests")
    (record, *_) = records(results)
    tracker.log(record)
    tracker.log_step("train toy", 200, {"loss": 0.5})
    tracker.finish()
    assert not tracker.failed, capsys.readouterr().out
    assert {settings["group"] for settings in started} == {tracker.group}
    assert {settings["mode"] for settings in started} == {"offline"}
    assert started[0]["config"] == record.config
    assert metric_numbers(record).items() <= logged[0].items()
    assert logged[1] == {"loss": 0.5}
    table = logged[2]["leaderboard"]
    assert [row[table.columns.index("run")] for row in table.data] == [record.run]
    assert any(name.startswith("plots/") for name in logged[2])
    assert len(list((results / "wandb").glob("offline-run-*/*.wandb"))) == 3


def test_online_without_a_key_warns_and_sends_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    results = make_results(tmp_path / "results", queries=10, methods=(TWO[0],))
    wandb = SimpleNamespace(login=lambda **_: False, init=lambda **_: pytest.fail("a request to the server"))
    monkeypatch.setitem(sys.modules, "wandb", wandb)  # whose import takes a second
    tracker = WandbTracking(results, "condsim-tests", mode="online")
    for record in records(results):
        tracker.log(record)
    tracker.finish()
    assert "WANDB_API_KEY" in capsys.readouterr().out


def test_a_mistyped_mode_is_an_error_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(CondsimError, match=r"tracking\.mode=onlin"):
        WandbTracking(tmp_path, "condsim-tests", mode="onlin")


@pytest.mark.parametrize("choice", ["none", "tensorboard", "wandb"])
def test_every_choice_composes_and_is_made(choice: str, tmp_path: Path) -> None:
    from hydra.utils import instantiate

    config = compose_config("bench", [f"tracking={choice}", f"results={tmp_path}"])
    instantiate(config.tracking).finish()
