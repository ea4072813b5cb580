"""Handle unusable images in a run: one error for all of them, or with `on_error=skip` a run without them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from condsim.harness.backbone import Backbone
from condsim.harness.errors import CondsimError, UnusableRowsError
from condsim.harness.task import Benchmark, ImageTable, Task
from condsim.harness.variants.without_images import without_images


def without_unusable_images(
    benchmark: Benchmark, task: Task, backbone: Backbone, error: UnusableRowsError
) -> tuple[Benchmark, Task]:
    """``benchmark`` and ``task``, whose run ended with ``error``, without the images that cannot be encoded.

    If all images of the task are usable, it removes images of the benchmark's training split. The features of the
    other images are in the store. Raises ``error``, with advice, unless on_error is "skip" and skipping helps.
    """
    if benchmark.on_error != "skip" or not error.skippable:
        raise advised(benchmark, error) from None
    smaller = task
    while faults := _faults(smaller.images, backbone):
        smaller = without_images(smaller, faults)
    if smaller is not task:
        return benchmark, smaller
    if benchmark.train is None:
        raise error
    table, messages = benchmark.train.images, list(task.skipped)
    while faults := _faults(table, backbone):
        messages += [f"training split: {table.path(row)}: {fault}" for row, fault in faults.items()]
        table = table.take(np.setdiff1d(np.arange(len(table)), list(faults)))
    if table is benchmark.train.images:
        raise error
    return replace(benchmark, train=replace(benchmark.train, images=table)), replace(task, skipped=tuple(messages))


def _faults(table: ImageTable, backbone: Backbone) -> Mapping[int, str]:
    """Row -> error message. Images that do not decode are found only when no file is missing."""
    try:
        backbone.encode_images(table)
    except UnusableRowsError as error:
        if not error.skippable:
            raise
        return error.faults
    return {}


def advised(benchmark: Benchmark, error: UnusableRowsError) -> CondsimError:
    """``error`` with advice for the user."""
    if benchmark.on_error != "raise" or not error.skippable:
        return error
    return CondsimError(
        f"{error}\n`condsim check benchmark={benchmark.name}` checks every image; with benchmark.on_error=skip the run "
        "continues without these images and the queries that need them, and its record lists them"
    )
