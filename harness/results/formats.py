"""Tables as text: on the terminal, in Markdown, in LaTeX.

Written here and not by `tabulate` or pandas: neither escapes names for Markdown, sets the best in bold and the interval
small, or fits a table to the terminal, and pandas would take longer to import than the whole command takes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from condsim.harness.names import escaped
from condsim.harness.results.table import SECONDS, Cell, Column, Item, RunName, Table
from condsim.harness.terminal.console import console

LONGEST_NAME = 40
"""Letters of a row's name on one line of the terminal."""


def print_tables(tables: Sequence[Table]) -> None:
    """Tables with rules, fitted to the terminal; Markdown where the output goes elsewhere or NO_COLOR is set."""
    if not console.is_terminal or os.environ.get("NO_COLOR"):
        console.print(to_markdown(tables))
        return
    for part in (part for table in tables for part in fitted(table, console.width)):
        console.print(_rich(part), soft_wrap=False)
        if part.caption:
            console.print(Text(escaped(part.caption), style="dim"), soft_wrap=False)


def captions_once(tables: Sequence[Table], caption: str) -> list[Table]:
    """The tables with one caption, under the last of them, for all."""
    bare = [replace(table, caption="") for table in tables]
    return [*bare[:-1], replace(bare[-1], caption=caption)] if bare else []


def fitted(table: Table, width: int) -> list[Table]:
    """``table`` as tables of at most ``width`` letters: as it is, else its columns in blocks, each with the names.

    Seconds that would need a block of their own are left out.
    """
    widths = _widths(table)
    if _total(widths) <= width or len(widths) < 3:
        return [table]
    blocks: list[list[int]] = [[]]
    for column in range(1, len(widths)):
        if blocks[-1] and _total([widths[i] for i in (0, *blocks[-1], column)]) > width:
            if table.head[column].name == SECONDS:
                continue
            blocks.append([])
        blocks[-1].append(column)
    parts = []
    for number, columns in enumerate(blocks):
        chosen = (0, *columns)
        rows = tuple(tuple(row[i] for i in chosen) for row in table.rows if any(str(row[i]) for i in columns))
        title = table.title if number == 0 else f"{table.title} (continued)"
        caption = table.caption if number == len(blocks) - 1 else ""
        parts.append(Table(title, tuple(table.head[i] for i in chosen), rows, caption))
    return parts


def to_markdown(tables: Sequence[Table]) -> str:
    """Markdown tables; the best in bold."""
    parts = []
    for table in tables:
        texts = [[_markdown_text(str(column)) for column in table.head]]
        texts += [[_markdown(item) for item in row] for row in table.rows]
        widths = [max(len(row[i]) for row in texts) for i in range(len(table.head))]
        numbers = [column.number for column in table.head]
        rule = [("-" * (w - 1) + ":") if number else "-" * w for w, number in zip(widths, numbers, strict=True)]
        lines = [f"**{_markdown_text(table.title)}**", ""]
        for row in (texts[0], rule, *texts[1:]):
            columns = zip(row, widths, numbers, strict=True)
            lines.append("| " + " | ".join(t.rjust(w) if n else t.ljust(w) for t, w, n in columns) + " |")
        lines += ["", table.caption, ""] if table.caption else [""]
        parts.append("\n".join(lines))
    return "\n".join(parts)


def to_latex(tables: Sequence[Table]) -> str:
    """LaTeX tables for the `booktabs` package, without seconds; the best in bold, the second best underlined."""
    parts = ["% needs \\usepackage{booktabs}"]
    for table in tables:
        shown = [place for place, column in enumerate(table.head) if column.name != SECONDS]
        columns = "".join("r" if table.head[place].number else "l" for place in shown)
        second = _second_best(table)
        cells = [[_latex(row[place], id(row[place]) in second) for place in shown] for row in table.rows]
        body = [" & ".join(row) + r" \\" for row in cells]
        head = " & ".join(escape_latex(str(table.head[place])) for place in shown) + r" \\"
        parts += [
            r"\begin{table}", r"\centering", rf"\caption{{{escape_latex(table.title)}. {escape_latex(table.caption)}}}",
            rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule",
            r"\end{tabular}", r"\end{table}", "",
        ]  # fmt: skip
    return "\n".join(parts)


