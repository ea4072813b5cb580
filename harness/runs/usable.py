"""What becomes of a run whose images cannot all be used: one message, or with `on_error=skip` a run without them."""

from __future__ import annotations

from torch import Tensor

from condsim.harness.errors import CondsimError
from condsim.harness.features.backbone import Backbone
from condsim.harness.features.faults import BadRowsError
from condsim.harness.skipping import without_images
from condsim.harness.task import Benchmark, ImageTable, OnError, Task


def usable_task(benchmark: Benchmark, task: Task, backbone: Backbone, error: BadRowsError) -> Task:
    """``task``, whose run ended in ``error``, without the images that cannot be encoded; the others are in the store.

    Raises ``error``, with what to do about it, where the user did not ask for this or where it would not help.
    """
    if benchmark.on_error != "skip" or not error.skippable:
        raise advised(benchmark, error) from None
    usable = task
    while True:
        try:
            backbone.encode_images(usable.images)
        except BadRowsError as found:  # files that are missing are told first, those that do not decode after them
            if not found.skippable:
                raise
            usable = without_images(usable, found.faults)
        else:
            break
    if usable is task:  # it was about something else than the task's images
        raise error
    return usable


def usable_images(table: ImageTable, backbone: Backbone, on_error: OnError | None) -> tuple[ImageTable, Tensor]:
    """(those of ``table`` that can be encoded, their features); all of them, unless the user asked for "skip"."""
    while True:
        try:
            return table, backbone.encode_images(table)
        except BadRowsError as error:
            if on_error != "skip" or not error.skippable:
                raise
            table = table.take(error.others)


def advised(benchmark: Benchmark, error: BadRowsError) -> CondsimError:
    """``error`` with what its reader can do about it."""
    if benchmark.on_error != "raise" or not error.skippable:
        return error
    return CondsimError(
        f"{error}\n`condsim check benchmark={benchmark.name}` looks at every image; with benchmark.on_error=skip a run "
        "goes on without these images and the queries that need them, and its record says which"
    )
