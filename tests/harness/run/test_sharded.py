"""A gallery in parts, from its folder to the ranks: the bits of one process, whatever the workers and their fate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from condsim.datasets.instance import load
from condsim.harness.condition_features import condition_features
from condsim.harness.engine.engine import Held
from condsim.harness.engine.local import LocalEngine
from condsim.harness.errors import CondsimError, NotApplicable
from condsim.harness.features.published.backbone import Precomputed
from condsim.harness.files.gallery_parts import GRAIN
from condsim.harness.method import Gallery, Method, Queries, Scorer
from condsim.harness.one_vector import OneVector
from condsim.harness.ranking.engine import Ranking, rank_task
from condsim.harness.ranking.gallery import make_gallery
from condsim.harness.run.run import rank
from condsim.harness.run.task_file import load_task, save_task, task_path
from condsim.harness.task import Benchmark, Task
from condsim.methods.clay import Clay
from condsim.methods.fusion import WeiCom
from condsim.methods.inner_product import ImageOnly, TextOnly
from encoders import Space, make_gallery_in_parts
from running import run_condsim

pytestmark = pytest.mark.slow

WIDTH, ITEMS, QUERIES = 16, 2 * GRAIN + 5000, 12
METHODS: Mapping[str, Callable[[], Method]] = {
    "image_only": ImageOnly,
    "text_only": TextOnly,
    "clay": lambda: Clay(rank=5),
    "clay, query only": lambda: Clay(rank=5, symmetric=False),
    "clay, unrotated": lambda: Clay(rank=5, rotation=False),
}


class Several(LocalEngine):
    """``workers`` workers in this process. With ``loses``, one part is lost and made again between the two rounds."""

    def __init__(self, workers: int, loses: bool = False) -> None:
        self.workers, self.loses = workers, loses

    def hold(self, makes: Sequence[Callable[[], object]]) -> Held:
        return Losing(makes) if self.loses else super().hold(makes)


class Losing:
    """Parts as ``Held`` has them, of which the second is lost before every second round."""

    def __init__(self, makes: Sequence[Callable[[], object]]) -> None:
        self.makes = makes
        self.parts: list[Any] = [make() for make in makes]
        self.before: list[tuple[str, tuple[Any, ...]]] = []
        self.lost = 0

    def __len__(self) -> int:
        return len(self.parts)

    def all(self, name: str, *arguments: Any) -> list[Any]:
        if name == "scan":
            self.parts[1] = self.makes[1]()
            for earlier, given in self.before:
                getattr(self.parts[1], earlier)(*given)
            self.lost += 1
        self.before.append((name, arguments))
        return [getattr(part, name)(*arguments) for part in self.parts]

    def batch(self) -> AbstractContextManager[None]:
        return nullcontext()

    def release(self) -> None:
        assert self.lost


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery in three parts."""
    return make_gallery_in_parts(tmp_path_factory.mktemp("parts"), ITEMS, QUERIES, WIDTH)


@pytest.fixture(scope="module")
def benchmark(folder: Path) -> Benchmark:
    return load(str(folder / "queries.csv"), str(folder / "gallery"), metrics=("map", "recall@10"))


@pytest.fixture(scope="module")
def backbone(folder: Path) -> Precomputed:
    backbone = Precomputed([folder / "gallery", folder / "others.npy"], name="parts", cache_dir=folder)
    backbone.encode_texts = Space(WIDTH).encode_texts  # type: ignore[method-assign]
    return backbone


def ranking_of(benchmark: Benchmark, backbone: Precomputed, method: Method, engine: LocalEngine) -> Ranking:
    return rank(benchmark, benchmark.tasks[0], method, backbone, 20, engine=engine)[0]


def assert_same(found: Ranking, expected: Ranking) -> None:
    for name in ("offsets", "above", "relevant", "irrelevant", "total", "candidates"):
        np.testing.assert_array_equal(getattr(found.ranks, name), getattr(expected.ranks, name))
    np.testing.assert_array_equal(found.top, expected.top)
    np.testing.assert_array_equal(found.top_scores, expected.top_scores)


def in_memory(task: Task, backbone: Precomputed, method: Method) -> Ranking:
    """The same task with all features in memory, in chunks of the same size."""
    features = backbone.encode_images(task.images)
    texts = condition_features(task, backbone.encode_texts)
    gallery = make_gallery(task, features, texts, backbone.encode_texts, lambda: pytest.fail("no training split"))
    budget = 4 * QUERIES * (1 << 18)  # less than a batch of scores, and enough for the largest chunk
    return rank_task(task, method.prepare(gallery), features, texts, top=20, budget_bytes=budget - 1)


