"""A row of the leaderboard: one run, or one headline mean over several runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from condsim.harness.ranking.metric_names import headline_metric, in_order, metric_order
from condsim.harness.results.order import set_name
from condsim.harness.results.published import Published
from condsim.harness.results.stored_run import StoredRun
from condsim.harness.run.record import Measurement, settings_text


@dataclass(frozen=True)
class Entry:
    """What one method got on one question set of one task."""

    benchmark: str
    task: str
    method: str
    backbone: str
    settings: str
    """Those that differ from the method's defaults, as one types them; "" for the defaults."""
    rank: object
    """The method's setting ``rank``; "" where it has none."""
    question_set: str
    """See ``StoredRun.question_set``. Only entries of the same question set can be compared."""
    variant: str
    """The settings and the subset of queries that make it another question set than the task's usual one; often ""."""
    queries: int | None
    """None for a headline mean."""
    seconds: float | None
    """Wall time of scoring; None for a headline mean."""
    runs: tuple[str, ...]
    """The run, or all runs that a headline mean is over."""
    training: tuple[str, ...]
    """``runs``, with the first seed in place of each other one: entries with the same are compared as one."""
    metrics: Mapping[str, Measurement]
    letters: str = ""
    """Entries of one question set that share a letter are not significantly different; "" where not tested."""
    standing: str = ""
    """"best", "not separable" from the best of its question set and backbone, or ""."""
    reported_in: str = ""
    """The papers and tables that the reported values of ``metrics`` are from."""
    is_newest: bool = True
    """False: newer runs of this task saw another question set."""
    server: str = ""
    """The benchmark's own server that measured ``metrics``, and the date; "" where condsim did."""

    @property
    def is_mean(self) -> bool:
        return self.queries is None

    @property
    def run(self) -> str:
        """The run's hash; "" for a headline mean."""
        return "" if self.is_mean else self.runs[0]

    @property
    def full_task(self) -> str:
        return f"{self.benchmark}/{self.task}"

    @property
    def label(self) -> str:
        return f"{self.method} {self.settings}".strip()

    @property
    def set_name(self) -> str:
        return set_name(self.question_set, self.variant)

    @property
    def headline(self) -> Measurement | None:
        """The measurement of the metric that represents the task."""
        name = headline_metric(self.metrics)
        return None if name is None else self.metrics[name]


def entry_of(run: StoredRun, letters: str = "") -> Entry:
    """The entry of one run."""
    record, answer = run.record, run.answer
    method_config = record.config.get("method_config", {})
    return Entry(
        benchmark=record.benchmark,
        task=record.task,
        method=record.method,
        backbone=record.backbone,
        settings=settings_text(record.settings),
        rank=method_config.get("rank", "") if isinstance(method_config, dict) else "",
        question_set=run.question_set,
        variant=run.variant,
        queries=record.queries,
        seconds=record.seconds.get("score"),
        runs=(record.run,),
        training=(record.run,),
        metrics=dict(record.metrics) if answer is None else {k: Measurement(v) for k, v in answer.metrics.items()},
        letters=letters,
        server="" if answer is None else str(answer),
    )


def with_reported(entry: Entry, published: Published) -> Entry:
    """``entry`` with the published numbers of the same names; of several tables the first one that has a metric.

    Only for the method's default settings on the task's usual question set: others are not what was published.
    """
    if entry.settings or entry.variant:
        return entry
    metrics, sources = dict(entry.metrics), []
    for table in published.get((entry.benchmark, entry.task, entry.method, entry.backbone), ()):
        for name in sorted(table.values, key=metric_order):
            if name in metrics and metrics[name].reported is None:
                metrics[name] = replace(metrics[name], reported=table.values[name] / 100, source=table.source)
                sources.append(table.source)
    return replace(entry, metrics=metrics, reported_in="; ".join(dict.fromkeys(sources))) if sources else entry


def metric_names(entries: Iterable[Entry]) -> list[str]:
    """The metrics of these entries: the headline metric if they share it, then recall@2 before recall@10."""
    entries = list(entries)
    headlines = {headline_metric(entry.metrics) for entry in entries}
    names = (name for entry in entries for name in entry.metrics)
    return in_order(names, headlines.pop() if len(headlines) == 1 else None)
