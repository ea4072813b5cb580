"""`condsim bench`: run methods on benchmarks. Finished runs are skipped; a run that fails does not stop a sweep."""

from __future__ import annotations

import tempfile
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condsim.harness.commands.choosing import VAL, choice_of
from condsim.harness.commands.chosen import chosen_benchmark
from condsim.harness.commands.composition import Job, jobs
from condsim.harness.configs import make, make_once, plain
from condsim.harness.console import console, print_note, warn
from condsim.harness.deferred import defer
from condsim.harness.errors import BackboneError, CondsimError, NotApplicable, UnusableRowsError
from condsim.harness.files import atomic
from condsim.harness.hashing import content_digest
from condsim.harness.paths import safe_name
from condsim.harness.results.leaderboard import Leaderboard
from condsim.harness.results.percent import ends_text, percent
from condsim.harness.results.results import Results
from condsim.harness.run.pictures import SeenPictures
from condsim.harness.run.record import RECORD, Record, RecordError, read_record
from condsim.harness.run.task_file import save_task, task_path
from condsim.harness.task import Benchmark, Task
from condsim.harness.tracker import Tracker

if TYPE_CHECKING:  # they import torch, and help should not
    from condsim.harness.backbone import Backbone
    from condsim.harness.method import Method
    from condsim.harness.run.identity import RunSettings
    from condsim.harness.run.run import MeasuredRun

UNEXPECTED = (Exception, SystemExit, GeneratorExit)
"""What code of a method may raise that is one failed run. Only Ctrl-C ends a sweep."""


@dataclass
class Outcomes:
    """What became of the runs of one command."""

    done: list[Record] = field(default_factory=list)
    skipped: list[Record] = field(default_factory=list)
    not_applicable: dict[str, dict[str, str]] = field(default_factory=dict)
    """Method -> task -> why the method does not apply to it."""
    failures: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """(what failed, why) -> the tasks on which it failed in this way; none where no task was reached."""
    unusable: dict[str, str] = field(default_factory=dict)
    """Backbone that cannot be loaded -> why."""
    results: Path = Path("results")
    trackers: list[Tracker] = field(default_factory=list)
    writable: bool | None = None
    """Whether ``results`` can be written; None: not tried, since nothing had to be run."""
    pictures: SeenPictures = field(default_factory=SeenPictures)
    """Those of the finished runs since something was run: a sweep that is done looks at each file once."""
    spare: Path | None = None
    """Where records are that could not be written to ``results``."""

    @property
    def nothing(self) -> bool:
        return not (self.done or self.skipped or self.not_applicable or self.failures)

    @property
    def failed(self) -> list[str]:
        """One line per kind of failure: what failed, on which tasks, why."""
        return [_failure(what, tasks, why) for (what, why), tasks in self.failures.items()]

    def leaderboard(self, results: Results) -> Leaderboard:
        """The entries of this command's runs."""
        return results.leaderboard().of_runs({record.run for record in (*self.done, *self.skipped)})

    def summary(self) -> str:
        parts = [f"{len(self.done)} run", f"{len(self.skipped)} already done"]
        if self.not_applicable:
            parts.append(f"{sum(map(len, self.not_applicable.values()))} not applicable")
        if self.failures:
            parts.append(f"{sum(max(1, len(tasks)) for tasks in self.failures.values())} FAILED")
        return ", ".join(parts)

    def fail(self, what: str, error: BaseException, task: str = "") -> None:
        """Report a failed run, once for all tasks on which ``what`` fails with the same message; a traceback of what
        nobody expected goes to a file."""
        if isinstance(error, CondsimError):
            why = str(error)
        else:
            why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            if isinstance(error, SystemExit):
                why = "it called sys.exit"
            why = f"{why} ({_log_traceback(self.results, _failure(what, [task]))})"
        first = (what, why) not in self.failures
        self.failures.setdefault((what, why), []).extend([task] * bool(task))
        if first:
            console.print(f"failed: {_failure(what, [task], why)}", style="red")

    def fail_backbone(self, name: str, error: BackboneError) -> None:
        """Report a backbone that cannot be loaded, once; the runs of other backbones continue."""
        if name not in self.unusable:
            self.unusable[name] = str(error)
            self.failures[f"backbone {name} cannot be loaded (see above)", "its runs were not made"] = []
            console.print(f"backbone {name} cannot be loaded: {error}", style="red")

    def can_write(self) -> bool:
        """Whether records can be written. If not, one failure says so, whatever the number of runs."""
        if self.writable is None:
            try:
                (self.results / "runs").mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=self.results / "runs"):
                    self.writable = True
            except (OSError, ValueError) as error:
                self.writable = False
                reason = getattr(error, "strerror", None) or error
                where = f"results={self.results} cannot be written ({reason})"
                self.failures[where, "nothing was run. Choose another folder with results=FOLDER"] = []
        return self.writable


