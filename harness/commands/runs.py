"""One job of `condsim bench` as plain data, and the events of its runs in the process that makes them."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condsim.harness.backbone import parts_of
from condsim.harness.commands.outcomes import (
    Damaged,
    Event,
    Failed,
    Finished,
    Inapplicable,
    Noted,
    Pending,
    Ran,
    Unloadable,
    Unwritable,
)
from condsim.harness.configs import make, make_once, plain
from condsim.harness.engine.engine import Engine
from condsim.harness.errors import BackboneError, CondsimError, EngineError, NotApplicable, UnusableRowsError
from condsim.harness.features.cache.looks import KeptLooks
from condsim.harness.run.record import Record, RecordError, read_record, settings_text
from condsim.harness.run.task_file import save_task, task_path
from condsim.harness.settings.benchmark import chosen_benchmark
from condsim.harness.settings.candidates import VAL, CandidateConfig, candidates_of, choice_of
from condsim.harness.settings.composition import Job
from condsim.harness.task import Benchmark, ImageTable, Task

if TYPE_CHECKING:  # they import torch, and help should not
    from condsim.harness.backbone import Backbone
    from condsim.harness.method import Method
    from condsim.harness.run.identity import RunSettings
    from condsim.harness.run.run import MeasuredRun

UNEXPECTED = (Exception, SystemExit, GeneratorExit)
"""What code of a method may raise that is one failed run. Only Ctrl-C ends a sweep."""


@dataclass(frozen=True)
class BenchJob:
    """One method on the chosen tasks of one benchmark, as plain data: it can be sent to another process."""

    method: str
    config: Mapping[str, Any]
    """All settings of the job; a setting that is chosen on validation data has the value "val"."""
    candidates: tuple[CandidateConfig, ...]
    changed: Callable[[], Mapping[str, Any]]
    """The settings of the method that differ from its YAML. They take a composition: only for what is run, or fails."""
    only: tuple[str, ...] | None = None
    """The full names of the tasks to run; None: all that are chosen. A record still says which were chosen."""

    @classmethod
    def of(cls, job: Job) -> BenchJob:
        config = plain(job.replaced(dict.fromkeys(job.open_settings, VAL)).config)
        return cls(job.method_name, config, candidates_of(job), cache(lambda: job.changed_settings))

    def packed(self, only: tuple[str, ...]) -> BenchJob:
        """The job with the tasks ``only``, which pickle can send."""
        return replace(self, changed=partial(dict, self.changed()), only=only)

    @property
    def results(self) -> Path:
        return Path(self.config["results"])

    @property
    def label(self) -> str:
        """The method with its changed settings."""
        return f"{self.method} {settings_text(self.changed())}".strip()


@dataclass
class RunState:
    """What the runs of one process share."""

    measure: bool = True
    """False: only look which runs are finished; the others are ``Pending``."""
    writable: bool | None = None
    """Whether the folder of results can be written; None: not tried, since nothing had to be run."""
    looks: KeptLooks = field(default_factory=KeptLooks)
    engine: Engine | None = None
    """Whose workers rank a gallery in parts; None: this process."""
    spare: Path | None = None
    """Where records go that cannot be written to the folder of results."""

    def unwritable(self, results: Path) -> list[Event]:
        """One event where records cannot be written, whatever the number of runs; none where they can."""
        if self.writable is not None:
            return []
        try:
            (results / "runs").mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=results / "runs"):
                self.writable = True
                return []
        except (OSError, ValueError) as error:
            self.writable = False
            return [Unwritable(results, str(getattr(error, "strerror", None) or error))]


def start_runs() -> Callable[[BenchJob], list[Event]]:
    """What a worker calls once: the function that runs each of its jobs."""
    state = RunState()
    return lambda job: list(run_job(job, state))


def load(job: BenchJob) -> tuple[Benchmark, Backbone, Method, RunSettings]:
    """What a job runs, and with which settings. Raises whatever code of the user's raises."""
    from condsim.harness.run.identity import RunSettings
    from condsim.harness.run.isolation import isolated

    config = job.config
    benchmark = chosen_benchmark(config)
    backbone = make_once(config["backbone"], "backbone")
    with isolated():
        choice = choice_of(job.candidates, config)
        method = choice.candidates[0].method if choice else make(config["method"], "method")
    statistics = config["statistics"]
    settings = RunSettings(
        job.method, config["method"], {}, statistics["resamples"], statistics["seed"], config.get("top", 0), choice
    )
    return benchmark, backbone, method, settings


