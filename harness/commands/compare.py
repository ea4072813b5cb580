"""`condsim compare`: which methods differ on a task, tested on the same queries."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from condsim.harness.console import console
from condsim.harness.errors import CondsimError, did_you_mean
from condsim.harness.results.collection import TaskRuns, runs_by_task, values_of
from condsim.harness.results.table import Cell, Table, print_table, to_latex
from condsim.harness.statistics.compare import Comparison, compare


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser("condsim compare", description=__doc__)
    parser.add_argument(
        "--task", action="append", metavar="BENCHMARK/TASK", help="may be given several times (default: every task)"
    )
    parser.add_argument("--metric", help="such as recall@1 (default: the task's headline metric)")
    parser.add_argument(
        "--runs", nargs="+", metavar="METHOD", help="compare only these methods, or runs such as 'clay rank=5'"
    )
    parser.add_argument("--pairs", action="store_true", help="show every pair too: difference, interval, p")
    parser.add_argument("--latex", type=Path, metavar="FILE", help="write the table as LaTeX too")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of records (default: results)")
    options = parser.parse_args(argv)
    groups = {group.full_name: group for group in runs_by_task(options.results)}
    if not groups:
        raise CondsimError(f"there are no records under {options.results / 'runs'}: run `condsim bench` first")
    for name in options.task or ():
        if name not in groups:
            raise CondsimError(f"there are no records of task {name!r}. {did_you_mean(name, groups)}")
    tables = []
    for name in options.task or groups:
        if groups[name].metrics:
            tables += comparison_tables(groups[name], options.metric, options.runs, options.pairs)
        else:
            console.print(f"{name}: its ground truth is withheld, so there is nothing to compare", markup=False)
    for table in tables:
        print_table(table)
    if options.latex:
        options.latex.parent.mkdir(parents=True, exist_ok=True)
        options.latex.write_text(to_latex(tables), encoding="utf-8")
        console.print(f"{options.latex} written", markup=False)
    return 0


def comparison_tables(
    group: TaskRuns, metric: str | None = None, chosen: Sequence[str] | None = None, pairs: bool = False
) -> list[Table]:
    """The runs of a task from best to worst with letters; with ``pairs`` also every pair's test."""
    name = metric or group.headline
    if name is None or name not in group.metrics:
        raise CondsimError(f"{group.full_name} has no metric {name!r}. {did_you_mean(str(name), group.metrics)}")
    runs = [run for run in group.runs if chosen is None or {run.label, run.record.method} & set(chosen)]
    for wanted in chosen or ():
        known = {known for run in group.runs for known in (run.label, run.record.method)}
        if wanted not in known:
            raise CondsimError(f"{group.full_name} has no run {wanted!r}. {did_you_mean(wanted, known)}")
    values = values_of(runs, name)
    if not values:
        raise CondsimError(f"{group.full_name}: none of the chosen runs has metric {name!r}")
    comparison = compare(values, group.clusters)
    record = group.runs[0].record
    sample = f"{record.queries} queries"
    if record.clusters < record.queries:
        sample += f" in {record.clusters} clusters (by {record.cluster_name})"
    tables = [_standing(f"{group.full_name}, {name}: {sample}", comparison)]
    if pairs and comparison.pairs:
        tables.append(_pairs(f"{group.full_name}, {name}: pairs", comparison))
    return tables


def _standing(title: str, comparison: Comparison) -> Table:
    rows = tuple(
        (run, Cell(100 * interval.value, best=run == comparison.runs[0]), _range(interval.low, interval.high), letters)
        for run, interval, letters in zip(comparison.runs, comparison.intervals, comparison.letters, strict=True)
    )
    caption = "percent; runs that share a letter are not separable (paired sign-flip test, Holm-corrected, 5 %)"
    return Table(title, ("run", "mean", "95 % interval", "letters"), rows, caption)


def _pairs(title: str, comparison: Comparison) -> Table:
    rows = tuple(
        (
            pair.first, pair.second, Cell(100 * pair.difference.value),
            _range(pair.difference.low, pair.difference.high), f"{pair.p:.4f}", f"{pair.adjusted:.4f}",
        )
        for pair in comparison.pairs
    )  # fmt: skip
    return Table(title, ("run", "against", "difference", "95 % interval", "p", "Holm"), rows)


def _range(low: float, high: float) -> str:
    return f"[{100 * low:.1f}, {100 * high:.1f}]"
