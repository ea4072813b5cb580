"""Which runs of a question set differ significantly: the tests of one task as an object and as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from condsim.harness.errors import CondsimError, counted, did_you_mean
from condsim.harness.results import formats
from condsim.harness.results.breakdown import FEW_QUERIES, GroupRow, by_label
from condsim.harness.results.composition import GAP_NOTE, run_gaps
from condsim.harness.results.percent import ends_text, percent
from condsim.harness.results.question_set import QuestionSet
from condsim.harness.results.spread import Spread
from condsim.harness.results.stored_run import StoredRun
from condsim.harness.results.table import GROUP, Cell, Column, Item, Table
from condsim.harness.run.record import Measurement
from condsim.harness.statistics.compare import Comparison, compare
from condsim.harness.statistics.intervals import Interval

TESTED = (
    "Percent. Runs that share a letter do not differ significantly: paired sign-flip test of whole clusters, "
    "Holm-corrected over all pairs of these {runs}, 5 %"
)
PAIRS_TESTED = (
    "Points. p: two-sided paired sign-flip test of whole clusters for a difference of zero; Holm: p corrected over all "
    "pairs of the table."
)
SPREAD_NOTE = (
    "Spread: standard deviation (n - 1) between runs that differ only in the seed of the training, or only in the "
    "wording of the conditions. Runs that differ only in the seed are one run: per query the mean over seeds"
)


@dataclass(frozen=True)
class TaskComparison:
    """The comparison of the runs of one question set on one metric."""

    title: str
    metric: str
    queries: int
    clusters: int
    cluster_name: str
    comparison: Comparison
    gaps: Mapping[str, Interval] = field(default_factory=dict)
    """Run -> its composition gap, where both baselines have runs with its backbone."""
    by_label: Sequence[GroupRow] = ()
    spreads: Mapping[str, str] = field(default_factory=dict)
    """Run -> its standard deviation over seeds and over wordings, where there are several: "1.7 (3 seeds)"."""

    def table(self) -> Table:
        """The runs from best to worst, with the interval of each, its letters, its spread and its composition gap."""
        comparison = self.comparison
        rows = tuple(
            (
                run, Cell(Measurement(mean.value), mean.value, place == 0), ends_text(mean.low, mean.high), letters,
                *((self.spreads.get(run, ""),) if self.spreads else ()),
                *(_gap(self.gaps.get(run)) if self.gaps else ()),
            )
            for place, (run, mean, letters) in enumerate(
                zip(comparison.runs, comparison.intervals, comparison.letters, strict=True)
            )
        )  # fmt: skip
        head = [_text("run"), Column("mean"), _text("95 % interval"), _text(GROUP)]
        caption = TESTED.format(runs=counted(len(comparison.runs), "run")) + "."
        if self.spreads:
            head.append(_text("spread"))
            caption += f" {SPREAD_NOTE}."
        if self.gaps:
            head += [Column("gap"), _text("95 % interval")]
            caption += f" {GAP_NOTE}."
        return Table(f"{self._name}: {self._sample}", tuple(head), rows, caption)

    def pairs_table(self) -> Table:
        """Every pair of runs: the difference with its interval, and p before and after Holm's correction."""
        rows = tuple(
            (
                pair.first, pair.second, Cell(Measurement(pair.difference.value)),
                ends_text(pair.difference.low, pair.difference.high), f"{pair.p:.4f}", f"{pair.adjusted:.4f}",
            )
            for pair in self.comparison.pairs
        )  # fmt: skip
        head = (_text("run"), _text("against"), Column("difference"), _text("95 % interval"), _text("p"), _text("Holm"))
        return Table(f"{self._name}: pairs", head, rows, PAIRS_TESTED)

    def labels_table(self) -> Table:
        """The mean of each run over the queries with one label: runs as in ``table``, one column per label."""
        rows: tuple[tuple[Item, ...], ...] = tuple(
            (run, *(Cell(Measurement(row.means[run])) for row in self.by_label)) for run in self.comparison.runs
        )
        head = (_text("run"), *(Column(row.name, f"({row.queries}{row.mark})") for row in self.by_label))
        marked = any(row.mark for row in self.by_label)
        few = f" †: fewer than {FEW_QUERIES} queries, so the mean is uncertain." if marked else ""
        return Table(f"{self._name}: by label (number of queries)", head, rows, f"Percent, not tested.{few}")

    def tables(self, *, pairs: bool = False) -> list[Table]:
        tables = [self.table()]
        if self.by_label:
            tables.append(self.labels_table())
        if pairs and self.comparison.pairs:
            tables.append(self.pairs_table())
        return tables

    def to_markdown(self, *, pairs: bool = False) -> str:
        return formats.to_markdown(self.tables(pairs=pairs))

    def to_latex(self, *, pairs: bool = False) -> str:
        return formats.to_latex(self.tables(pairs=pairs))

    def print(self, *, pairs: bool = False) -> None:
        formats.print_tables(self.tables(pairs=pairs))

    @property
    def _name(self) -> str:
        return f"{self.title}, {self.metric}"

    @property
    def _sample(self) -> str:
        if self.clusters == self.queries:
            return f"{self.queries} queries"
        return f"{self.queries} queries in {self.clusters} clusters (by {self.cluster_name})"


