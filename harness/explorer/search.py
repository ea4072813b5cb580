"""A search as the controls of `condsim explore` describe it, and the commands that repeat and measure it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml  # type: ignore[import-untyped]

from condsim.harness.configs import plain
from condsim.harness.errors import CondsimError
from condsim.harness.explorer.task import Questions
from condsim.harness.files.writing import atomic
from condsim.harness.index import Index
from condsim.harness.run.record import flat
from condsim.harness.search.matches import Matches
from condsim.harness.search.pictures import row_of
from condsim.harness.settings.composition import compose_config
from condsim.harness.task import ImageTable
from condsim.methods.phrases.entries import spelling
from condsim.methods.phrases.given import read_list, write_list
from condsim.methods.phrases.lexicon import Lexicon

Values = Mapping[str, Sequence[str]]
USUAL = ""
"""The choice of no method: ``Index.search`` chooses."""


@dataclass(frozen=True)
class Slider:
    """The setting of a method that matters most."""

    name: str
    low: float
    high: float
    step: float
    value: float


@dataclass(frozen=True)
class Target:
    """Where a search looks: what the command line chose."""

    index: Index
    source: tuple[str, ...]
    """A folder, or the settings of a benchmark, as on the command line."""
    backbone: str
    config_dir: str | None = None
    train: tuple[str, ...] = ()
    """The options --train and --phrases."""
    questions: Questions | None = None
    """Of the benchmark."""

    @property
    def options(self) -> list[str]:
        return [] if self.config_dir is None else ["--config-dir", self.config_dir]

    @property
    def images(self) -> ImageTable:
        """The pictures that a query may name: those that are searched, and the references of the benchmark."""
        return self.questions.images if self.questions else self.index.pictures.table

    def picture(self, name: str) -> str | ImageTable:
        """The query picture of this name: a crop of the benchmark's, or a path."""
        row = row_of(self.images, name)
        return name if self.questions is None or row < 0 else self.images.take(np.array([row]))

    @property
    def lexicon(self) -> Values:
        """Condition -> values, as methods get them by default."""
        return Lexicon(self.settings_of("clay")["phrases.section"]).entries

    def settings_of(self, method: str) -> dict[str, Any]:
        """The method's settings with their default values, nested ones under dotted names."""
        defaults = [f"+benchmark={self.questions.choice}"] if self.questions else []
        return {} if method == USUAL else _settings_of(method, (*defaults, *self.options))

    def slider(self, method: str) -> Slider | None:
        """The slider of a method's rank (CLAY) or weight (sums); None where it has neither."""
        settings = self.settings_of(method)
        rank, weight = settings.get("rank"), settings.get("weight")
        if isinstance(rank, int):
            return Slider("rank", 1, min(128, self.index.backbone.width), 1, min(rank, self.index.backbone.width))
        if isinstance(weight, float) and 0 <= weight <= 1:
            return Slider("weight", 0, 1, 0.05, weight)
        return None

    def phrases_of(self, method: str) -> str | None:
        """Where a method's settings have its source of values: "phrases", "base.phrases"; None: it reads none."""
        for name in self.settings_of(method):
            parts = name.split(".")
            if "phrases" in parts:
                return ".".join(parts[: parts.index("phrases") + 1])
        return None

    def without_values(self, search: Search) -> str | None:
        """The first condition of which neither the lexicon nor the user has values."""
        if not self.phrases_of(search.method):
            return None
        known = {*map(spelling, search.values), *self.lexicon}
        return next((text for text in search.conditions if spelling(text) not in known), None)


@dataclass(frozen=True)
class Search:
    """A query and a method with its settings."""

    picture: str | None
    """A name within the folder, or the path of a picture from elsewhere."""
    conditions: tuple[str, ...]
    method: str = USUAL
    settings: Mapping[str, str] = field(default_factory=dict)
    values: Values = field(default_factory=dict)
    """Condition -> values, of conditions whose values the user has edited."""
    question: str = ""
    """The id of the benchmark's query that has this picture and these conditions."""

    @property
    def is_empty(self) -> bool:
        return self.picture is None and not self.conditions

    def run(self, target: Target, k: int) -> Matches:
        """The ``k`` best pictures with reasons. Raises what ``Index.search`` raises."""
        method = None if self.method == USUAL else self.method
        values = self.values if method and target.phrases_of(method) else None
        return target.index.search(
            self.picture and target.picture(self.picture), list(self.conditions) or None, method=method, k=k, why=True,
            values=values or None, **(self.settings if method else {}),
        )  # fmt: skip

    def command(self, target: Target, k: int) -> str:
        """The `condsim search` that prints the same results."""
        words = ["condsim", "search", *target.source]
        if self.picture is not None:
            words += ["--image", Path(self.picture).name if Path(self.picture).is_absolute() else self.picture]
        for condition in self.conditions:
            words += ["--condition", condition]
        if self.method != USUAL:
            words += ["--method", self.method]
        words += ["--backbone", target.backbone, "--top", str(k), *target.train, *target.options]
        if target.phrases_of(self.method):
            for condition, listed in self.values.items():
                words += ["--values", f"{condition}={write_list(listed)}"]
        return shlex.join([*words, *(f"method.{name}={value}" for name, value in self.settings.items())])

    def bench_command(self, target: Target, benchmark: Sequence[str], folder: Path) -> str:
        """The `condsim bench` that measures this method on a benchmark. Edited values are saved in ``folder``."""
        words = ["condsim", "bench", *benchmark, f"backbone={target.backbone}"]
        words += [] if self.method == USUAL else [f"method={self.method}"]
        phrases = target.phrases_of(self.method)
        if phrases and self.values:
            file = folder / "values.yaml"
            folder.mkdir(parents=True, exist_ok=True)
            with atomic(file) as scratch:
                text = yaml.safe_dump({name: list(listed) for name, listed in self.values.items()}, allow_unicode=True)
                scratch.write_text(text, encoding="utf-8")
            words.append(f"method.{phrases}.file={file}")
        words += [f"method.{name}={value}" for name, value in self.settings.items()]
        return shlex.join([*words, *target.options])


@cache
def _settings_of(method: str, options: tuple[str, ...]) -> dict[str, Any]:
    return flat(plain(compose_config("search", [*options, f"method={method}"]).method))


def read_settings(text: str) -> dict[str, str]:
    """``NAME=VALUE NAME=VALUE`` as the user types it. Raises CondsimError for what is no setting."""
    settings = {}
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise CondsimError(f"settings: {text!r}: {error}") from None
    for word in words:
        name, equals, value = word.removeprefix("method.").partition("=")
        if not equals or not name:
            raise CondsimError(f"settings: {word!r}: expected NAME=VALUE, such as subspace=single")
        settings[name] = value
    return settings


def read_values(text: str, usual: Values) -> dict[str, tuple[str, ...]]:
    """Lines of ``condition: value, value``: those that differ from ``usual``. Raises CondsimError naming a bad line."""
    values = {}
    for line in filter(str.strip, text.splitlines()):
        condition, colon, listed = line.partition(":")
        if not colon:
            raise CondsimError(f"values: {line!r}: expected a line such as mood: happy, sad, calm")
        values[condition.strip()] = read_list(listed)
    return {condition: listed for condition, listed in values.items() if tuple(usual.get(condition, ())) != listed}


def write_values(values: Values) -> str:
    """The text that :func:`read_values` reads."""
    return "\n".join(f"{condition}: {write_list(listed, ', ')}" for condition, listed in values.items())
