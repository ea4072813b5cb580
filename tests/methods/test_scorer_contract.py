"""Every method of conf/method against the contract of ``harness.method.Scorer``."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip  # noqa: F401 - sets an environment variable once, which no test may
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

import condsim.conf
from condsim.harness.backbone import ImageParts
from condsim.harness.engine.engine import Held
from condsim.harness.engine.local import LocalEngine
from condsim.harness.errors import NotApplicable
from condsim.harness.files.gallery_parts import write_parts
from condsim.harness.files.state_dict import write_state_dict
from condsim.harness.method import Explains, Gallery, Method, Queries, TwoSteps
from condsim.harness.ranking.engine import Ranking, rank_task
from condsim.harness.run.run import rank
from condsim.harness.run.sharded import rank_parts
from condsim.harness.search.pictures import Pictures
from condsim.harness.search.searcher import Query, Searcher
from condsim.harness.settings.composition import Composer
from condsim.harness.task import Benchmark, ImageTable, Ragged, Task
from condsim.methods.indirect import fitted_projection
from condsim.methods.pic2word import Pic2Word
from condsim.methods.query_adaptive import QueryAdaptive
from condsim.methods.searle import Searle
from condsim.methods.shared.combiner_network import CombinerNetwork
from condsim.methods.shared.quari_network import ReleasedQuariNetwork, ReleasedSettings
from encoders import Space, cores
from pretend_gpu import DEVICE, PretendGpu, on_device

pytestmark = pytest.mark.slow

FOLDER = Path(condsim.conf.__file__).parent / "method"
METHODS = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "custom")
BENCH = Composer("bench")
ITEMS, QUERIES = 40, 9

Make = Callable[[str], Method]


@cache
def composed(name: str) -> DictConfig:
    return BENCH.compose((f"method={name}", "benchmark=labelled")).config.method


@pytest.fixture
def make(tmp_path: Path, space: Space, monkeypatch: pytest.MonkeyPatch) -> Make:
    """The method of a YAML, with small random weights and tables where it needs files."""
    width = space.width

    def checkpoint(name: str) -> Path:
        path = tmp_path / f"{name}.safetensors"
        torch.manual_seed(0)
        if name == "query_adaptive":
            adaptive = QueryAdaptive(rank=3, steps=2, hidden=16, heads=2, feedforward=16, depth=1)
            network = adaptive.new_network(width)
            settings = {"architecture": adaptive.settings_of(network), "width": width}
            write_state_dict(path, network.state_dict(), settings)
        elif name == "quari":
            released: dict[str, Any] = {
                "embedding_dim": width,
                "low_rank_dim": 3,
                "hidden_dim": 16,
                "nhead": 2,
                "num_layers": 1,
            }
            path = tmp_path / "weights.pt"
            torch.save(
                ReleasedQuariNetwork(ReleasedSettings(**released)).state_dict() | {"pos_emb": torch.randn(7, 16)}, path
            )
            (tmp_path / "config.yml").write_text(json.dumps({"hparams": released}))
        elif name in ("pic2word", "searle", "lincir"):
            layers = (Pic2Word if name == "pic2word" else Searle).layers
            sizes = zip(layers, (14, 14, space.word_width), (width, 14, 14), strict=True)
            tensors: dict[str, Tensor] = {}
            for layer, out, inputs in sizes:
                tensors |= {f"{layer}.weight": torch.randn(out, inputs) / 4, f"{layer}.bias": torch.randn(out)}
            write_state_dict(path, tensors, {})
        elif name == "linear_adapter":
            write_state_dict(path, {"layer.weight": torch.randn(10, width), "layer.bias": torch.randn(10)}, {})
        else:
            write_state_dict(path, CombinerNetwork(width, 12, 14).state_dict(), {"projection": 12, "hidden": 14})
        return path

    def of(name: str) -> Method:
        config = deepcopy(composed(name))
        OmegaConf.set_struct(config, False)
        if "checkpoint" in config:
            config.checkpoint = str(checkpoint(name))
        if name == "two_stage":
            config.final.checkpoint = str(checkpoint("query_adaptive"))
        if name == "quari":
            config.config = str(tmp_path / "config.yml")
        if name == "specific_object":
            table = tmp_path / "categories.csv"
            lines = [f"{i}.jpg,{category}" for i in range(ITEMS) for category in ("color", "shape", f"c{i % 7}")]
            table.write_text("\n".join(["image,category", *lines]) + "\n")
            config.categories = str(table)
        if name == "rerank_oracle":
            config.parts = str(tmp_path / "parts.csv")
            lines = [
                f"{i}.jpg,{part}" for i in range(ITEMS) for part in ("color", f"p{i % 7}", f"q{i % 5}")[: 1 + i % 3]
            ]
            Path(config.parts).write_text("\n".join(["image,category", *lines]) + "\n")
        if name == "rerank_regions":  # there are no pictures whose sizes could be read
            monkeypatch.setattr(
                "condsim.methods.neighborhood_rerank.grid_regions",
                lambda table, grid: table.take(np.repeat(np.arange(len(table)), grid * grid)),
            )
        if name == "texts":
            config.table = str(tmp_path / "texts.csv")
            lines = [f"toy/{i},text {i + j}" for i in range(ITEMS) for j in range(1 + i % 2)]
            Path(config.table).write_text("\n".join(["query,text", *lines]) + "\n")
        if name == "weimocir":
            config.captions = str(tmp_path / "captions.csv")
            lines = [f"{i}.jpg,caption {i + j}" for i in range(ITEMS) for j in range(2)]
            Path(config.captions).write_text("\n".join(["image,text", *lines]) + "\n")
        if name == "indirect":
            monkeypatch.setattr("condsim.methods.indirect.fitted_projection", partial(fitted_projection, steps=30))
        method = instantiate(config, _convert_="all")
        assert isinstance(method, Method)
        return method

    return of


def queries_of(space: Space, gallery: Gallery) -> Queries:
    queries: Queries = space.queries(gallery, [3, 8, 8, 21, 39, 0, 17, 5, 30], [0, 1, 2, 3, 0, 1, 1, 2, 0])
    return queries


def close(found: Tensor, expected: Tensor, tolerance: float = 2e-5) -> None:
    scale = float(expected.abs().max().clamp(min=1))
    torch.testing.assert_close(found, expected, atol=tolerance * scale, rtol=0)


@pytest.mark.parametrize("name", METHODS)
def test_the_three_forms_of_rows_give_equal_scores(name: str, space: Space, make: Make) -> None:
    gallery = space.gallery(ITEMS)
    queries = queries_of(space, gallery)
    method = make(name)
    scorer = method.prepare(gallery)
    whole = scorer(queries)
    assert whole.shape == (QUERIES, ITEMS)
    assert whole.dtype == torch.float32
    assert torch.isfinite(whole).all()
    generator = torch.Generator().manual_seed(1)
    shuffled = torch.stack([torch.randperm(ITEMS, generator=generator) for _ in range(QUERIES)])
    close(scorer(queries, torch.arange(ITEMS)), whole)
    close(scorer(queries, shuffled), whole.gather(1, shuffled))
    if method.pointwise:
        some = torch.tensor([4, 39, 0, 7, 8, 9])
        close(scorer(queries, some), whole[:, some])
        close(scorer(queries, shuffled[:, :6]), whole.gather(1, shuffled[:, :6]))


@pytest.mark.parametrize("name", METHODS)
def test_a_row_twice_in_a_list_ties_exactly_and_padding_changes_nothing(name: str, space: Space, make: Make) -> None:
    gallery = space.gallery(ITEMS)
    queries = queries_of(space, gallery)
    scorer = make(name).prepare(gallery)
    lists = torch.stack(
        [torch.randperm(ITEMS, generator=torch.Generator().manual_seed(i))[:13] for i in range(QUERIES)]
    )
    lists[:, -1] = lists[:, 0]
    plain = scorer(queries, lists)
    assert (plain[:, 0] == plain[:, -1]).all()
    padded = torch.cat((lists, torch.full((QUERIES, 3), -1)), dim=1)
    scores = scorer(queries, padded)
    assert torch.isfinite(scores).all()
    assert (scores[:, 0] == scores[:, 12]).all()
    close(scores[:, :13], plain)


@pytest.mark.parametrize("name", METHODS)
def test_a_query_scores_the_same_whatever_else_is_in_its_batch(name: str, space: Space, make: Make) -> None:
    gallery = space.gallery(ITEMS)
    queries = queries_of(space, gallery)
    scorer = make(name).prepare(gallery)
    together = scorer(queries)
    alone = torch.cat([scorer(queries.part(slice(i, i + 1))) for i in range(QUERIES)])
    close(alone, together)


def ranked(method: Method, task: Task, gallery: Gallery, budget: int) -> Ranking:
    return rank_task(
        task, method.prepare(gallery), gallery.features, gallery.condition_features,
        pointwise=method.pointwise, top=ITEMS, budget_bytes=budget,
    )  # fmt: skip


def toy_task(gallery: Gallery, queries: Queries) -> Task:
    return Task(
        benchmark="bench",
        name="toy",
        images=gallery.table,
        conditions=gallery.conditions,
        condition=queries.condition.numpy(),
        reference=queries.reference_row.numpy(),
        relevant=Ragged.of([[(7 * i) % ITEMS, (7 * i + 11) % ITEMS] for i in range(QUERIES)]),
        metrics=("recall@1", "map"),
        gallery=np.arange(ITEMS),
    )


@pytest.mark.parametrize("name", METHODS)
def test_a_gallery_in_chunks_gives_equal_ranks(name: str, space: Space, make: Make) -> None:
    gallery = space.gallery(ITEMS)
    method = make(name)
    task = toy_task(gallery, queries_of(space, gallery))
    with cores(3):  # chunks at once, where the scorer allows it
        whole, chunked = ranked(method, task, gallery, 1 << 28), ranked(method, task, gallery, 4 * ITEMS * 4)
    for group in ("above", "relevant", "irrelevant"):
        np.testing.assert_array_equal(getattr(chunked.ranks, group), getattr(whole.ranks, group))
    assert whole.top is not None
    assert chunked.top is not None
    np.testing.assert_array_equal(chunked.top[:, :3], whole.top[:, :3])


QUICK: dict[str, dict[str, object]] = {
    "specific_focus_attribute": {"tasks": ("search",)},
    "specific_change_attribute": {"tasks": ("search",), "templates": "plain"},
    "specific_object": {"tasks": ("search",)},
    "neighborhood_rerank": {"shortlist": 7},
    "two_stage": {"shortlist": 9},
}


SHARDED = {
    "clay", "combiner", "combiner_both_sides", "crl", "image_only", "image_plus_text", "image_plus_text_unit",
    "indirect", "joint", "lincir", "linear_adapter", "local_steering", "pic2word", "product", "quari",
    "query_adaptive", "searle", "slerp", "specific_change_attribute", "specific_focus_attribute", "text_only", "texts",
}  # fmt: skip


TWO_STEPS = {"alpha_query_expansion", "neighborhood_rerank", "rerank_oracle", "rerank_regions"}


class Pickled(LocalEngine):
    """Parts on ``workers`` workers of this process; everything between them travels by pickle, as between processes."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def hold(self, makes: Sequence[Callable[[], object]]) -> Held:
        return PickledParts(super().hold([pickle.loads(pickle.dumps(make)) for make in makes]))