def run_job(job: BenchJob, state: RunState) -> Iterator[Event]:
    """Run a job: its events, each as soon as it is known."""
    results = job.results
    try:
        benchmark, backbone, method, settings = load(job)
    except UNEXPECTED as error:
        yield Failed.by(error, job.method, results)
        return
    for note in benchmark.notes:
        yield Noted(note)
    todo = deque((benchmark, task) for task in benchmark.tasks if job.only is None or task.full_name in job.only)
    while todo and state.writable is not False:
        benchmark, task = todo.popleft()
        events: list[Event]
        try:
            with state.looks.used():
                events = _run(benchmark, task, method, backbone, settings, job, state)
        except UnusableRowsError as error:
            from condsim.harness.run.skipping import without_unusable_images

            try:
                if state.measure:
                    todo.appendleft(without_unusable_images(benchmark, task, backbone, error))
                    continue
                events = [Pending(task.full_name, (task.images,))]
            except UNEXPECTED as reason:
                events = [Failed.by(reason, job.label, results, task.full_name)]
        except EngineError:
            raise
        except BackboneError as error:
            events = [Unloadable(backbone.name, str(error))]
        except NotApplicable as reason:
            events = [Inapplicable(job.method, task.full_name, str(reason))]
        except UNEXPECTED as error:
            events = [Failed.by(error, job.label, results, task.full_name)]
        yield from events


def _run(
    benchmark: Benchmark, task: Task, method: Method, backbone: Backbone, settings: RunSettings,
    job: BenchJob, state: RunState,
) -> list[Event]:  # fmt: skip
    from condsim.harness.run.identity import identify

    method.check(task)
    identity = identify(benchmark, task, method, backbone, settings)
    folder = identity.folder(job.results, task)
    earlier = None if job.config["force"] else finished_run(job.results, folder, task, settings.top)
    if isinstance(earlier, Record):
        return [Finished(earlier, folder, task.submission is not None)]
    damaged: list[Event] = [] if earlier is None else [earlier]
    if unwritable := state.unwritable(job.results):
        return [*damaged, *unwritable]
    if not state.measure:
        in_parts = parts_of(backbone, task) is not None
        return [*damaged, Pending(task.full_name, _tables(benchmark, task, method, settings), in_parts)]
    from condsim.harness.run.run import measure_task  # imports torch, which a finished run does not need

    measured = measure_task(
        benchmark, task, method, backbone, replace(settings, settings=job.changed()), identity, state.engine
    )
    return [*damaged, *keep(measured, job.results, folder, state)]


def _tables(benchmark: Benchmark, task: Task, method: Method, settings: RunSettings) -> tuple[ImageTable, ...]:
    """The image tables whose features a run needs."""
    train = [benchmark.train.images] if method.reads_train and benchmark.train is not None else []
    validation = [other.images for other, _ in settings.choice.measures(task)] if settings.choice is not None else []
    return (task.images, *train, *validation)


def keep(measured: MeasuredRun, results: Path, folder: Path, state: RunState) -> list[Event]:
    """Write the record of a run, whose place is ``folder``; elsewhere if ``results`` has become unwritable: what was
    computed is not lost."""
    submission = measured.task.submission is not None
    try:
        return [Ran(measured.write(results), folder, submission)]
    except OSError as error:
        state.spare = state.spare or Path(tempfile.mkdtemp(prefix="condsim-results-"))
        record = measured.write(state.spare)
        unwritten = CondsimError(f"{results} cannot be written ({error.strerror or error})")
        failed = Failed.by(unwritten, record.method, results, record.full_task)
        return [failed, Ran(record, folder, submission, state.spare)]


def finished_run(results: Path, folder: Path, task: Task, top: int) -> Record | Damaged | None:
    """The record in ``folder``, if the run is finished; what is wrong with a damaged one; else None.

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
        return Damaged(str(error))
    if record.top < top:
        return None
    with suppress(OSError):  # results that cannot be written can be read
        save_task(task_path(results, task.benchmark, task.name, task.fingerprint), task)
    return record
