"""A job of `condsim bench` in another process: what is sent there, and what comes back."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from condsim.harness.commands.outcomes import Event, Failed, Finished, Inapplicable, Outcomes, Pending, Ran, Unwritable
from condsim.harness.commands.runs import BenchJob, RunState, run_job, start_runs
from condsim.harness.settings.composition import jobs
from running import as_new_process

TOY = Path(__file__).parents[2] / "user_folder"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    shutil.copytree(TOY, tmp_path / "own")
    with as_new_process(tmp_path / "own"):
        yield tmp_path / "own"


def toy(*settings: str) -> BenchJob:
    (job,) = jobs("bench", ["--config-dir", ".", "benchmark=toy", "backbone=toy", *settings])
    return BenchJob.of(job)


def sent(job: BenchJob) -> list[Event]:
    """The events of a job that was pickled to a worker, after they were pickled back."""
    events: list[Event] = pickle.loads(pickle.dumps(start_runs()(pickle.loads(pickle.dumps(job)))))
    return events


def test_the_tasks_that_are_not_finished_are_found_and_run_elsewhere(folder: Path) -> None:
    list(run_job(toy("method=constant", "method.value=2", "tasks=[few]"), RunState()))
    job = toy("method=constant", "method.value=2")
    finished, pending = run_job(job, RunState(measure=False))
    assert isinstance(finished, Finished)
    assert finished.record.full_task == "toy/few"
    assert pending == Pending("toy/whole")
    (ran,) = sent(job.packed(("toy/whole",)))
    assert isinstance(ran, Ran)
    assert (ran.record.full_task, ran.record.settings) == ("toy/whole", {"value": 2})
    assert (ran.folder / "record.json").is_file()
    assert all(fingerprint for _, _, fingerprint in ran.record.headlines["mean"]), "it still knows all chosen tasks"
    assert [type(event) for event in run_job(job, RunState(measure=False))] == [Finished, Finished]


def test_failures_and_methods_that_do_not_apply_come_back_as_data(folder: Path) -> None:
    events = sent(toy("method=broken", "tasks=[few]").packed(("toy/few",)))
    (failed,) = events
    assert isinstance(failed, Failed)
    assert "ZeroDivisionError" in failed.why
    assert (failed.what, failed.task) == ("broken", "toy/few")
    (inapplicable,) = run_job(toy("method=specific_object", "tasks=[few]"), RunState(measure=False))
    assert isinstance(inapplicable, Inapplicable)
    (refused,) = sent(toy("method=broken", "method.how=refuse").packed(("toy/few", "toy/whole")))
    assert isinstance(refused, Failed)
    assert refused.task == "", "no task was reached"


def test_results_that_cannot_be_written_are_one_event_of_a_process(folder: Path) -> None:
    (folder / "results").write_text("a file")
    state = RunState()
    (unwritable,) = run_job(toy("method=constant"), state)
    assert isinstance(unwritable, Unwritable)
    assert list(run_job(toy("method=constant", "method.value=2"), state)) == []
    outcomes = Outcomes()
    outcomes.collect([unwritable, unwritable])
    assert not outcomes.writable
    assert outcomes.summary() == "0 runs finished, 0 already done, 1 FAILED"
