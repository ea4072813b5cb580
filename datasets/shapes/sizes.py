"""How large a rendered world is, and in which folder it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

WORLD_VERSION = 8  # raise it with every change of a file, but not for a new part
PARTS = (
    "genecis", "mit_states", "cirr", "labelled", "captions", "instance", "circo", "binding", "fashioniq", "domains",
)  # fmt: skip
"""The folders of a world."""


@dataclass(frozen=True)
class WorldSizes:
    """The size of each part of the world: scenes, templates per task, sets of six."""

    attribute_scenes: int = 1600
    object_scenes: int = 2000
    templates: int = 600
    mit_test_images: int = 25  # per folder
    mit_train_images: int = 20  # per folder
    cirr_val_sets: int = 100
    cirr_train_sets: int = 240
    cirr_queries: int = 10  # per set, at most 10
    labelled_test: int = 1600
    labelled_val: int = 600
    labelled_train: int = 3000
    instances: int = 200
    instance_views: int = 5  # pictures per instance: the first is the query, the others are the positives
    instance_distractors: int = 1000
    captioned: int = 8000
    circo_sets: int = 50  # five queries per set
    garments: int = 400  # pictures per category
    garment_queries: int = 200  # per category
    binding_queries: int = 100  # per kind of distractor and number of objects
    domain_images: int = 12  # in the gallery, per domain and shape
    domain_queries: int = 6  # query pictures, per domain and shape


def world_folder(cache: Path, seed: int, sizes: WorldSizes) -> Path:
    """Where the world of this seed and size is, or will be."""
    suffix = "" if sizes == WorldSizes() else f"-{abs(hash(sizes)) % 10**8}"
    return cache / f"shapes-v{WORLD_VERSION}-seed{seed}{suffix}"


def missing_parts(world: Path) -> tuple[str, ...]:
    """The parts that are not there yet: all, or those that an earlier release did not have."""
    return tuple(part for part in PARTS if not (world / part).is_dir())
