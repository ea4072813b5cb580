"""What users bring from outside: features and texts, and the names by which their rows belong to queries and images.

`condsim queries` lists these names: "<task>/<id>" for a query (``Task.query_names``), the picture's name for an image
(``ImageTable.keys``), "<condition>/<image>" for an image under a condition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from condsim.harness.errors import CondsimError, NotApplicable, counted, nearest_id
from condsim.harness.files.feature_files import Files, PublishedFeatures
from condsim.harness.files.paths import resolve
from condsim.harness.files.tables import cell_text, read_frame
from condsim.harness.method import Queries
from condsim.harness.names import clean_path, clean_text
from condsim.harness.task import Rows, Task

if TYPE_CHECKING:  # to read a table needs no torch
    from torch import Tensor

Key = Literal["query", "image"]
CLEAN: dict[Key, Callable[[str], str]] = {"query": clean_text, "image": clean_path}
"""The spelling in which the names are compared."""


def pair_name(condition: str, image: str) -> str:
    """The name of an image's features under a condition: "color/street.jpg"."""
    return f"{condition}/{image}"


def own_file(features: Files, names: Files | None, clean: Callable[[str], str], setting: str) -> PublishedFeatures:
    """The features that the setting ``setting`` names, with their ``names``.

    Raises CondsimError where only a file beside them holds the names: no setting would then name it, and a change of it
    would not make another run.
    """
    file = PublishedFeatures(features, names, clean, setting)
    if names is None and (beside := next((part.paths[1] for part in file.files if len(part.paths) > 1), None)):
        raise CondsimError(f"{file}: the names of its rows are in another file: set {setting}={beside}")
    return file


class TextTable:
    """Texts per query or per image, one row each; a query or image may have several."""

    def __init__(self, file: str | Path, key: Key) -> None:
        """``file``: CSV, TSV, parquet or JSON lines with the columns ``key`` and "text"; others are not read.

        Raises CondsimError naming the file and the row.
        """
        self.path, self.key = resolve(file), key
        frame = read_frame(self.path, f"a table with the columns {key} and text", (key, "text"))
        rows: dict[str, list[str]] = {}
        for number, (name, text) in enumerate(zip(frame[key], frame["text"], strict=True), 1):
            where = f"{self.path}, row {number}"
            name, text = CLEAN[key](str(cell_text(name, where))), cell_text(text, where)
            if not name or not text:
                raise CondsimError(f"{where}: the cell of the column {'text' if name else key} is empty")
            rows.setdefault(name, []).append(text)
        self.texts = {name: tuple(texts) for name, texts in rows.items()}

    def of(self, names: Sequence[str]) -> list[tuple[str, ...]]:
        """The texts of each of ``names``, in the order of the file. Raises CondsimError where one has none."""
        cleaned = [CLEAN[self.key](name) for name in names]
        missing = [name for name, clean in zip(names, cleaned, strict=True) if clean not in self.texts]
        if missing:
            raise CondsimError(
                f"{self.path}: no text for {len(missing):,} of {len(names):,} {_PLURAL[self.key]}, such as "
                f"{missing[0]!r}. {nearest_id(missing[0], self.texts)}"
            )
        return [self.texts[name] for name in cleaned]


_PLURAL: dict[Key, str] = {"query": "queries", "image": "images"}


def require_queries(task: Task, names: Iterable[str], where: str) -> None:
    """Check that ``names``, those of the rows of the file ``where``, are the task's queries.

    Raises NotApplicable for a file of other tasks. Raises CondsimError where the file lacks some of the task's queries,
    where it has rows for queries that a whole task does not have, and where two queries have one name.
    """
    wanted = [clean_text(name) for name in task.query_names]
    if len(set(wanted)) < len(wanted):
        twice = next(name for name in wanted if wanted.count(name) > 1)
        raise CondsimError(f"{task.full_name} has several queries with the id {twice!r}: no file can tell them apart")
    known = dict.fromkeys(map(clean_text, names))
    own = {name for name in known if name.startswith(f"{task.name}/")}
    missing = [name for name in wanted if name not in own]
    if len(missing) == len(wanted):
        example, images = next(iter(known), None), set(task.images.keys)
        of_images = any(name in images or name.partition("/")[2] in images for name in known)
        if example is not None and not of_images and all("/" in name for name in known):
            raise NotApplicable(
                f"{where} has no row for {task.full_name}: a row is named {example!r}, expected names such as "
                f"{wanted[0]!r}"
            )
        raise CondsimError(
            f"{where}: no row is named after a query of {task.full_name}: expected names such as {wanted[0]!r}, found "
            f"{'none' if example is None else repr(example)}. `condsim queries` lists the names"
        )
    if missing:
        raise CondsimError(
            f"{where}: no row for {len(missing):,} of {len(wanted):,} queries of {task.full_name}, such as "
            f"{missing[0]!r}. {nearest_id(missing[0], own)}"
        )
    if not task.variant and not task.skipped and (unknown := sorted(own - set(wanted))):
        raise CondsimError(
            f"{where}: {counted(len(unknown), 'row')} named after no query of {task.full_name}, such as "
            f"{unknown[0]!r}: the file was made for another version or split of it. {nearest_id(unknown[0], wanted)}"
        )


def own_rows(queries: Queries) -> Tensor:
    """``queries.row``. Raises NotApplicable for queries that the task does not have, such as those of a bank."""
    if queries.row is None:
        raise NotApplicable("a file has rows for the task's own queries only, and this method makes others")
    return queries.row


def reference_rows(queries: Queries) -> Rows:
    """``queries.reference_row`` [B]. Raises NotApplicable for references that are no image of the task."""
    rows: Rows = queries.reference_row.cpu().numpy()
    if (rows < 0).any():
        raise NotApplicable("each reference must be an image of the task, and this method makes queries of others")
    return rows