@pytest.mark.parametrize("name", METHODS)
def test_every_number_of_workers_gives_the_bits_of_one_process(
    name: str, benchmark: Benchmark, backbone: Precomputed
) -> None:
    method, (task,) = METHODS[name](), benchmark.tasks
    assert task.gallery == range(ITEMS)
    one = ranking_of(benchmark, backbone, method, LocalEngine())
    for engine in (Several(2), Several(5), Several(3, loses=True)):
        assert_same(ranking_of(benchmark, backbone, method, engine), one)
    whole = in_memory(task, backbone, method)
    np.testing.assert_array_equal(whole.top, one.top)
    np.testing.assert_array_equal(whole.ranks.above, one.ranks.above)
    np.testing.assert_allclose(whole.top_scores, one.top_scores, atol=1e-6)  # type: ignore[arg-type]


def test_a_task_on_parts_is_stored_and_read_again(benchmark: Benchmark, tmp_path: Path) -> None:
    (task,) = benchmark.tasks
    path = task_path(tmp_path, "instance", "test", task.fingerprint)
    save_task(path, task)
    again = load_task(path, task.fingerprint)
    assert again.gallery == range(ITEMS)
    assert again.images.names[ITEMS + 1] == "q/1.jpg"


def test_a_method_that_needs_the_whole_gallery_says_so(benchmark: Benchmark, backbone: Precomputed) -> None:
    with pytest.raises(NotApplicable, match=r"does not rank a gallery in parts: .* the whole gallery at once"):
        ranking_of(benchmark, backbone, WeiCom(), LocalEngine())


class FloatMean(OneVector):
    """A method whose statistics are floats."""

    sharded = True

    def embed(self, queries: Queries) -> Tensor:
        return queries.reference

    def statistics(self, gallery: Gallery) -> Mapping[str, Tensor]:
        return {"mean": gallery.features.float().mean(dim=0)}


class Rewritten(OneVector):
    """It may look at the gallery in ``prepare``, and does not say that it does not."""

    def embed(self, queries: Queries) -> Tensor:
        return queries.reference

    def prepare(self, gallery: Gallery) -> Scorer:
        return super().prepare(gallery)


def test_statistics_of_floats_are_refused(benchmark: Benchmark, backbone: Precomputed) -> None:
    with pytest.raises(CondsimError, match=r"statistic 'mean' of the method is torch.float32.* Return int64"):
        ranking_of(benchmark, backbone, FloatMean(), LocalEngine())
    with pytest.raises(NotApplicable, match="the method does not rank a gallery in parts"):
        ranking_of(benchmark, backbone, Rewritten(), LocalEngine())


def test_other_tables_on_a_gallery_in_parts_are_looked_up_by_name(benchmark: Benchmark, backbone: Precomputed) -> None:
    table = benchmark.tasks[0].images
    rows = np.array([GRAIN + 3, 5, ITEMS + 1, ITEMS - 1])
    parts = backbone.image_parts(table)
    assert parts is not None
    expected = parts.gather(torch.from_numpy(rows))
    torch.testing.assert_close(backbone.encode_images(table.take(rows)), expected)
    assert backbone.image_parts(table.take(rows)) is None


TWO = """
from condsim.harness.engine.local import LocalEngine

class Two(LocalEngine):
    workers = 2

    def hold(self, makes):
        print(f"{len(makes)} workers share the gallery")
        return super().hold(makes)
"""


def test_bench_divides_the_gallery_of_a_run_between_the_workers_of_an_engine(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "two.yaml").write_text("_target_: two.Two\n")
    (tmp_path / "two.py").write_text(TWO)
    settings = (
        "bench", "--config-dir", ".", "-m", "method=image_only,weicom", "benchmark=instance",
        f"benchmark.queries={folder / 'queries.csv'}", f"benchmark.gallery={folder / 'gallery'}",
        "backbone=precomputed", f"backbone.images=[{folder / 'gallery'},{folder / 'others.npy'}]",
        f"cache_dir={folder}", "statistics.resamples=100",
    )  # fmt: skip
    alone = run_condsim(*settings, "results=alone", folder=tmp_path)
    shared = run_condsim(*settings, "results=shared", "engine=two", folder=tmp_path)
    assert "workers share" not in alone
    assert shared.count("2 workers share the gallery") == 1
    assert "1 run finished, 0 already done, 1 not applicable" in shared
    for name in ("ranks.npz", "top.npy"):
        one, two = (next((tmp_path / results).glob(f"runs/*/*/*/{name}")) for results in ("alone", "shared"))
        assert one.read_bytes() == two.read_bytes()