def _failure(what: str, tasks: Sequence[str], why: str = "") -> str:
    place = ", ".join(filter(None, tasks))
    return what + f" on {place}" * bool(place) + f": {why}" * bool(why)


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
    """Every job that the settings mean, one after another."""
    outcomes = Outcomes()
    for job in jobs("bench", settings):
        run_job(job, outcomes)
    return outcomes


def conclude(outcomes: Outcomes) -> int:
    """Rebuild the leaderboard and show what this command's runs came to. The exit status: 0 if none has failed."""
    for tracker in outcomes.trackers:
        tracker.finish()
    if outcomes.nothing:
        return 0  # --help, --cfg job and the like
    results = Results(outcomes.results)
    if outcomes.writable is not False:
        outcomes.leaderboard(results).print_overview()
    for note in results.notes:
        warn(note)
    for name, reasons in outcomes.not_applicable.items():
        console.print(f"{name} does not apply to {', '.join(reasons)}: {next(iter(reasons.values()))}", style="dim")
    for reason in outcomes.failed:
        console.print(f"failed: {reason}", style="bold red")
    if outcomes.spare is not None:
        console.print(f"records that could not be written: copy {outcomes.spare / 'runs'} into {outcomes.results}")
    if outcomes.writable is False:
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


def run_job(job: Job, outcomes: Outcomes) -> None:
    """One job: one method on the chosen tasks of one benchmark."""
    config, name = job.config, job.method_name
    outcomes.results = Path(config.results)
    try:
        from condsim.harness.run.identity import RunSettings
        from condsim.harness.run.isolation import isolated

        benchmark = chosen_benchmark(plain(config.benchmark), config.tasks, config.queries_from)
        for note in benchmark.notes:
            print_note(note)
        backbone = make_once(plain(config.backbone), "backbone")
        job = job.replaced(dict.fromkeys(job.open_settings, VAL))
        method_config = plain(job.config.method)
        with isolated():
            choice = choice_of(job)
            method = choice.candidates[0].method if choice else make(method_config, "method")
        tracker: Tracker = make_once(plain(config.tracking), "tracking")
        if tracker not in outcomes.trackers:
            outcomes.trackers.append(tracker)
        settings = RunSettings(
            name, method_config, {}, config.statistics.resamples, config.statistics.seed, config.top, choice
        )
    except UNEXPECTED as error:
        outcomes.fail(name, error)
        return
    changed = cache(lambda: job.changed_settings)  # takes a composition: only for what is run, or fails

    def label() -> str:
        shown = ", ".join(f"{key}={value}" for key, value in changed().items())
        return f"{name} ({shown})" if shown else name

    todo = deque((benchmark, task) for task in benchmark.tasks)
    while todo and outcomes.writable is not False:
        benchmark, task = todo.popleft()
        try:
            record = _run(benchmark, task, method, backbone, settings, changed, outcomes, force=config.force)
        except UnusableRowsError as error:
            from condsim.harness.run.skipping import without_unusable_images

            try:
                todo.appendleft(without_unusable_images(benchmark, task, backbone, error))
            except UNEXPECTED as reason:
                outcomes.fail(label(), reason, task.full_name)
        except BackboneError as error:
            outcomes.fail_backbone(backbone.name, error)
        except NotApplicable as reason:
            outcomes.not_applicable.setdefault(name, {})[task.full_name] = str(reason)
        except UNEXPECTED as error:
            outcomes.fail(label(), error, task.full_name)
        else:
            if record is not None:
                tracker.log(record)


