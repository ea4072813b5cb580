"""A rendered world for training, with another seed than the benchmark's."""

from __future__ import annotations

from pathlib import Path

from condsim.datasets.shapes.export import ensure_world
from condsim.datasets.shapes.sizes import WorldSizes
from condsim.harness.files.paths import cache_folder


def training_world(path: str, cache_dir: str | None = None) -> Path:
    """The path of ``path`` in the rendered world for training, which is written on first use.

    Its seed is not the benchmark's. Its training parts are larger, its test parts as small as possible.
    """
    sizes = WorldSizes(
        attribute_scenes=300, object_scenes=300, templates=10, mit_test_images=1, mit_train_images=1, cirr_val_sets=2,
        cirr_train_sets=1500, labelled_test=40, labelled_val=20, labelled_train=12_000, captioned=32_000,
        domain_images=1, domain_queries=1,
    )  # fmt: skip
    return ensure_world(cache_folder(cache_dir), seed=1, sizes=sizes) / path


def benchmark_world(path: str, cache_dir: str | None = None) -> Path:
    """The path of ``path`` in the world of the embedded benchmark, for its training split (``captions/train.csv``)."""
    return ensure_world(cache_folder(cache_dir)) / path