class PickledParts:
    def __init__(self, held: Held) -> None:
        self.held = held
        self.batch, self.release = held.batch, held.release

    def __len__(self) -> int:
        return len(self.held)

    def all(self, name: str, *arguments: Any) -> list[Any]:
        found: list[Any] = pickle.loads(pickle.dumps(self.held.all(name, *pickle.loads(pickle.dumps(arguments)))))
        return found


@pytest.mark.parametrize("name", METHODS)
def test_a_gallery_in_parts_is_ranked_as_one_or_refused(
    name: str, space: Space, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("files.gallery_parts", "ranking.engine"):
        monkeypatch.setattr(f"condsim.harness.{module}.GRAIN", 16)
    gallery = space.gallery(ITEMS)
    queries = queries_of(space, gallery)
    method = make(name)
    monkeypatch.setattr("condsim.methods.indirect.fitted_projection", partial(fitted_projection, steps=10))
    for setting, value in QUICK.get(name, {}).items():
        setattr(method, setting, value)
    task = Task(
        "bench", "toy", gallery.table, gallery.conditions, queries.condition.numpy(), queries.reference_row.numpy(),
        Ragged.of([[(7 * i) % ITEMS, (7 * i + 11) % ITEMS] for i in range(QUERIES)]), ("recall@1", "map"),
        gallery=range(ITEMS), excluded=Ragged.of([[(7 * i + 3) % ITEMS] for i in range(QUERIES)]),
    )  # fmt: skip
    written = write_parts(
        tmp_path / "gallery", [(gallery.table.names, gallery.features.numpy())], dtype="float32", rows_per_part=16
    )
    assert written.sizes == (16, 16, 8)
    images = ImageParts(written, torch.zeros(0, space.width))
    without = replace(gallery, features=gallery.features[:0], table=ImageTable(tmp_path, ()), rows=np.arange(0))

    def in_parts(workers: int) -> Ranking:
        return rank_parts(task, method, images, without, Pickled(workers), top=ITEMS, budget_bytes=640)

    assert method.sharded == (name in SHARDED)
    in_two_steps = isinstance(method, TwoSteps) and method.in_two_steps
    assert in_two_steps == (name in TWO_STEPS)
    if not method.sharded and not in_two_steps:
        with pytest.raises(NotApplicable, match="does not rank a gallery in parts: "):
            in_parts(1)
        return
    expected = ranked(method, task, gallery, 640)
    for workers in (1, 3):
        found = in_parts(workers)
        for group in ("above", "relevant", "irrelevant"):
            np.testing.assert_array_equal(getattr(found.ranks, group), getattr(expected.ranks, group))
        np.testing.assert_array_equal(found.top, expected.top)
        assert found.top_scores is not None
        assert expected.top_scores is not None
        np.testing.assert_allclose(found.top_scores, expected.top_scores, atol=2e-5)


class SpaceBackbone:
    """The random features of a space, by the number in a picture's name."""

    name, identity, device = "space", {"model": "space"}, torch.device("cpu")

    def __init__(self, space: Any) -> None:
        self.space, self.width = space, space.width
        self.encode_texts, self.encode_texts_with = space.encode_texts, space.encode_texts_with

    def encode_images(self, table: ImageTable) -> Tensor:
        features: Tensor = self.space.encode_images(ITEMS)
        return features[[int(Path(name).stem) for name in table.names]]


WITH_FILES = ("texts", "rerank_oracle", "rerank_regions")
"""They read rows of the benchmark's queries, or pictures that the random features do not have."""


@pytest.mark.parametrize("device", ["pretended", "cuda"])
@pytest.mark.parametrize("name", METHODS)
def test_a_gpu_gives_the_scores_of_the_processor(
    name: str, device: str, space: Space, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    method = make(name)
    monkeypatch.setattr("condsim.methods.indirect.fitted_projection", partial(fitted_projection, steps=2))
    for setting, value in QUICK.get(name, {}).items():
        setattr(method, setting, value)
    gallery = space.gallery(ITEMS)
    queries = queries_of(space, gallery)
    lists = torch.arange(ITEMS + 2).expand(QUERIES, -1) % ITEMS
    padded = torch.cat((lists, torch.full((QUERIES, 1), -1)), dim=1)
    forms = (None, torch.arange(ITEMS), padded)
    scorer = method.prepare(gallery)
    expected = [scorer(queries, rows) for rows in forms]
    with PretendGpu() if device == "pretended" else nullcontext():
        there = DEVICE if device == "pretended" else torch.device(device)
        with torch.no_grad():
            scorer = method.prepare(on_device(gallery, there))
            moved = replace(queries, **{name: part.to(there) for name, part in vars(queries).items()})
            found = [scorer(moved, None if rows is None else rows.to(there)).cpu() for rows in forms]
    for scores, others in zip(found, expected, strict=True):
        # A hypernetwork on a GPU rounds its layers differently: 5e-5 was measured.
        close(scores[:, : lists.shape[1]], others[:, : lists.shape[1]], tolerance=2e-4)


def found(searcher: Searcher, method: Method, queries: Sequence[Query]) -> tuple[Any, Any]:
    matches = searcher.search(method, queries, ITEMS, why=True)
    return matches.rows, matches.scores


@pytest.mark.parametrize("name", [name for name in METHODS if name not in WITH_FILES])
def test_a_search_gives_the_scores_of_a_benchmark(
    name: str, space: Any, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a search for other conditions, and for a picture that is not among those that are searched."""
    monkeypatch.setattr("condsim.methods.indirect.fitted_projection", partial(fitted_projection, steps=10))
    gallery = space.gallery(ITEMS)
    queries = queries_of(space, gallery)
    rows, conditions = queries.reference_row.tolist(), queries.condition.tolist()
    method, backbone = make(name), SpaceBackbone(space)
    for setting, value in QUICK.get(name, {}).items():
        setattr(method, setting, value)
    task = Task(
        "bench", "search", gallery.table, gallery.conditions, queries.condition.numpy(), queries.reference_row.numpy(),
        Ragged.of([[row + 1 if row < 20 else row - 1] for row in rows]), ("recall@1",),
        gallery=np.arange(ITEMS), excluded=Ragged.of([row] for row in rows),
    )  # fmt: skip
    searcher = Searcher(backbone, Pictures(gallery.table, backbone.encode_images(gallery.table), {}))
    asked = [Query(row=row, condition=gallery.conditions[c]) for row, c in zip(rows, conditions, strict=True)]
    benchmark = Benchmark("bench", (task,))
    try:
        expected = rank(benchmark, task, method, backbone, ITEMS)[0]
    except NotApplicable:
        with pytest.raises(NotApplicable, match=r"name its pictures with --train|this backbone encodes them apart"):
            found(searcher, method, asked)
        return
    found(searcher, method, [Query(row=3, condition=("material",))])
    best, scores = found(searcher, method, asked)
    np.testing.assert_array_equal(best, expected.top)
    np.testing.assert_array_equal(scores, expected.top_scores)

    elsewhere = [
        Query(features=gallery.features[row], condition=gallery.conditions[c])
        for row, c in zip(rows, conditions, strict=True)
    ]
    if method.needs_row:
        with pytest.raises(NotApplicable, match="has to be one of the pictures"):
            found(searcher, method, elsewhere)
    elif name not in ("alpha_query_expansion", "freedom"):  # they look for the picture's own place in the gallery
        with_itself = rank(benchmark, replace(task, excluded=None), method, backbone, ITEMS)[0]
        best, scores = found(searcher, method, elsewhere)
        np.testing.assert_array_equal(best, with_itself.top)
        np.testing.assert_array_equal(scores, with_itself.top_scores)


@pytest.mark.parametrize("name", ["image_plus_text", "image_plus_text_unit", "slerp", "weicom"])
def test_the_shares_of_image_and_text_add_up_to_the_score(name: str, space: Any, make: Make) -> None:
    gallery = space.gallery(ITEMS)
    queries = queries_of(space, gallery)
    scorer = make(name).prepare(gallery)
    assert isinstance(scorer, Explains)
    rows = torch.arange(ITEMS).expand(QUERIES, -1)
    scores = scorer(queries, rows) + (name == "weicom")  # its scores are less 1
    for reasons, row in zip(scorer.why(queries, rows), scores.tolist(), strict=True):
        for reason, score in zip(reasons, row, strict=True):
            image, text = (float(part.split()[-1]) for part in reason.split(", "))
            assert image + text == pytest.approx(score, abs=0.011)