def renamed(tables: Sequence[Table], names: Mapping[str, str]) -> list[Table]:
    """The tables with other names for methods: ``{"clay": "CLAY"}``."""

    def text(item: Item, column: Column) -> Item:
        if isinstance(item, RunName):
            return replace(item, method=names.get(item.method, item.method))
        return names.get(item, item) if isinstance(item, str) and column.name == "method" else item

    return [
        replace(
            table,
            head=tuple(replace(column, name=names.get(column.name, column.name)) for column in table.head),
            rows=tuple(tuple(map(text, row, table.head)) for row in table.rows),
        )
        for table in tables
    ]


def _second_best(table: Table) -> set[int]:
    """The ids of the cells with the second best value: of their column, or of their row where tasks go down."""
    lines = table.rows if table.head[0].name == "task" else zip(*table.rows, strict=True)
    found = set()
    for line in lines:
        cells = [item for item in line if isinstance(item, Cell)]
        values = sorted({cell.compared for cell in cells if cell.compared is not None}, reverse=True)
        if len(values) > 1 and any(cell.best for cell in cells):
            found |= {id(cell) for cell in cells if cell.compared == values[1]}
    return found


def escape_latex(text: str) -> str:
    """``text`` so that LaTeX prints it letter by letter."""
    return "".join(_LATEX.get(letter, letter) for letter in escaped(text).replace("\n", " "))


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"$\sim$", "^": r"\textasciicircum{}", "±": r"$\pm$", "<": r"$<$", ">": r"$>$", "−": "$-$",
}  # fmt: skip


def _number(cell: Cell) -> str:
    return f"{cell.value:.1f}"


def _beside(cell: Cell) -> str:
    """What follows the number: its interval, and ~ where it is not significantly different from the best."""
    return "".join(f" {part}" for part in (cell.interval, "~" if cell.tied else "") if part)


def _plain(item: Item) -> str:
    return _number(item) + _beside(item) if isinstance(item, Cell) else escaped(str(item)).replace("\n", " ")


def _fragments(text: str) -> Iterator[str]:
    """The pieces that a head is broken into where its column is narrow: ``focus_``, ``attribute``, ``recall@1``."""
    yield from re.findall(r"[^_+ ]+[_+]*|[_+]+", text)


def _widths(table: Table) -> list[int]:
    """Letters that each column needs at least."""
    widths = []
    for i, column in enumerate(table.head):
        head = max((len(piece) for piece in _fragments(str(column))), default=0)
        body = max((len(_plain(row[i])) for row in table.rows), default=0)
        widths.append(max(head, body if column.number else min(body, LONGEST_NAME)))
    return widths


def _total(widths: Sequence[int]) -> int:
    """Letters of a whole line: the columns, three letters between two of them, one at each end."""
    return sum(widths) + 3 * (len(widths) - 1) + 2


def _broken(text: str, width: int) -> str:
    """``text`` in lines of at most ``width`` letters where its fragments allow it."""
    lines = [""]
    for piece in _fragments(text):
        space = " " if lines[-1] and not lines[-1].endswith(("_", "+")) else ""
        if lines[-1] and len(lines[-1]) + len(space) + len(piece) > width:
            lines.append(piece)
        else:
            lines[-1] += space + piece
    return "\n".join(lines)


def _rich(table: Table) -> RichTable:
    shown = RichTable(
        title=Text(escaped(table.title), style="bold"), title_justify="left",
        box=box.SIMPLE_HEAD, pad_edge=False,
    )  # fmt: skip
    for column, width in zip(table.head, _widths(table), strict=True):
        head = Text(_broken(escaped(str(column)), width))
        shown.add_column(
            head, justify="right" if column.number else "left", vertical="bottom", overflow="fold", min_width=width
        )
    for row in table.rows:
        dim = isinstance(row[0], str) and row[0].startswith("reported:")
        shown.add_row(*(_rich_item(item) for item in row), style="dim" if dim else None)
    return shown


def _rich_item(item: Item) -> Text:
    if isinstance(item, Cell):
        return Text.assemble((_number(item), "bold" if item.best else ""), (_beside(item), "dim"))
    return Text(_plain(item))


def _markdown(item: Item) -> str:
    if isinstance(item, Cell):
        return (f"**{_number(item)}**" if item.best else _number(item)) + _beside(item)
    return _markdown_text(str(item))


def _markdown_text(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "|<*`" else letter for letter in escaped(text)).replace("\n", " ")


def _latex(item: Item, is_second: bool) -> str:
    if not isinstance(item, Cell):
        return escape_latex(str(item))
    number = rf"\textbf{{{_number(item)}}}" if item.best else _number(item)
    number = rf"\underline{{{number}}}" if is_second and not item.best else number
    beside = escape_latex(_beside(item)).strip()
    return rf"{number} {{\scriptsize {beside}}}" if beside else number
