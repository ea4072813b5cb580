"""Strict reading of CSV, TSV, JSON lines and parquet tables. Each fault is one message naming the file and the row."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TextIO

import numpy as np
import pandas as pd

from condsim.harness.errors import CondsimError, counted, did_you_mean, first_line, reading
from condsim.harness.files.json_files import parse_json
from condsim.harness.names import clean_label

PARQUET = (".parquet", ".pq")
TAB_SEPARATED = (".tsv", ".tab")
JSON_LINES = (".jsonl", ".ndjson")


def read_frame(path: Path, what: str, columns: Sequence[str] = ()) -> pd.DataFrame:
    """A CSV, TSV (every cell as text, an empty cell stays empty text), JSON lines or parquet table with ``columns``.

    Column names are in the spelling of ``clean_label``. Raises CondsimError naming the file, the row and ``what`` was
    expected.
    """
    if path.suffix.lower() in PARQUET and path.is_file():
        try:
            frame = pd.read_parquet(path)
        except Exception as error:  # pyarrow raises a dozen unrelated types; whatever it was, this file cannot be read
            raise unreadable_parquet(path, what, error) from None
        frame.columns = frame.columns.map(lambda column: clean_label(str(column)))
    elif path.suffix.lower() in JSON_LINES:
        frame = pd.DataFrame([row for _, row in read_json_lines(path, what)])
    else:
        rows = read_rows(path, what)
        header = next(rows)
        frame = pd.DataFrame(list(rows), columns=header, dtype=object)
    require_columns(frame.columns, columns, str(path))
    if frame.empty:
        raise CondsimError(f"{path}: the table has no rows (expected {what})")
    return frame


def read_json_lines(path: Path, what: str, constants: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """The line number, from 1, and the object of each line that is not blank, one line at a time.

    ``constants``: NaN is a value. Raises CondsimError naming the line.
    """
    with reading(path, what):
        file = path.open("rb")
    with file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue

            def refuse(message: str, number: int = number) -> NoReturn:
                raise CondsimError(f"{path}, line {number}: {message} (expected {what})")

            try:
                text = line.decode("utf-8-sig")
            except UnicodeDecodeError:
                refuse("it is not UTF-8 text")
            row = parse_json(text, refuse, constants)
            if not isinstance(row, dict):
                refuse("expected a JSON object")
            yield number, row


def unreadable_parquet(path: Path, what: str, error: Exception) -> CondsimError:
    return CondsimError(f"{path} is no readable parquet table: {first_line(error)} (expected {what})")


def read_rows(path: Path, what: str) -> Iterator[list[str]]:
    """The rows of a CSV or TSV file one at a time, the header (in the spelling of ``clean_label``) first.

    In a TSV file a quote is a letter like any other and ends no row. Row 1 is the first one below the header; lines
    without any text are no rows. Raises CondsimError for a row with more or fewer cells than the header, for bytes that
    are not UTF-8, and for a quote that does not end.
    """
    tabs = path.suffix.lower() in TAB_SEPARATED
    with _opened(path, what) as file:
        reader = csv.reader(
            _lines(file, path, what),
            delimiter="\t" if tabs else ",",
            quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
            strict=True,
        )
        header: list[str] | None = None
        number, line = 1, 1
        while True:
            try:
                with _fields_of_any_length():
                    row = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                raise CondsimError(
                    f"{path}: malformed CSV in row {number}, which begins at line {line}: {error} (expected {what})"
                ) from None
            begin, line = line, reader.line_num + 1
            if not row:
                continue
            if not (text := "".join(row)).isascii() and re.search("[\ud800-\udfff]", text):
                place = "the header" if header is None else f"row {number} (line {begin})"
                raise CondsimError(f"{path}: {place} is not UTF-8 text (expected {what})")
            if header is None:
                header = [clean_label(cell) for cell in row]
                yield header
                continue
            if len(row) != len(header):
                cells = counted(len(row), "cell")
                raise CondsimError(f"{path}: row {number} (line {begin}) has {cells}, but the header has {len(header)}")
            yield row
            number += 1
    if header is None:
        raise CondsimError(f"{path} is empty (expected {what})")


@contextmanager
def _opened(path: Path, what: str) -> Iterator[TextIO]:
    with reading(path, what):
        file = path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    with file:
        yield file


def _lines(file: TextIO, path: Path, what: str) -> Iterator[str]:
    with reading(path, what):
        yield from file


@contextmanager
def _fields_of_any_length() -> Iterator[None]:
    """The csv module's limit of 131,072 letters per field, a setting of the process, lifted for a moment."""
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def require_columns(names: Iterable[str], columns: Iterable[str], where: str) -> None:
    """Raises CondsimError unless each of ``columns`` is among ``names`` exactly once."""
    names = list(names)
    for column in columns:
        count = names.count(column)
        if count == 0:
            raise CondsimError(f"{where}: there is no column {column!r}. {did_you_mean(column, names)}")
        if count > 1:
            raise CondsimError(f"{where}: duplicate column {column!r} ({count} times)")


def is_missing(cell: object) -> bool:
    """None, NaN, NaT, pandas' NA, and text without a letter in it."""
    if isinstance(cell, str):
        return not clean_label(cell)
    return cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, (float, np.floating)) and cell != cell)


def cell_text(cell: object, where: str) -> str:
    """A cell in the spelling of ``clean_label``; empty where it is missing. A whole number is written without a point.

    Raises CondsimError for what is neither text nor number.
    """
    if is_missing(cell):
        return ""
    if isinstance(cell, (float, np.floating)) and float(cell).is_integer():
        return str(int(cell))
    if isinstance(cell, (str, int, float, bool, np.generic)):
        return clean_label(str(cell))
    raise CondsimError(f"{where}: expected text or a number, found {ascii(cell)[:80]}")


def label(cell: object, where: str) -> str:
    """A cell as a label: as ``cell_text``, and "3.0" written as text is "3". Raises CondsimError for a missing one."""
    text = cell_text(cell, where)
    if not text:
        raise CondsimError(f"{where}: there is no label (expected one for every image)")
    return str(int(text.split(".")[0])) if re.fullmatch(r"[+-]?(0|[1-9][0-9]*)\.0+", text, re.ASCII) else text
