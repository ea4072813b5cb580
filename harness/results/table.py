"""The leaderboard as tables for people: on the terminal, in Markdown, in LaTeX."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from condsim.harness.console import console
from condsim.harness.ranking.metrics import headline_metric
from condsim.harness.results.csv_file import Row, metric_names
from condsim.harness.results.significance import TIED, standings

IDENTITY = ("benchmark", "task", "method", "settings", "backbone")
LEGEND = "percent, with ± half the 95 % interval or, where it is lopsided, its ends; bold: best of its task"
LEGEND_TIED = "~: not separable from the best (paired test on the same queries, Holm-corrected, 5 %)"
LEGEND_REPORTED = "reported: as published by others, not run here; in brackets ours less theirs"


@dataclass(frozen=True)
class Cell:
    """One number of a table, in percent."""

    value: float
    low: float | None = None
    high: float | None = None
    best: bool = False
    mark: str = ""
    """What stands behind the number: "~", a difference, significance letters."""


@dataclass(frozen=True)
class Table:
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str | Cell, ...], ...]
    caption: str = ""


def task_tables(rows: Sequence[Row], by: Sequence[str] = ("benchmark", "task", "backbone")) -> list[Table]:
    """A table a combination of the columns ``by``: runs down, metrics across, published numbers under ours."""

    def key(row: Row) -> tuple[str, ...]:
        return tuple(str(row[name]) for name in by)

    groups = {value: list(group) for value, group in groupby(sorted(rows, key=key), key=key)}
    return [_runs_by_metrics(by, value, groups[value]) for value in dict.fromkeys(key(row) for row in rows)]


def overview(rows: Sequence[Row]) -> list[Table]:
    """A table a benchmark and backbone that has several tasks: methods down, each task's headline metric across.

    Where there are more tasks than methods, the tasks go down.
    """
    tables = []
    for (benchmark, backbone), group in _grouped(rows, ("benchmark", "backbone")):
        metrics = {row["task"]: headline_metric(metric_names([row])) for row in group}
        tasks = {task: metric for task, metric in metrics.items() if metric is not None}
        if len(tasks) > 1:
            tables.append(_methods_by_tasks(f"{benchmark}, backbone {backbone}", group, tasks))
    return tables


def interval_text(value: float, low: float | None, high: float | None) -> str:
    """``±2.1``, half the interval; its ends ``[47.8, 100.0]`` where one is much farther off than the other."""
    if low is None or high is None:
        return ""
    below, above = value - low, high - value
    if max(below, above) > 1.5 * min(below, above) + 0.5:
        return f"[{low:.1f}, {high:.1f}]"
    return f"±{(high - low) / 2:.1f}"


def without_captions(tables: Sequence[Table], rows: Sequence[Row]) -> list[Table]:
    """The tables with one caption, under the last of them, for all."""
    bare = [replace(table, caption="") for table in tables]
    return [*bare[:-1], replace(bare[-1], caption=_legend(rows))] if bare else []


def print_leaderboard(rows: Sequence[Row]) -> None:
    """A table a task and backbone with every metric and its interval, then the tasks of each benchmark side by side."""
    for table in without_captions([*task_tables(rows), *overview(rows)], rows):
        print_table(table)


def print_table(table: Table) -> None:
    """A table with rules on a terminal; Markdown where the output goes elsewhere or NO_COLOR is set."""
    if is_plain():
        console.print(to_markdown([table]))
    else:
        console.print(_rich(table))


def is_plain() -> bool:
    return not console.is_terminal or bool(os.environ.get("NO_COLOR"))


def to_markdown(tables: Sequence[Table]) -> str:
    """Markdown tables; the best in bold."""
    parts = []
    for table in tables:
        texts = [[_markdown(cell) for cell in row] for row in (table.head, *table.rows)]
        widths = [max(len(row[i]) for row in texts) for i in range(len(table.head))]
        numbers = _numeric(table)
        rule = [("-" * (w - 1) + ":") if number else "-" * w for w, number in zip(widths, numbers, strict=True)]
        lines = [f"**{_markdown(table.title)}**", ""]
        for row in (texts[0], rule, *texts[1:]):
            columns = zip(row, widths, numbers, strict=True)
            lines.append("| " + " | ".join(t.rjust(w) if n else t.ljust(w) for t, w, n in columns) + " |")
        lines += ["", table.caption, ""] if table.caption else [""]
        parts.append("\n".join(lines))
    return "\n".join(parts)


def to_latex(tables: Sequence[Table]) -> str:
    """LaTeX tables for the `booktabs` package; the best in bold."""
    parts = ["% needs \\usepackage{booktabs}"]
    for table in tables:
        columns = "".join("r" if number else "l" for number in _numeric(table))
        body = [" & ".join(_latex(cell) for cell in row) + r" \\" for row in table.rows]
        head = " & ".join(escape_latex(name) for name in table.head) + r" \\"
        parts += [
            r"\begin{table}", r"\centering", rf"\caption{{{escape_latex(table.title)}. {escape_latex(table.caption)}}}",
            rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule",
            r"\end{tabular}", r"\end{table}", "",
        ]  # fmt: skip
    return "\n".join(parts)


def escape_latex(text: str) -> str:
    """``text`` as LaTeX shows it letter for letter."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"$\sim$", "^": r"\textasciicircum{}", "±": r"$\pm$", "<": r"$<$", ">": r"$>$", "−": "$-$",
}  # fmt: skip


