"""What becomes of a run whose images cannot all be used: one message, or with `on_error=skip` a run without them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from condsim.harness.backbone import Backbone
from condsim.harness.errors import CondsimError, UnusableRowsError
from condsim.harness.task import Benchmark, ImageTable, Task
from condsim.harness.without_images import without_images


def without_unusable_images(
    benchmark: Benchmark, task: Task, backbone: Backbone, error: UnusableRowsError
) -> tuple[Benchmark, Task]:
    """Both, whose run ended in ``error``, without the images that cannot be encoded; the others are in the store.

    The benchmark loses images of its training split, where the task's own are all well. Raises ``error``, with what to
    do about it, where the user did not ask for this or where it would not help.
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
    """Row -> what is wrong with it. Missing files are found first, those that do not decode once none is missing."""
    try:
        backbone.encode_images(table)
    except UnusableRowsError as error:
        if not error.skippable:
            raise
        return error.faults
    return {}


def advised(benchmark: Benchmark, error: UnusableRowsError) -> CondsimError:
    """``error`` with what its reader can do about it."""
    if benchmark.on_error != "raise" or not error.skippable:
        return error
    return CondsimError(
        f"{error}\n`condsim check benchmark={benchmark.name}` looks at every image; with benchmark.on_error=skip a run "
        "goes on without these images and the queries that need them, and its record says which"
    )
