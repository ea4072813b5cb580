"""Commands on the workers of an engine. What `condsim bench` has finished is found here, and starts no worker."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from condsim.harness.commands.outcomes import Event, Failed, Finished, Outcomes, Pending, Ran
from condsim.harness.commands.runs import BenchJob, RunState, run_job, start_runs
from condsim.harness.configs import make_once
from condsim.harness.engine.engine import Engine, Lost
from condsim.harness.errors import BackboneError, CondsimError, UnusableRowsError
from condsim.harness.settings.composition import for_each_job
from condsim.harness.task import ImageTable
from condsim.harness.terminal.progress import track
from condsim.harness.tracker import Tracker


def run_on_engine(command: str, argv: Sequence[str], run: Callable[[Mapping[str, Any], Engine], int]) -> int:
    """Run the jobs of a command whose settings name an engine; one that several jobs name is started once."""
    engines: dict[int, Engine] = {}

    def on_its_engine(settings: Mapping[str, Any]) -> int:
        engine: Engine = make_once(settings["engine"], "engine")
        if not engine.interactive:
            raise CondsimError(
                f"`condsim {command}` needs workers that answer while it waits: use engine=local or engine=ray; on "
                "SLURM, start Ray in one allocation (docs/scale.md)"
            )
        engines[id(engine)] = engine
        return run(settings, engine)

    try:
        return for_each_job(command, argv, on_its_engine)
    finally:
        for engine in engines.values():
            engine.close()


def run_elsewhere(engine: Engine, jobs: Sequence[tuple[BenchJob, Tracker]], outcomes: Outcomes) -> None:
    """Run the jobs on ``engine``: the images that no store holds are encoded first.

    A job is one worker's, except where the gallery is in parts: all workers rank one such run after the other.
    """
    trackers: dict[int, Tracker] = {}
    todo: list[BenchJob] = []
    in_parts: list[BenchJob] = []
    tables: list[tuple[str, ImageTable]] = []
    looking = RunState(measure=False)
    for job, tracker in jobs:
        whole: list[str] = []
        divided: list[str] = []
        for event in run_job(job, looking):
            if isinstance(event, Pending):
                (divided if event.in_parts and engine.interactive else whole).append(event.task)
                tables += [(_text(job, "backbone"), table) for table in event.tables]
            else:
                outcomes.add(event)
        for chosen, tasks in ((todo, whole), (in_parts, divided)):
            if tasks:
                chosen.append(job.packed(tuple(tasks)))
                trackers[id(chosen[-1])] = tracker
    count = len(todo) + len(in_parts)
    if not count or not outcomes.writable:
        return
    todo.sort(key=lambda job: (_text(job, "benchmark"), _text(job, "backbone")))  # a worker keeps what it has loaded
    answered = 0
    try:
        with closing(engine):
            if engine.interactive:
                _encode(engine, tables)
            with track(count, "jobs") as advance:
                for job, result in engine.work(start_runs, todo):
                    events = _lost(job, result) if isinstance(result, Lost) else result
                    outcomes.collect(map(_made_now, events), trackers[id(job)])
                    answered += 1
                    advance(1)
                state = RunState(engine=engine)
                for job in in_parts:
                    outcomes.collect(run_job(job, state), trackers[id(job)])
                    answered += 1
                    advance(1)
        outcomes.submitted += count - answered
    except CondsimError as error:
        outcomes.add(Failed(f"{count - answered} of {count} jobs", "", str(error)))


def _encode(engine: Engine, tables: Sequence[tuple[str, ImageTable]]) -> None:
    """Encode each table once per backbone. What cannot be encoded is reported by the runs that need it."""
    from condsim.harness.features.segments import StoresImages, encode_in_segments

    for config, table in {(config, id(table)): (config, table) for config, table in tables}.values():
        make = partial(make_once, json.loads(config), "backbone")
        with suppress(UnusableRowsError, BackboneError):
            if isinstance(backbone := make(), StoresImages):
                encode_in_segments(engine, make, backbone, table)


def _made_now(event: Event) -> Event:
    """A run that a worker found finished was made by a worker that died after it: it is a run of this command."""
    return Ran(event.record, event.folder, event.submission) if isinstance(event, Finished) else event


def _lost(job: BenchJob, lost: Lost) -> Iterator[Event]:
    """The events of a job whose workers died: failures of the runs that are not finished."""
    for event in run_job(replace(job, config={**job.config, "force": False}), RunState(measure=False)):
        yield Failed(job.label, event.task, f"its worker died: {lost.reason}") if isinstance(event, Pending) else event


def _text(job: BenchJob, part: str) -> str:
    return json.dumps(job.config[part], sort_keys=True)