def _runs_by_metrics(by: Sequence[str], key: tuple[str, ...], rows: Sequence[Row]) -> Table:
    metrics = metric_names(rows)
    varying = [
        name for name in IDENTITY if name not in by and (name == "method" or len({row[name] for row in rows}) > 1)
    ]
    with_seconds = any(row["seconds"] != "" for row in rows)
    lines: list[tuple[str | Cell, ...]] = []
    tied = _tied(rows)
    for row in rows:
        same_task = [other for other in rows if (other["benchmark"], other["task"]) == (row["benchmark"], row["task"])]
        headline = headline_metric(metric_names([row]))
        cells: list[str | Cell] = []
        for name in metrics:
            values = [other[name] for other in same_task if name in other]
            best = max(values, default=0.0) if len(values) > 1 else None
            cells.append(_cell(row, name, best, name == headline and id(row) in tied) if name in row else "")
        seconds = [_seconds(row["seconds"])] if with_seconds else []
        lines.append((*(str(row[name]) for name in varying), *cells, *seconds))
        reported = [_reported(row, name) for name in metrics]
        if any(reported):
            source = f"reported: {row['reported_in']}"
            lines.append((source, *("" for _ in varying[1:]), *reported, *("" for _ in seconds)))
    queries = {row["queries"] for row in rows if row["queries"] != ""}
    title = ", ".join(f"{name} {value}" if name == "backbone" else value for name, value in zip(by, key, strict=True))
    if {"benchmark", "task"} <= set(by):
        named = dict(zip(by, key, strict=True))
        rest = [f"{n} {v}" if n == "backbone" else v for n, v in named.items() if n not in ("benchmark", "task")]
        title = ", ".join([f"{named['benchmark']}/{named['task']}", *rest])
    if len(queries) == 1:
        title += f", {queries.pop()} queries"
    return Table(title, (*varying, *metrics, *(["seconds"] if with_seconds else [])), tuple(lines), _legend(rows))


def _methods_by_tasks(title: str, rows: Sequence[Row], tasks: Mapping[str, str]) -> Table:
    """``tasks``: task -> the metric shown."""
    found = {(_label(row), row["task"]): row for row in rows}
    labels = list(dict.fromkeys(_label(row) for row in rows))
    tied = _tied(rows)

    def cell(label: str, task: str) -> str | Cell:
        row, metric = found.get((label, task), {}), tasks[task]
        best = max(other[metric] for other in rows if other["task"] == task and metric in other)
        return _cell(row, metric, best, id(row) in tied) if metric in row else ""

    one_metric = len(set(tasks.values())) == 1
    names = {task: task if one_metric else f"{task} {metric}" for task, metric in tasks.items()}
    title += f": {next(iter(tasks.values()))}" if one_metric else ""
    lines: list[tuple[str | Cell, ...]]
    if len(tasks) > max(6, len(labels)):
        head = ("task", *labels)
        lines = [(names[task], *(cell(label, task) for label in labels)) for task in tasks]
    else:
        head = ("method", *names.values())
        lines = [(label, *(cell(label, task) for task in tasks)) for label in labels]
    return Table(title, head, tuple(lines), _legend(rows))


