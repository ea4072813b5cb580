"""A run in the results folder: its record and its per-query files. Imports NumPy only when arrays are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condsim.harness.errors import CondsimError, described
from condsim.harness.files.hashing import settings_hash
from condsim.harness.files.paths import safe_name
from condsim.harness.results.server import ServerAnswer
from condsim.harness.run.record import Record, read_file, settings_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from condsim.harness.ranking.ranks import Ranks
    from condsim.harness.task import Rows


@dataclass(frozen=True, eq=False)
class StoredRun:
    """A record and the folder that holds it. Two are equal only if they are the same object."""

    folder: Path
    record: Record
    with_backbone: bool = False
    """Whether its label names the backbone: true where the runs of its question set have several."""
    pictures: str = ""
    """A digest of the pictures, where runs on these queries saw several contents of them; "" where all saw the same."""
    age: int = 0
    """How many contents of these pictures are newer."""
    answer: ServerAnswer | None = None
    """What the benchmark's own server measured, where the ground truth is withheld."""

    @property
    def run(self) -> str:
        return self.record.run

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the task as this run saw it; "" where the record has none."""
        return str(self.record.config.get("fingerprint", ""))

    @property
    def images(self) -> str:
        """The digest of the pictures that this run saw; "" where it depends on none."""
        return str(self.record.config.get("images", ""))

    @property
    def question_set(self) -> str:
        """What runs must have in common to be compared: the fingerprint, and the content of the pictures with it where
        other runs saw other pictures under the same names."""
        return self.fingerprint if not self.pictures else settings_hash({self.fingerprint: self.pictures})

    @property
    def variant(self) -> str:
        """What makes its question set another one than the task's usual: "text=caption", "pictures 5ab1c0de"."""
        pictures = f"pictures {self.pictures[:8]}" if self.pictures else ""
        return "; ".join(filter(None, (self.record.variant, pictures)))

    @property
    def wording(self) -> str:
        """The wording of its conditions (:mod:`condsim.harness.variants.wordings`); "" for the benchmark's own."""
        if not self.record.variant:  # nearly always, and then NumPy need not be imported
            return ""
        from condsim.harness.variants.wordings import MARK

        return self.record.variant.partition(MARK)[2]

    @property
    def label(self) -> str:
        """The method and its settings that are not the default: ``clay rank=5``, ``clay rank=5 (ViT-B-32/openai)``."""
        return self.named(with_backbone=self.with_backbone)

    def named(self, *, with_backbone: bool) -> str:
        name = f"{self.record.method} {settings_text(self.record.settings)}".strip()
        return f"{name} ({self.record.backbone})" if with_backbone else name

    @property
    def alike(self) -> tuple[str, ...]:
        """What the runs of one method, backbone and settings have in common on all tasks of a benchmark."""
        record = self.record
        return (record.benchmark, record.backbone, record.method, repr(sorted(record.settings.items())))

    def values(self, metric: str) -> NDArray[np.float64]:
        """[Q] the metric of every query, a fraction. Raises CondsimError where its files cannot be read."""
        from condsim.harness.ranking.metrics import per_query

        clusters = None
        if "grouped_" in metric:
            from condsim.harness.run.task_file import load_task

            clusters = load_task(self.task_path, self.fingerprint).clusters
        return per_query(metric, self.ranks, self.subset_ranks, clusters)

    @cached_property
    def ranks(self) -> Ranks:
        return self._read_ranks("ranks.npz")

    @cached_property
    def subset_ranks(self) -> Ranks | None:
        return self._read_ranks("subset_ranks.npz") if "subset_ranks.npz" in self.record.files else None

    @cached_property
    def top(self) -> Rows | None:
        """[Q, top] image-table rows of the best candidates, -1 where there are no more; None: not recorded."""
        import numpy as np

        if "top.npy" not in self.record.files:
            return None
        path, top = self.folder / "top.npy", self._read("top.npy", partial(np.load, allow_pickle=False))
        if top.ndim != 2 or len(top) != self.record.queries or top.dtype.kind != "i":
            raise CondsimError(f"{path}: expected {self.record.queries} rows of integers, found {top.dtype}{top.shape}")
        return np.asarray(top, dtype=np.int64)

    @property
    def task_path(self) -> Path:
        """Where the file of its task is: beside its folder, wherever that is."""
        return self.folder.parent / f"task-{safe_name(self.fingerprint)}.npz"

    def _read_ranks(self, name: str) -> Ranks:
        from condsim.harness.ranking.ranks import Ranks

        ranks: Ranks = self._read(name, Ranks.load)
        if len(ranks) != self.record.queries:
            raise CondsimError(f"{self.folder / name}: ranks of {len(ranks)} queries, expected {self.record.queries}")
        return ranks

    def _read(self, name: str, load: Callable[[Path], Any]) -> Any:
        path = self.folder / name
        read_file(self.folder, self.record, name)  # raises where the file is not what the run wrote
        try:
            return load(path)
        except CondsimError:
            raise
        except Exception as error:  # a file of another program can raise nearly anything in a reader
            raise CondsimError(f"{path} cannot be read: {described(error)}") from None
