"""`condsim.Index`: search your own pictures by condition, with every method and every backbone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from condsim.datasets.image_files import folder_of
from condsim.harness.backbone import Backbone
from condsim.harness.configs import make, make_once, plain
from condsim.harness.engine.engine import Engine
from condsim.harness.errors import CondsimError, did_you_mean, first_lines, nearest_id
from condsim.harness.files.feature_files import warn_of_zero
from condsim.harness.files.gallery_parts import is_parts, read_parts
from condsim.harness.files.json_files import read_text
from condsim.harness.method import Method
from condsim.harness.names import clean_label
from condsim.harness.run.isolation import isolated
from condsim.harness.run.record import typed
from condsim.harness.search.matches import Matches
from condsim.harness.search.pictures import (
    Pictures,
    Stamps,
    changed,
    encode_one,
    encode_readable,
    pictures_below,
    row_of,
    sorted_by_key,
)
from condsim.harness.search.searcher import Query, Searcher
from condsim.harness.settings.composition import Job, jobs
from condsim.harness.targets import require_kind
from condsim.harness.task import Condition, ImageTable, TrainSplit
from condsim.harness.terminal.console import warn

Picture = str | Path | ImageTable
"""A file, a name within the folder, or a table with one row, such as a crop."""
Conditions = str | Sequence[str] | None


class Index:
    """The pictures of a folder and its subfolders, or of a table, ready to be searched.

    >>> index = condsim.Index("photos/", backbone="ViT-B-32/openai")  # doctest: +SKIP
    >>> index.search("cup.png", "color", method="clay", k=20)  # doctest: +SKIP

    Features come from the feature store: a picture is encoded once, and again only if its file changes.

    Args:
        pictures: a folder, or a table such as ``task.images`` of a benchmark; or a gallery in parts
            (``condsim.write_parts``) of features of the same backbone, which stay in their files.
        backbone: a name (`condsim ls backbones`) or an object (``condsim.Backbone``).
        train: for methods that look things up in a training split (nnn, local_steering): a folder with its pictures,
            or the ``train`` of a benchmark.
        phrases: of that split: texts, or a file with one text per line.
        benchmark: the name of one whose defaults methods get, such as the section of the lexicon (shapes).
        config_dir: a folder of your own choices, laid out like ``conf/``.
        engine: whose workers search a gallery in parts (docs/scale.md); None: this process.
        settings: of a backbone that is chosen by name: ``device="cpu"``.

    Raises CondsimError where the folder holds no picture that can be read, or the backbone cannot be loaded.
    """

    def __init__(
        self,
        pictures: str | Path | ImageTable,
        backbone: str | Backbone = "ViT-B-32/openai",
        *,
        train: str | Path | TrainSplit | None = None,
        phrases: str | Path | Sequence[str] = (),
        benchmark: str | None = None,
        config_dir: str | Path | None = None,
        engine: Engine | None = None,
        **settings: Any,
    ) -> None:
        self._engine = engine
        self._table = sorted_by_key(pictures) if isinstance(pictures, ImageTable) else None
        if isinstance(pictures, ImageTable):
            self.root = pictures.root
        else:
            self.root = folder_of(pictures, "folder", "the folder with your pictures")
        self._train = _train_split(train, phrases)
        self._config_dir = config_dir
        self._benchmark = benchmark
        self._methods: dict[str, tuple[str, Method]] = {}
        if isinstance(backbone, str):
            job = self._choose(
                f"backbone={backbone}", **{f"backbone.{name}": value for name, value in settings.items()}
            )
            self.backbone: Backbone = make_once(plain(job.config.backbone), "backbone")
        else:
            if settings:
                raise CondsimError(f"{next(iter(settings))}: a backbone that is an object already has its settings")
            require_kind(backbone, type(backbone).__qualname__, "backbone")
            self.backbone = backbone
        self._searcher = self._load()

    def __len__(self) -> int:
        return len(self._searcher.pictures.table)

    def __repr__(self) -> str:
        return f"Index({str(self.root)!r}, backbone={self.backbone.name!r}): {len(self):,} pictures"

    @property
    def pictures(self) -> Pictures:
        """The pictures that are searched, with their features, and those that cannot be read."""
        return self._searcher.pictures

    def refresh(self) -> None:
        """Read the folder again, and encode the pictures that are new or changed.

        A search does so itself where a file was added, removed or renamed. Only a file that was overwritten in place
        needs this call.
        """
        before = self._searcher
        after = self._load()
        same = before.pictures.table.names == after.pictures.table.names and not before.written
        if not (same and before.pictures.features.equal(after.pictures.features)):
            self._searcher = after

    def search(
        self,
        query: Picture | Sequence[Picture | tuple[Picture | None, Conditions]] | None = None,
        condition: Conditions = None,
        *,
        method: str | Method | None = None,
        k: int = 20,
        why: bool = False,
        values: Mapping[str, Sequence[str]] | None = None,
        **settings: Any,
    ) -> Matches:
        """The ``k`` pictures that are most similar to the query under the condition, without the query itself.

        Args:
            query: a picture, in the folder or elsewhere; None: the condition's text alone. A list is several queries:
                of pictures, or of pairs (picture or None, condition).
            condition: a text ("color", "but at night"), or several at once.
            method: a name (`condsim ls methods`) or an object (``condsim.Method``). None: image_plus_text for a picture
                with a condition, image_only for a picture, text_only for a text.
            why: explain each result, where the method can.
            values: condition -> its values, for methods that need them (CLAY) and conditions that the lexicon lacks.
            settings: of a method that is chosen by name: ``rank=5``.

        Raises CondsimError for a picture that cannot be read and for unknown names, and NotApplicable where the method
        does not apply.
        """
        if k < 1:
            raise CondsimError(f"k must be 1 or more, not {k}")
        if self._searcher.written or changed(self._stamps):
            self.refresh()
        pairs = self._pairs(query, condition)
        queries = [self._query(picture, conditions) for picture, conditions in pairs]
        conditions = [text for query in queries for text in query.condition]
        if values and len(unknown := unused(values, conditions)) == len(values):  # others may be for other searches
            raise CondsimError(
                f"values of {unknown[0]!r}: no query has this condition. {did_you_mean(unknown[0], conditions)}"
            )
        name, chosen = self._method(method or _usual(queries), settings, values)
        return self._searcher.search(chosen, queries, k, why=why, name=name)

    def _load(self) -> Searcher:
        table = self._table
        self._stamps: Stamps = {}
        if table is None and is_parts(self.root):
            parts = read_parts(self.root)
            if parts.width != self.backbone.width:
                raise CondsimError(
                    f"{self.root} has features of width {parts.width}, but {self.backbone.name} of "
                    f"{self.backbone.width}: choose the backbone that made them"
                )
            if parts.zero:
                warn_of_zero(self.root, [parts.names[row] for row in parts.zero], len(parts))
            pictures = Pictures(ImageTable(self.root, parts.names), torch.zeros(0, parts.width), {}, parts)
            return Searcher(self.backbone, pictures, self._train, self._engine)
        if table is None:
            names, self._stamps = pictures_below(self.root)
            table = ImageTable(self.root, names)
        pictures = encode_readable(table, self.backbone)
        if pictures.unreadable:
            left_out = f"{len(pictures.unreadable):,} of {len(table):,} pictures cannot be read and are left out:"
            listed = first_lines(f"{name}: {fault}" for name, fault in pictures.unreadable.items())
            warn("\n".join([left_out, *listed]))
        return Searcher(self.backbone, pictures, self._train)

    @staticmethod
    def _pairs(query: Any, condition: Conditions) -> list[tuple[Picture | None, Conditions]]:
        if isinstance(query, list):
            if not query:
                raise CondsimError("the list of queries is empty")
            pairs = [entry if isinstance(entry, tuple) else (entry, condition) for entry in query]
            for i, pair in enumerate(pairs):
                if len(pair) != 2 or (isinstance(query[i], tuple) and condition is not None):
                    raise CondsimError(
                        f"query {i}: expected a picture, or a pair (picture, condition) and no other condition; "
                        f"found {query[i]!r}"
                    )
            return pairs
        return [(query, condition)]

    def _query(self, picture: Picture | None, conditions: Conditions) -> Query:
        texts = [conditions] if isinstance(conditions, str) else list(conditions or ())
        condition: Condition = tuple(dict.fromkeys(clean_label(text) for text in texts))
        if "" in condition:
            raise CondsimError("a condition is an empty text")
        if picture is None:
            if not condition:
                raise CondsimError("a query needs a picture, a condition, or both")
            return Query(condition=condition)
        picture = self._found(picture)
        row = self.pictures.row_of(picture.keys[0]) if picture.root == self.root else -1
        return Query(picture, row, encode_one(picture, self.backbone) if row < 0 else None, condition)

    def _found(self, picture: Picture) -> ImageTable:
        """The query picture as a table with one row. Raises CondsimError if there is no such picture."""
        if isinstance(picture, ImageTable):
            return picture
        table = self.pictures.table
        named = self._table is not None or self.pictures.parts is not None  # not by files in the folder
        if named and (row := self.pictures.row_of(str(picture))) >= 0:
            return table.take(np.array([row]))
        path = self._path(picture)
        if self.pictures.parts is not None:
            return ImageTable(path.parent, (path.name,))
        for of in (os.path.abspath, os.path.realpath):
            name = os.path.relpath(of(path), of(self.root)).replace(os.sep, "/")
            if row_of(table, name) >= 0:
                return ImageTable(self.root, (name,))
        return ImageTable(path.parent, (path.name,))

    def _path(self, picture: str | Path) -> Path:
        """The query picture: a path, or a name within the folder. Raises CondsimError if there is no such file."""
        path = Path(picture).expanduser()
        for place in (path, self.root / path):
            if place.is_file():
                return place
        if path.is_dir():
            raise CondsimError(f"the query picture {picture} is a folder: name one picture")
        raise CondsimError(
            f"the query picture {picture}: there is no such file, neither here nor in {self.root}. "
            f"{nearest_id(str(picture), self.pictures.table.keys)} For a text without a picture, give the text as the "
            "condition"
        )

    def _method(
        self, method: str | Method, settings: Mapping[str, Any], values: Mapping[str, Sequence[str]] | None
    ) -> tuple[str, Method]:
        """The method's name and the method; the same object for the same settings."""
        if not isinstance(method, str):
            require_kind(method, type(method).__qualname__, "method")
            if settings or values:
                given = next(iter(settings), "values")
                raise CondsimError(f"{given}: a method that is an object already has its settings")
            return type(method).__name__, method
        key = repr((method, sorted(settings.items()), values))
        if key not in self._methods:
            job = self._choose(f"method={method}", **{f"method.{name}": value for name, value in settings.items()})
            config = plain(job.config.method)
            if not _give_values(config, values or {}) and values:
                raise CondsimError(f"values: the method {method} reads no values of conditions")
            with isolated():
                self._methods[key] = job.method_name, make(config, "method")
        return self._methods[key]

    def _choose(self, choice: str, **settings: Any) -> Job:
        """The config with this choice. Raises CondsimError with the nearest valid names."""
        folders = ["--config-dir", str(self._config_dir)] if self._config_dir is not None else []
        defaults = [] if self._benchmark is None else [f"+benchmark={self._benchmark}"]
        (job,) = jobs(
            "search", [*folders, *defaults, choice, *(f"{name}={typed(value)}" for name, value in settings.items())]
        )
        return job


