"""The embedded benchmark: tasks on a world that is rendered on first use."""

from __future__ import annotations

from collections.abc import Sequence

from condsim.datasets.shapes.kept_tasks import keep, read_kept, state_of
from condsim.datasets.shapes.sizes import WorldSizes, missing_parts, world_folder
from condsim.harness.errors import require_one_of
from condsim.harness.files.paths import cache_folder
from condsim.harness.task import Benchmark

SPLITS = ("test", "val")
VALIDATION = WorldSizes(
    attribute_scenes=800, object_scenes=1000, templates=300, mit_test_images=12, mit_train_images=1, cirr_val_sets=50,
    cirr_train_sets=1, labelled_test=800, labelled_val=20, labelled_train=40, instances=100, instance_distractors=500,
    captioned=20, circo_sets=25, binding_queries=50, garments=120, garment_queries=100,
    domain_images=6, domain_queries=3,
)  # fmt: skip


def load(
    cache_dir: str | None = None, tasks: Sequence[str] | None = None, name: str = "shapes", split: str = "test"
) -> Benchmark:
    """The tasks of :func:`condsim.datasets.shapes.world_tasks.read_world`.

    ``cache_dir``: the folder in which the world is rendered on first use (None: the default cache). ``split``: "val"
    has the same tasks in a world of another seed, half as large; the training world's seed is a third one.
    """
    require_one_of("benchmark.split", split, SPLITS)
    cache = cache_folder(cache_dir)
    seed, sizes, variant = (0, WorldSizes(), "") if split == "test" else (2, VALIDATION, f"split={split}")
    root = world_folder(cache, seed, sizes)
    if missing_parts(root):
        from condsim.datasets.shapes.export import ensure_world  # imports the renderer

        ensure_world(cache, seed, sizes)
    kept, state = cache / f"{root.name}.tasks", state_of(root, name, variant)
    benchmark = read_kept(kept, state)
    if benchmark is None:
        from condsim.datasets.shapes.world_tasks import read_world  # imports every loader, pandas and pydantic

        benchmark = read_world(root, name, variant)
        keep(kept, state, benchmark)
    return benchmark.select(tasks)
