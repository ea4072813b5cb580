"""`condsim encode`: encode the images and conditions of benchmarks into the feature cache, and run nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from condsim.harness.commands.on_engine import run_on_engine
from condsim.harness.configs import make_once
from condsim.harness.engine.engine import Engine
from condsim.harness.errors import UnusableRowsError
from condsim.harness.settings.benchmark import chosen_benchmark
from condsim.harness.terminal.console import console, print_note, warn


def main(argv: Sequence[str]) -> int:
    return run_on_engine("encode", argv, encode)


def encode(settings: Mapping[str, Any], engine: Engine) -> int:
    """Encode one benchmark by the settings of conf/encode.yaml, and print how many features are new.

    Raises UnusableRowsError for images that cannot be encoded, after all others are stored; with
    ``benchmark.on_error=skip`` they are one warning.
    """
    from condsim.harness.condition_features import condition_features
    from condsim.harness.features.segments import StoresImages, encode_in_segments

    benchmark = chosen_benchmark(settings)
    for note in benchmark.notes:
        print_note(note)
    make = partial(make_once, settings["backbone"], "backbone")
    backbone = make()
    images = new = 0
    errors: list[UnusableRowsError] = []
    tables = [task.images for task in benchmark.tasks]
    if settings["tasks"] is None and benchmark.train is not None:
        tables.append(benchmark.train.images)
    for table in {id(table): table for table in tables}.values():
        images += len(table)
        try:
            if isinstance(backbone, StoresImages):
                new += encode_in_segments(engine, make, backbone, table, settings["segment"])
            else:
                backbone.encode_images(table)
        except UnusableRowsError as error:
            errors.append(error)
    for task in benchmark.tasks:
        condition_features(task, backbone.encode_texts)
    for unusable in errors:
        if benchmark.on_error != "skip" or not unusable.skippable:
            raise unusable
        warn(str(unusable))
    stored = f"{new:,} of them encoded now" if isinstance(backbone, StoresImages) else "this backbone keeps no features"
    console.print(f"{benchmark.name}, {backbone.name}: {images:,} images, {stored}")
    return 0