def _train_split(train: str | Path | TrainSplit | None, phrases: str | Path | Sequence[str]) -> TrainSplit | None:
    if isinstance(phrases, (str, Path)):
        texts = read_text(Path(phrases).expanduser(), "one phrase per line").splitlines()
        phrases = [text for text in map(str.strip, texts) if text]
    if train is None:
        if phrases:
            raise CondsimError("phrases belong to a training split: name the folder with its pictures too (train)")
        return None
    if isinstance(train, TrainSplit):
        return replace(train, phrases=tuple(phrases)) if phrases else train
    root = folder_of(train, "train", "a folder with pictures, for methods that look things up in a training split")
    return TrainSplit(ImageTable(root, pictures_below(root)[0]), tuple(phrases))


def unused(values: Iterable[str], conditions: Iterable[str]) -> list[str]:
    """The names among ``values`` that are none of ``conditions``."""
    known = {clean_label(text).casefold() for text in conditions}
    return [name for name in values if clean_label(name).casefold() not in known]


def _usual(queries: Sequence[Query]) -> str:
    with_picture = {query.picture is not None for query in queries}
    with_condition = {bool(query.condition) for query in queries}
    if with_picture == {True}:
        return "image_plus_text" if with_condition == {True} else "image_only"
    return "text_only"


def _give_values(config: dict[str, Any], values: Mapping[str, Sequence[str]]) -> bool:
    """Put ``values`` before every source of values in a method's config. Whether it has one."""
    found = False
    for name, part in config.items():
        if isinstance(part, dict):
            if name == "phrases":
                config[name] = {
                    "_target_": "condsim.methods.phrases.given.GivenValues",
                    "values": {condition: list(listed) for condition, listed in values.items()},
                    "otherwise": part,
                }
                found = True
            else:
                found |= _give_values(part, values)
    return found
