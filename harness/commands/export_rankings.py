"""`condsim export`: write the ranking of every query of a task, with ids and scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from condsim.harness.commands.runs import BenchJob, load
from condsim.harness.errors import NotApplicable, counted
from condsim.harness.exchange.run_file import write_rankings
from condsim.harness.files.paths import safe_name
from condsim.harness.settings.composition import Job, jobs
from condsim.harness.terminal.console import console
from condsim.harness.variants.fewer_queries import unique_query_ids

if TYPE_CHECKING:
    from condsim.harness.ranking.engine import Ranking
    from condsim.harness.task import Task


def main(argv: Sequence[str]) -> int:
    written = [export(job) for job in jobs("export", argv)]
    return 0 if any(written) or not written else 1  # --help and --cfg have no job


def export(job: Job) -> list[Path]:
    """Rank every chosen task by the job's method, and write one file per task. Returns the files."""
    from condsim.harness.run.identity import identify
    from condsim.harness.run.isolation import isolated
    from condsim.harness.run.run import chosen_method, rank

    config = job.config
    benchmark, backbone, method, settings = load(BenchJob.of(job))
    written = []
    for task in benchmark.tasks:
        try:
            method.check(task)
            run = identify(benchmark, task, method, backbone, settings).run
            most = len(task.gallery_rows) if task.candidates is None else int(task.candidates.lengths.max())
            chosen, choice = chosen_method(benchmark, task, method, backbone, settings)
            with isolated():
                ranking, _ = rank(benchmark, task, chosen, backbone, min(most, config.depth or most))
        except NotApplicable as reason:
            console.print(f"{settings.method} does not apply to {task.full_name}: {reason}", style="dim")
            continue
        name = f"{safe_name(settings.method)}-{run}.{config.format}"
        path = Path(config.output) / safe_name(task.benchmark) / safe_name(task.name) / name
        lines = write_rankings(path, config.format, _rankings(task, ranking), f"{settings.method}-{run}")
        chosen_as = "".join(f", {name}={value}" for name, value in choice.get("chosen", {}).items())
        console.print(f"{path} written, {counted(lines, 'line')}{chosen_as}")
        written.append(path)
    return written


def _rankings(task: Task, ranking: Ranking) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    items = task.images.keys
    assert ranking.top is not None
    assert ranking.top_scores is not None
    for query, rows, scores in zip(
        unique_query_ids(task), ranking.top.tolist(), ranking.top_scores.tolist(), strict=True
    ):
        score_of = dict(zip(rows, scores, strict=True))  # a list of candidates may contain an item twice
        yield query, [(items[row], score) for row, score in score_of.items() if row >= 0]