def _run(
    benchmark: Benchmark, task: Task, method: Method, backbone: Backbone, settings: RunSettings,
    changed: Callable[[], Mapping[str, Any]], outcomes: Outcomes, force: bool,
) -> Record | None:  # fmt: skip
    """The record of the run if it was run now; None if it was finished already or could not be run."""
    from condsim.harness.run.identity import identify

    method.check(task)
    fresh = not outcomes.pictures.seen
    identity = identify(benchmark, task, method, backbone, settings, outcomes.pictures)
    folder = identity.folder(outcomes.results, task)
    finished = None if force else finished_run(outcomes.results, folder, task, settings.top)
    if finished is not None:
        outcomes.skipped.append(finished)
        _report_submission(task, folder)
        return None
    if not outcomes.can_write():
        return None
    from condsim.harness.run.run import measure_task  # imports torch, which a finished run does not need

    if not fresh:
        identity = identify(benchmark, task, method, backbone, settings)  # of the pictures as they are now
    outcomes.pictures.seen.clear()
    measured = measure_task(benchmark, task, method, backbone, replace(settings, settings=changed()), identity)
    return keep(measured, folder, outcomes)


def keep(measured: MeasuredRun, folder: Path, outcomes: Outcomes) -> Record:
    """Write the record of a run, whose place is ``folder``, and report it."""
    record = _write(measured, outcomes)
    outcomes.done.append(record)
    report_run(record)
    for note in record.notes:
        print_note(note)
    if record.skipped:
        more = f" and {len(record.skipped) - 1} more" if len(record.skipped) > 1 else ""
        console.print(f"skipped: {record.skipped[0]}{more}; full list: {folder / RECORD}")
    _report_submission(measured.task, folder)
    return record


def _write(measured: MeasuredRun, outcomes: Outcomes) -> Record:
    """Write the record, elsewhere if the results folder has become unwritable: what was computed is not lost."""
    try:
        return measured.write(outcomes.results)
    except OSError as error:
        spare = outcomes.spare or Path(tempfile.mkdtemp(prefix="condsim-results-"))
        record = measured.write(spare)
        outcomes.spare = spare
        unwritten = CondsimError(f"{outcomes.results} cannot be written ({error.strerror or error})")
        outcomes.fail(record.method, unwritten, record.full_task)
        return record


def report_run(record: Record) -> None:
    """One line for one finished run: its first metric with the interval, and its time."""
    first = next(iter(record.metrics.items()), None)
    shown = ", ".join(f"{name}={value}" for name, value in record.settings.items())
    line = f"{record.full_task:<28} {record.method}{f' ({shown})' if shown else ''}"
    if first is not None:
        name, metric = first
        line += f"  {name} {percent(metric.value):.1f} {ends_text(*metric.ends)}"
    console.print(f"{line}  {record.seconds.get('score', 0):.2f} s")


def _report_submission(task: Task, folder: Path) -> None:
    if task.submission is not None:
        console.print(f"files for the benchmark's own server: {folder / 'submission'}")


def finished_run(results: Path, folder: Path, task: Task, top: int) -> Record | None:
    """The record in ``folder``, if the run is finished; a damaged record is named, and None like a missing one.

    The task's file is written again where it is missing or damaged. A record with fewer than ``top`` best candidates
    is not finished.
    """
    try:
        if not folder.exists():
            return None
        record = read_record(folder)
    except OSError:  # not even a name there
        return None
    except RecordError as error:
        console.print(f"run again: {error}", style="yellow")
        return None
    if record.top < top:
        return None
    with suppress(OSError):  # results that cannot be written can be read
        save_task(task_path(results, task.benchmark, task.name, task.fingerprint), task)
    return record


def _log_traceback(results: Path, label: str) -> str:
    """Write the traceback of the current exception to a file. Where it is, in words."""
    text = traceback.format_exc()
    name = f"{safe_name(label, 120)}-{content_digest(text.encode('utf-8', 'backslashreplace'))[:8]}.txt"
    try:
        with atomic(results / "errors" / name) as scratch:
            scratch.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        return f"its traceback could not be written: {error.strerror or error}"
    return f"traceback in {results / 'errors' / name}"
