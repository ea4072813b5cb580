"""`condsim queries`: write what an encoder of the user's has to encode, with the names that its feature files need."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from condsim.harness.configs import make, make_once
from condsim.harness.errors import CondsimError, NotApplicable, counted
from condsim.harness.files.paths import safe_name
from condsim.harness.files.tables import JSON_LINES, PARQUET, read_frame
from condsim.harness.files.writing import atomic
from condsim.harness.images import picture_of
from condsim.harness.outside import pair_name
from condsim.harness.settings.benchmark import chosen_benchmark
from condsim.harness.settings.composition import for_each_job
from condsim.harness.task import Benchmark, ImageTable, Task, condition_text
from condsim.harness.terminal.console import console, warn
from condsim.harness.terminal.progress import track
from condsim.harness.variants.fewer_queries import query_ids

if TYPE_CHECKING:  # it imports torch, which only a command with a method needs
    from condsim.harness.run.inputs import Inputs

Table = list[dict[str, Any]]
COLUMNS = {
    "queries": {"query", "task", "id", "text", "texts", "image", "box", "path"},
    "images": {"image", "path", "box"},
    "pairs": {"name", "text", "image", "path", "box"},
    "texts": {"text", "tasks"},
}
"""Table -> its columns."""
_ONE = {"queries": "query", "images": "image", "pairs": "pair", "texts": "text"}
FORMS = (".csv", *JSON_LINES, *PARQUET)


def main(argv: Sequence[str]) -> int:
    return for_each_job("queries", argv, run)


def run(settings: Mapping[str, Any]) -> int:
    """Write the tables. Raises CondsimError for a file of another form, for one that holds something else than such a
    table, for two pictures with one name, and for a method that applies to none of the tasks."""
    with_method = settings.get("method") is not None
    names = ["queries", "images", "pairs", *(["texts"] if with_method else [])]
    outputs = {what: Path(settings[what]) for what in names if settings[what] is not None}
    for what, path in outputs.items():
        if path.suffix.lower() not in FORMS:
            raise CondsimError(f"{what}={path}: a table is written as {', '.join(FORMS)}")
        _require_own(what, path)
    benchmark = chosen_benchmark(settings)
    tasks = benchmark.tasks
    tables = [(task.name, task.images) for task in tasks]
    inputs = read_by_method(benchmark, settings) if with_method else {}
    tables += [(name, table) for name, read in inputs.items() for table in read.tables]
    crops = None if settings["crops"] is None else Path(settings["crops"])
    images = image_rows(tables)
    if crops is not None:
        _write_crops(tables, images, crops)
    paths = {row["image"]: row["path"] for row in images}
    written = {
        "queries": [row | {"path": paths.get(row["image"], "")} for task in tasks for row in query_rows(task)],
        "images": images,
    }
    if "pairs" in outputs:
        written["pairs"] = [row | {"path": paths[row["image"]]} for row in pair_rows(tasks)]
    if "texts" in outputs:
        written["texts"] = text_rows(inputs)
    for what, rows in written.items():
        _write(outputs[what], rows)
        console.print(f"{outputs[what]} written: {counted(len(rows), _ONE[what], what)}")
    if crops is None and (cropped := sum(bool(row["box"]) for row in images)):
        warn(
            f"{cropped:,} of {counted(len(images), 'image')} are crops, and their path leads to the whole picture: add "
            "crops=FOLDER to write them as files, or cut out box yourself"
        )
    if not all(read.complete for read in inputs.values()):
        warn(
            "the method chooses more texts or images by the features of these: encode them, then run this command "
            "again with backbone=precomputed backbone.images=FILE backbone.texts=FILE, until this message is gone"
        )
    return 0


def read_by_method(benchmark: Benchmark, settings: Mapping[str, Any]) -> dict[str, Inputs]:
    """Task -> what the method of ``settings`` reads on it, for the tasks to which it applies."""
    from condsim.harness.run.inputs import inputs_of

    method = make(settings["method"], "method")
    backbone = make_once(settings["backbone"], "backbone") if settings.get("backbone") else None
    inputs, refusals = {}, []
    for task in benchmark.tasks:
        try:
            inputs[task.name] = inputs_of(benchmark, task, method, backbone, settings["width"])
        except NotApplicable as reason:
            refusals.append(f"{task.full_name}: {reason}")
    if not inputs:
        raise CondsimError("the method applies to none of the tasks:\n" + "\n".join(refusals))
    warn(*(f"not in the tables: {refusal}" for refusal in refusals))
    return inputs


def text_rows(inputs: Mapping[str, Inputs]) -> Table:
    """One row per text, with the tasks that need it."""
    tasks: dict[str, list[str]] = {}
    for name, read in inputs.items():
        for text in read.texts:
            tasks.setdefault(text, []).append(name)
    return [{"text": text, "tasks": names} for text, names in tasks.items()]


def _require_own(what: str, path: Path) -> None:
    """Raises CondsimError where writing ``path`` would replace a file that this command has not written."""
    if not path.exists():
        return
    try:
        columns = set(read_frame(path, f"a table of {what}"))
    except CondsimError:
        columns = set()
    if columns != COLUMNS[what]:
        raise CondsimError(
            f"{what}={path}: the file exists and was not written by `condsim queries`, so it is not replaced. Choose "
            f"another name, as in {what}=encode_{path.name}"
        )


def query_rows(task: Task) -> Table:
    """One row per query; ``image`` and ``box`` are empty without a reference, ``text`` without a condition."""
    rows = []
    for number, (name, ident) in enumerate(zip(task.query_names, query_ids(task), strict=True)):
        reference, code = int(task.reference[number]), int(task.condition[number])
        text = "" if code < 0 else condition_text(task.conditions[code])
        texts = [] if code < 0 else [text] if task.texts is None else list(task.texts[code])
        row = {"query": name, "task": task.name, "id": ident, "text": text, "texts": texts}
        rows.append(row | (_image_row(task.images, reference) if reference >= 0 else {"image": "", "box": []}))
    return rows


def image_rows(tables: Iterable[tuple[str, ImageTable]]) -> Table:
    """One row per image of (task, table). Raises CondsimError for two pictures with one name."""
    rows: dict[str, dict[str, Any]] = {}
    first: dict[str, str] = {}
    for task, table in tables:
        for number, key in enumerate(table.keys):
            row = _image_row(table, number)
            if rows.setdefault(key, row)["path"] != row["path"]:
                raise CondsimError(
                    f"the tasks {first[key]} and {task} have different pictures of the name {key!r}, in "
                    f"{rows[key]['path']} and {row['path']}: write their tables one by one, as in tasks=[{task}]"
                )
            first.setdefault(key, task)
    return list(rows.values())


def pair_rows(tasks: Iterable[Task]) -> Table:
    """One row per condition and image that a query of it compares: its reference and its candidates."""
    rows: dict[str, dict[str, Any]] = {}
    for task in tasks:
        for code, condition in enumerate(task.conditions):
            text, queries = condition_text(condition), np.flatnonzero(task.condition == code)
            needed = task.gallery_rows if task.candidates is None else task.candidates.take(queries).values
            references = task.reference[queries]
            for number in dict.fromkeys([*references[references >= 0].tolist(), *needed.tolist()]):
                row = _image_row(task.images, number)
                name = pair_name(text, row["image"])
                rows.setdefault(name, {"name": name, "text": text, **row})
    return list(rows.values())


def _image_row(table: ImageTable, number: int) -> dict[str, Any]:
    box = table.box(number)
    return {
        "image": table.keys[number],
        "path": str(table.path(number)),
        "box": [] if box is None else box.tolist(),
    }


def _write_crops(tables: Iterable[tuple[str, ImageTable]], images: Table, folder: Path) -> None:
    """Write every cropped image as its benchmark crops it; its row then has the path of the crop."""
    by_key = {row["image"]: row for row in images if row["box"]}
    with track(len(by_key), "writing crops") as advance:
        for _, table in tables:
            for number, key in enumerate(table.keys):
                if (row := by_key.pop(key, None)) is None:
                    continue
                path = folder / f"{safe_name(key)}.png"
                with atomic(path) as scratch:
                    picture_of(table, number).convert("RGB").save(scratch)
                row["path"] = str(path)
                advance(1)


def _write(path: Path, rows: Table) -> None:
    suffix = path.suffix.lower()
    with atomic(path) as scratch:
        if suffix in PARQUET:
            pd.DataFrame(rows).to_parquet(scratch, index=False)
        elif suffix in JSON_LINES:
            lines = (json.dumps(row, ensure_ascii=False) for row in rows)
            scratch.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        else:
            cells = [{column: _cell(value) for column, value in row.items()} for row in rows]
            pd.DataFrame(cells).to_csv(scratch, index=False, encoding="utf-8")


def _cell(value: object) -> object:
    """A list as JSON, an empty one as an empty cell."""
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False) if value else ""
    return value
