"""`condsim import`: measure rankings that another program made, under the protocol of a task, as one run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from condsim.harness.commands.bench import conclude
from condsim.harness.commands.outcomes import Outcomes
from condsim.harness.commands.runs import RunState, keep
from condsim.harness.configs import plain
from condsim.harness.errors import CondsimError
from condsim.harness.exchange.run_file import read_rankings
from condsim.harness.settings.benchmark import chosen_benchmark
from condsim.harness.settings.composition import Job, jobs


def main(argv: Sequence[str]) -> int:
    files = [Path(word).expanduser() for word in argv if _is_file(word)]
    settings = [setting for word in argv if not _is_file(word) for setting in _settings(word)]
    outcomes, state = Outcomes(), RunState()
    for job in jobs("import", settings):
        if not files:
            raise CondsimError("name the files of the ranking: condsim import run.trec task=shapes/cirr name=theirs")
        import_rankings(job, files, outcomes, state)
    return conclude(outcomes)


def import_rankings(job: Job, files: Sequence[Path], outcomes: Outcomes, state: RunState) -> None:
    """Measure the ranking in ``files`` on the job's task and write its record."""
    from condsim.harness.exchange.imported import ImportedRanking, NoFeatures, bind
    from condsim.harness.run.identity import RunSettings, identify
    from condsim.harness.run.run import measure_task

    config = job.config
    outcomes.results = Path(config.results)
    rankings = read_rankings(files)
    benchmark = chosen_benchmark(plain(config) | {"tasks": [config.task]})
    (task,) = benchmark.tasks
    places, notes = bind(task, rankings)
    names = ", ".join(path.name for path in files)
    backbone = NoFeatures(config.backbone, [f"imported from {names}", *notes])
    statistics = config.statistics
    settings = RunSettings(
        config.name, {"ranking": places.digest}, {}, statistics.resamples, statistics.seed, config.top
    )
    outcomes.collect(state.unwritable(outcomes.results))
    if not outcomes.writable:
        return
    method = ImportedRanking(places)
    identity = identify(benchmark, task, method, backbone, settings)
    measured = measure_task(benchmark, task, method, backbone, settings, identity)
    outcomes.collect(keep(measured, outcomes.results, identity.folder(outcomes.results, task), state))


def _is_file(word: str) -> bool:
    return "=" not in word and not word.startswith(("-", "~"))


def _settings(word: str) -> list[str]:
    """``task=shapes/cirr`` as benchmark=shapes task=cirr."""
    benchmark, slash, task = word.removeprefix("task=").partition("/")
    return [f"benchmark={benchmark}", f"task={task}"] if word.startswith("task=") and slash else [word]
