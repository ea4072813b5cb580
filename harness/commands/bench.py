"""`condsim bench`: what Hydra composes is run, finished runs are skipped, failures are told and do not stop a sweep."""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig

from condsim.harness.commands.hydra_job import run_jobs
from condsim.harness.configs import changed_settings, make, make_once, method_name, plain
from condsim.harness.console import console
from condsim.harness.errors import CondsimError, NotApplicable, UnusableRowsError
from condsim.harness.fewer_queries import restrict
from condsim.harness.results.leaderboard import rows_of_runs, write_leaderboard
from condsim.harness.results.table import print_leaderboard
from condsim.harness.run.record import RECORD, Record, read_record
from condsim.harness.task import Task
from condsim.harness.tracker import Tracker


@dataclass
class Outcomes:
    """What became of the runs of one command."""

    done: list[Record] = field(default_factory=list)
    skipped: list[Record] = field(default_factory=list)
    not_applicable: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Method -> (task, why not) of those it was not run on."""
    failed: list[str] = field(default_factory=list)
    results: Path = Path("results")
    trackers: list[Tracker] = field(default_factory=list)

    @property
    def nothing(self) -> bool:
        return not (self.done or self.skipped or self.not_applicable or self.failed)

    def summary(self) -> str:
        parts = [f"{len(self.done)} run", f"{len(self.skipped)} already done"]
        if self.not_applicable:
            parts.append(f"{sum(map(len, self.not_applicable.values()))} not applicable")
        if self.failed:
            parts.append(f"{len(self.failed)} FAILED")
        return ", ".join(parts)


def main(argv: Sequence[str]) -> int:
    outcomes = Outcomes()

    def job(config: DictConfig) -> None:
        bench(config, outcomes)

    run_jobs("bench", argv, job)
    return conclude(outcomes)


def conclude(outcomes: Outcomes) -> int:
    """Rebuild the leaderboard, show what this command's runs came to; the exit status says whether all went well."""
    for tracker in outcomes.trackers:
        tracker.finish()
    if outcomes.nothing:
        return 0  # --help, --cfg job and the like
    rows = write_leaderboard(outcomes.results)
    ran = {record.run for record in (*outcomes.done, *outcomes.skipped)}
    print_leaderboard(rows_of_runs(rows, ran))
    for name, left_out in outcomes.not_applicable.items():
        tasks = ", ".join(task for task, _ in left_out)
        console.print(f"{name} cannot be asked {tasks}; the first: {left_out[0][1]}", style="dim", markup=False)
    for reason in outcomes.failed:
        console.print(f"failed: {reason}", style="bold red", markup=False)
    console.print(f"{outcomes.summary()}; {outcomes.results / 'leaderboard.csv'} written")
    return 1 if outcomes.failed else 0


def bench(config: DictConfig, outcomes: Outcomes) -> None:
    """One Hydra job: one method against the chosen tasks of one benchmark."""
    outcomes.results = Path(config.results)
    name = method_name(config)
    try:
        from condsim.harness.run.identity import RunSettings, folder_of_run
        from condsim.harness.run.run import run_task
        from condsim.harness.run.skipping import without_unusable_images

        benchmark = make_once(plain(config.benchmark)).select(config.tasks and list(config.tasks))
        if config.queries_from:
            benchmark = restrict(benchmark, config.queries_from)
        backbone = make_once(plain(config.backbone))
        method_config = plain(config.method)
        method = make(method_config, "method")
        tracker: Tracker = make_once(plain(config.tracking))
        if tracker not in outcomes.trackers:
            outcomes.trackers.append(tracker)
        settings = RunSettings(
            name, method_config, changed_settings(method_config), config.statistics.resamples, config.statistics.seed,
            config.top,
        )  # fmt: skip
    except CondsimError as error:
        outcomes.failed.append(f"{name}: {error}")
        return
    todo = deque((benchmark, task) for task in benchmark.tasks)
    while todo:
        benchmark, task = todo.popleft()
        label = f"{name} on {task.full_name}"
        try:
            folder = folder_of_run(outcomes.results, task, backbone, settings)
            finished = None if config.force else finished_run(folder)
            if finished is not None:
                outcomes.skipped.append(finished)
                _tell_submission(task, folder)
                continue
            try:
                record = run_task(outcomes.results, benchmark, task, method, backbone, settings)
            except UnusableRowsError as error:
                todo.appendleft(without_unusable_images(benchmark, task, backbone, error))
                continue
        except NotApplicable as reason:
            outcomes.not_applicable.setdefault(name, []).append((task.full_name, str(reason)))
        except CondsimError as error:
            outcomes.failed.append(f"{label}: {error}")
            console.print(f"{label}: {error}", style="red", markup=False)
        except Exception as error:  # a fault of ours or of a user's method: the sweep goes on, the log says where
            log = outcomes.results / "errors" / f"{settings.method}-{task.benchmark}-{task.name}.txt"
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(traceback.format_exc(), encoding="utf-8")
            outcomes.failed.append(f"{label}: {type(error).__name__}: {error} (traceback in {log})")
            console.print(outcomes.failed[-1], style="red", markup=False)
        else:
            outcomes.done.append(record)
            report_run(record)
            if record.skipped:
                more = f" and {len(record.skipped) - 1} more" if len(record.skipped) > 1 else ""
                console.print(f"left out: {record.skipped[0]}{more}, listed in {folder / RECORD}", markup=False)
            _tell_submission(task, folder)
            tracker.log(record)


def report_run(record: Record) -> None:
    """One line for one finished run: its first metric with the interval, and its time."""
    first = next(iter(record.metrics.items()), None)
    shown = ", ".join(f"{name}={value}" for name, value in record.settings.items())
    line = f"{record.full_task:<28} {record.method}{f' ({shown})' if shown else ''}"
    if first is not None:
        name, metric = first
        line += f"  {name} {100 * metric.value:.1f} [{100 * metric.low:.1f}, {100 * metric.high:.1f}]"
    console.print(f"{line}  {record.seconds.get('score', 0):.2f} s", markup=False)


def _tell_submission(task: Task, folder: Path) -> None:
    if task.submission is not None:
        console.print(f"files for the benchmark's own server: {folder / 'submission'}", markup=False)


def finished_run(folder: Path) -> Record | None:
    """The record in ``folder``; None where there is none yet or where it is corrupt and so must be made again."""
    try:
        return read_record(folder)
    except ValueError:
        return None
