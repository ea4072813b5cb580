"""`condsim bench`: run methods on benchmarks. Finished runs are skipped; a run that fails does not stop a sweep."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from condsim.harness.commands.on_engine import run_elsewhere
from condsim.harness.commands.outcomes import Failed, Outcomes, report_run
from condsim.harness.commands.runs import UNEXPECTED, BenchJob, RunState, run_job
from condsim.harness.configs import make, make_once
from condsim.harness.errors import CondsimError, first_of
from condsim.harness.process.deferred import defer
from condsim.harness.results.leaderboard import Leaderboard
from condsim.harness.results.results import Results
from condsim.harness.settings.composition import Job, jobs
from condsim.harness.terminal.console import console, warn
from condsim.harness.tracker import Tracker

LOCAL = "condsim.harness.engine.local.LocalEngine"


def main(argv: Sequence[str]) -> int:
    for package in ("torch", "pandas"):  # what is done needs neither
        defer(package)
    return conclude(run_jobs(argv))


def bench(*settings: str) -> Leaderboard:
    """Run as `condsim bench SETTING ...` does, from Python: one text per setting. Finished runs are not run again.

    Returns the leaderboard of these runs. Raises CondsimError if a run failed; the records of the others are kept.

        bench("-m", "method=image_only,clay", "tasks=[focus_attribute]").print()
    """
    outcomes = run_jobs(settings)
    for tracker in outcomes.trackers:
        tracker.finish()
    if outcomes.failures:
        raise CondsimError("\n".join(outcomes.failed))
    return outcomes.leaderboard(Results(outcomes.results))


def run_jobs(settings: Sequence[str]) -> Outcomes:
    """Every job that the settings mean: in this process one after another, on another engine all at the end."""
    outcomes, state = Outcomes(), RunState()
    elsewhere: dict[str, list[tuple[BenchJob, Tracker]]] = {}
    for job in jobs("bench", settings):
        if (planned := plan(job, outcomes)) is None:
            continue
        bench_job, tracker = planned
        engine = bench_job.config["engine"]
        if engine["_target_"] == LOCAL:
            outcomes.collect(run_job(bench_job, state), tracker)
        else:
            elsewhere.setdefault(json.dumps(engine, sort_keys=True), []).append(planned)
    for text, chosen in elsewhere.items():
        run_elsewhere(make(json.loads(text), "engine"), chosen, outcomes)
    return outcomes


def run_here(job: Job, outcomes: Outcomes, state: RunState) -> None:
    """Run a job in this process. Raises CondsimError where it names another engine."""
    if (engine := job.config.get("engine")) is not None and engine._target_ != LOCAL:
        raise CondsimError("this command runs in one process: leave out engine=..., which `condsim bench` takes")
    planned = plan(job, outcomes)
    if planned is not None:
        bench_job, tracker = planned
        outcomes.collect(run_job(bench_job, state), tracker)


def plan(job: Job, outcomes: Outcomes) -> tuple[BenchJob, Tracker] | None:
    """A job as plain data, and the tracker of its runs; None, after one failure, where its settings give neither."""
    outcomes.results = Path(job.config.results)
    try:
        bench_job = BenchJob.of(job)
        tracker: Tracker = make_once(bench_job.config["tracking"], "tracking")
    except UNEXPECTED as error:
        outcomes.add(Failed.by(error, job.method_name, outcomes.results))
        return None
    if tracker not in outcomes.trackers:
        outcomes.trackers.append(tracker)
    return bench_job, tracker


def conclude(outcomes: Outcomes) -> int:
    """Rebuild the leaderboard and show what this command's runs came to. The exit status: 0 if none has failed."""
    for tracker in outcomes.trackers:
        tracker.finish()
    if outcomes.nothing:
        return 0  # --help, --cfg job and the like
    results = Results(outcomes.results)
    if outcomes.writable:
        outcomes.leaderboard(results).print_overview()
        _report_hidden(outcomes, results)
    warn(*results.notes)
    for name, reasons in outcomes.not_applicable.items():
        console.print(f"{name} does not apply to {first_of(reasons)}: {next(iter(reasons.values()))}", style="dim")
    for reason in () if outcomes.only_one_failure else outcomes.failed:
        console.print(f"failed: {reason}", style="bold red")
    for folder in outcomes.spare:
        console.print(f"records that could not be written: copy {folder / 'runs'} into {outcomes.results}")
    if not outcomes.writable or outcomes.only_one_failure:
        console.print(outcomes.summary())
        return 1
    complete = not outcomes.failures
    try:
        results.write_leaderboard()
        written = f"{results.folder / 'leaderboard.csv'} written"
    except CondsimError as error:
        complete, written = False, str(error)
    console.print(f"{outcomes.summary()}; {written}")
    console.print(f"Every metric, with its interval: condsim leaderboard{results.option}")
    return 0 if complete and not console.failed else 1


def _report_hidden(outcomes: Outcomes, results: Results) -> None:
    """Print the finished runs of this command that no table shows."""
    hidden = {run.run for run in results.hidden}
    for record in outcomes.skipped:
        if record.run in hidden:
            report_run(record)
            warn(
                "already done, but no table shows it: a newer run has the same settings. force=true makes it the newest"
            )