def _tied(rows: Sequence[Row]) -> set[int]:
    """The ids of those rows that are not separable from the best row of their task among these."""
    found: set[int] = set()
    for _, group in _grouped(rows, ("benchmark", "task")):
        found |= {id(row) for row, standing in zip(group, standings(group), strict=True) if standing == TIED}
    return found


def _cell(row: Row, name: str, best: float | None, tied: bool) -> Cell:
    return Cell(row[name], row.get(f"{name}_low"), row.get(f"{name}_high"), row[name] == best, "~" if tied else "")


def _reported(row: Row, name: str) -> str | Cell:
    if f"{name}_reported" not in row:
        return ""
    return Cell(row[f"{name}_reported"], mark=f"({row[f'{name}_difference']:+.1f})")


def _seconds(seconds: Any) -> str:
    return f"{seconds:.2f}" if isinstance(seconds, (int, float)) else ""


def _legend(rows: Iterable[Row]) -> str:
    rows = list(rows)
    parts = [LEGEND]
    if _tied(rows):
        parts.append(LEGEND_TIED)
    if any(row.get("reported_in") for row in rows):
        parts.append(LEGEND_REPORTED)
    return "; ".join(parts) + "."


def _label(row: Row) -> str:
    return f"{row['method']} {row['settings']}".strip()


def _grouped(rows: Iterable[Row], keys: Sequence[str]) -> Iterable[tuple[tuple[Any, ...], list[Row]]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in keys), []).append(row)
    return groups.items()


def _numeric(table: Table) -> list[bool]:
    return [
        any(isinstance(row[i], Cell) for row in table.rows) or table.head[i] == "seconds"
        for i in range(len(table.head))
    ]


def _number(cell: Cell) -> str:
    return f"{cell.value:.1f}"


def _beside(cell: Cell) -> str:
    return "".join(f" {part}" for part in (interval_text(cell.value, cell.low, cell.high), cell.mark) if part)


def _rich(table: Table) -> RichTable:
    shown = RichTable(
        title=Text(table.title, style="bold"), title_justify="left", caption=Text(table.caption, style="dim"),
        caption_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
    )  # fmt: skip
    longest = max((len(row[0]) for row in table.rows if isinstance(row[0], str)), default=0)
    for i, (name, number) in enumerate(zip(table.head, _numeric(table), strict=True)):
        room = min(longest, 24) if i == 0 else None  # on a narrow terminal the numbers fold before the names do
        shown.add_column(Text(name), justify="right" if number else "left", overflow="fold", min_width=room)
    for row in table.rows:
        dim = isinstance(row[0], str) and row[0].startswith("reported:")
        shown.add_row(*(_rich_cell(cell) for cell in row), style="dim" if dim else None)
    return shown


def _rich_cell(cell: str | Cell) -> Text:
    if isinstance(cell, str):
        return Text(cell)
    return Text.assemble((_number(cell), "bold" if cell.best else ""), (_beside(cell), "dim"))


def _markdown(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return "".join(f"\\{letter}" if letter in "|<*`" else letter for letter in cell).replace("\n", " ")
    return (f"**{_number(cell)}**" if cell.best else _number(cell)) + _beside(cell)


def _latex(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return escape_latex(cell)
    number = rf"\textbf{{{_number(cell)}}}" if cell.best else _number(cell)
    beside = escape_latex(_beside(cell)).strip()
    return rf"{number} {{\scriptsize {beside}}}" if beside else number
