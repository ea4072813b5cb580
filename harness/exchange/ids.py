"""The ids of a task's queries and items in files that other programs read."""

from __future__ import annotations

from condsim.harness.task import Task


def query_ids(task: Task) -> list[str]:
    """[Q] the benchmark's own ids; the positions 0, 1, ... where it has none, or gives an id twice."""
    own = task.query_ids
    return [str(query) for query in range(len(task))] if own is None or len(set(own)) < len(own) else list(own)


def item_ids(task: Task) -> list[str]:
    """One id per row of the image table: the image's name, for a crop with its box: ``1.jpg#10,20,30,40``."""
    boxes = [task.images.box(row) for row in range(len(task.images))]
    return [
        name if box is None else f"{name}#{','.join(repr(float(side)).removesuffix('.0') for side in box)}"
        for name, box in zip(task.images.names, boxes, strict=True)
    ]