def compare_runs(
    question_set: QuestionSet,
    notes: list[str],
    metric: str | None = None,
    chosen: Sequence[str] | None = None,
    spreads: Sequence[Spread] = (),
) -> TaskComparison:
    """Compare the runs of a question set, or those ``chosen`` by method or label ("clay rank=5").

    ``metric``: None for the headline metric. ``notes`` names the runs that cannot be read. Runs of several seeds, one
    of ``spreads``, are one run, unless ``chosen`` has the label of one of them. Raises CondsimError for a metric or run
    that does not exist, and where no run is left.
    """
    name = metric or question_set.headline
    if name is None or name not in question_set.metrics:
        raise CondsimError(
            f"{question_set.full_name} has no metric {name!r}. {did_you_mean(str(name), question_set.metrics)}"
        )
    of_all = question_set.values(name, notes)
    spreads = [spread.with_metric(name) for spread in spreads]
    labels = {run: run.label for run in question_set.runs}
    alone = set(chosen or ()) - {run.record.method for run in question_set.runs}
    for spread in spreads:
        seeds = [run for run in spread.members if run in of_all]
        if spread.over == "seeds" and len(seeds) > 1 and not alone & {run.label for run in seeds}:
            first = seeds[0]
            of_all[first] = np.mean([of_all.pop(run) for run in seeds], axis=0)
            labels[first] = spread.named(with_backbone=first.with_backbone)
    known = {known for run in question_set.runs for known in (run.label, labels[run], run.record.method)}
    for wanted in chosen or ():
        if wanted not in known:
            raise CondsimError(f"{question_set.full_name} has no run {wanted!r}. {did_you_mean(wanted, known)}")
    values = {
        run: value
        for run, value in of_all.items()
        if chosen is None or {run.label, labels[run], run.record.method} & set(chosen)
    }
    if not values:
        raise CondsimError(f"{question_set.full_name}: none of the chosen runs has metric {name!r} and readable ranks")
    named = {labels[run]: value for run, value in values.items()}
    record = question_set.runs[0].record
    comparison = compare(named, question_set.clusters)
    gaps = {labels[run]: gap for run, gap in run_gaps(question_set, of_all).items() if run in values}
    labelled = by_label(question_set.task, named) if question_set.task is not None else ()
    sample = (record.queries, record.clusters, record.cluster_name)
    shown = {labels[run]: text for run in values if (text := _spread_text(run, spreads))}
    return TaskComparison(question_set.title, name, *sample, comparison, gaps, labelled, shown)


def _spread_text(run: StoredRun, spreads: Sequence[Spread]) -> str:
    own = [spread for spread in spreads if run in spread.members and len(spread.members) > 1]
    return ", ".join(f"{percent(spread.deviation):.1f} ({spread.count})" for spread in own)


def _gap(gap: Interval | None) -> tuple[Cell | str, str]:
    return ("", "") if gap is None else (Cell(Measurement(gap.value)), ends_text(gap.low, gap.high))


def _text(name: str) -> Column:
    return Column(name, number=False)
