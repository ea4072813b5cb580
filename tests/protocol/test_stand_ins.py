"""From the real files to pixels: every picture of the real ids loads, and every real box crops as the protocol says."""

from __future__ import annotations

import importlib.util
import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from condsim.datasets import circo, cirr, cola, fashioniq, genecis, icir, revisited
from condsim.datasets.circo_submission import faults
from condsim.harness.images import crop_to_square
from condsim.harness.task import Task
from running import run_condsim as condsim

pytestmark = pytest.mark.slow

TEMPLATES, QUERIES = 12, 60
TOY = Path(__file__).parents[1] / "user_folder"
OF_NAMES = ("--config-dir", str(TOY), "method=image_plus_text", "backbone=toy")
"""Features of the pictures' names: encoding thousands of pictures takes most of a test's time."""


@pytest.fixture
def own_folder(tmp_path: Path) -> Path:
    """A current folder with the module of ``backbone=toy``."""
    shutil.copy(TOY / "toy.py", tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def stand_ins() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render_stand_ins", Path(__file__).with_name("render_stand_ins.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(task: Task) -> Iterator[tuple[int, Image.Image]]:
    for row in range(len(task.images)):
        with Image.open(task.images.path(row)) as image:
            yield row, image


def test_genecis(stand_ins: ModuleType, genecis_templates: Path, tmp_path: Path) -> None:
    benchmark = genecis.load(**stand_ins.render_genecis(genecis_templates, tmp_path, TEMPLATES))
    assert [len(task) for task in benchmark.tasks] == [TEMPLATES] * 4
    for task in benchmark.tasks[:2]:
        for row, image in rows(task):
            x, y, w, h = task.images.boxes[row]
            left, top = max(0, x - 0.7 * w), max(0, y - 0.7 * h)
            right, bottom = min(image.width, left + 1.7 * w), min(image.height, top + 1.7 * h)
            longer = max(round(right) - round(left), round(bottom) - round(top))
            assert crop_to_square(image, task.images.boxes[row]).size == (longer, longer)
    for task in benchmark.tasks[2:]:
        assert all(image.size == (96, 72) for _, image in rows(task))


def test_cirr(stand_ins: ModuleType, cirr_annotations: Path, tmp_path: Path) -> None:
    (task,) = cirr.load(**stand_ins.render_cirr(cirr_annotations, tmp_path, QUERIES)).tasks
    assert (len(task), len(task.images)) == (QUERIES, 2_297)
    assert all(image.size == (48, 36) for _, image in rows(task))


def test_cirr_test1_from_the_real_file_to_the_servers_two_files(
    stand_ins: ModuleType, cirr_annotations: Path, own_folder: Path
) -> None:
    tmp_path = own_folder
    options = stand_ins.render_cirr(cirr_annotations, tmp_path / "cirr", QUERIES, "test1")
    run = ("bench", *OF_NAMES, "benchmark=cirr", *options_of(options))
    output = condsim(*run, folder=tmp_path)
    (place,) = tmp_path.glob("results/runs/cirr/test1/*/submission")
    assert f"files for the benchmark's own server: {place.relative_to(tmp_path)}" in output
    entries = json.loads((tmp_path / "cirr" / "captions" / "cap.rc2.test1.json").read_text())
    gallery = set(cirr.read_split(tmp_path / "cirr", "test1"))
    for metric, length in (("recall", 50), ("recall_subset", 3)):
        value = json.loads((place / f"cirr_test1_{metric}.json").read_text())
        assert list(value) == sorted(["version", "metric", *(str(entry["pairid"]) for entry in entries)])
        assert (value["version"], value["metric"]) == ("rc2", metric)
        for entry in entries:
            names = value[str(entry["pairid"])]
            assert len(names) == len(set(names)) == length
            assert set(names) <= (gallery if metric == "recall" else set(entry["img_set"]["members"]))
            assert entry["reference"] not in names
    record = json.loads((place.parent / "record.json").read_text())
    assert (record["metrics"], record["queries"]) == ({}, QUERIES)
    for command in ("leaderboard", "report", "plot"):  # none of them stumbles over a run without metrics
        condsim(command, folder=tmp_path)
    assert "its ground truth is withheld" in condsim("compare", folder=tmp_path)
    assert (tmp_path / "results" / "leaderboard.csv").read_text().count("cirr,test1,image_plus_text") == 1
    output = condsim(*run, folder=tmp_path)
    assert "1 already done" in output
    assert f"own server: {place.relative_to(tmp_path)}" in output


def options_of(options: dict[str, str]) -> list[str]:
    return [f"benchmark.{key}={value}" for key, value in options.items()]


def test_circo_from_the_real_files_to_a_row_and_the_servers_file(
    stand_ins: ModuleType, circo_folder: Path, own_folder: Path
) -> None:
    tmp_path = own_folder
    for split in circo.SPLITS:
        options = stand_ins.render_circo(circo_folder / "annotations", tmp_path / "circo", 20, split)
        condsim("bench", *OF_NAMES, "benchmark=circo", *options_of(options), folder=tmp_path)
    (val,) = tmp_path.glob("results/runs/circo/val/*/record.json")
    record = json.loads(val.read_text())
    assert record["queries"] == 20
    assert set(record["metrics"]) == set(circo.METRICS)
    expected = 10 / len(json.loads((tmp_path / INFO).read_text())["images"])
    assert record["metrics"]["target_recall@10"]["chance"] == pytest.approx(expected)
    (path,) = tmp_path.glob("results/runs/circo/test/*/submission/circo_test.json")
    assert not list(faults(json.loads(path.read_text()), 20))
    assert (tmp_path / "results" / "leaderboard.csv").read_text().count("circo,val,image_plus_text") == 1


INFO = "circo/COCO2017_unlabeled/annotations/image_info_unlabeled2017.json"


def test_cola_from_the_real_file_to_its_group_score(stand_ins: ModuleType, annotations: Path, tmp_path: Path) -> None:
    file = annotations / "binding" / "cola" / "multiobjects.json"
    if not file.is_file():
        pytest.skip(f"{annotations} has no binding/cola/multiobjects.json")
    options = stand_ins.render_cola(file, tmp_path / "cola", 40)
    run = ("bench", "benchmark=cola", "method=text_only", "backbone=shapes-clip", "cache_dir=cache")
    condsim(*run, *options_of(options), folder=tmp_path)
    (path,) = tmp_path.glob("results/runs/cola/multi_object/*/record.json")
    record = json.loads(path.read_text())
    (task,) = cola.load(**options).tasks
    right = np.load(path.with_name("top.npy"))[:, 0] == task.relevant.values
    assert record["metrics"]["recall@1"]["value"] == pytest.approx(right.mean())
    assert record["metrics"]["grouped_recall@1"]["value"] == pytest.approx(right.reshape(40, 2).all(axis=1).mean())
    assert record["metrics"]["grouped_recall@1"]["chance"] == pytest.approx(0.25)
    assert (record["queries"], record["clusters"], record["cluster_name"]) == (80, 40, "entry")
    assert (tmp_path / "results" / "leaderboard.csv").read_text().count("cola,multi_object,text_only") == 1


def test_fashioniq_from_the_real_files_to_its_means(
    stand_ins: ModuleType, fashioniq_annotations: Path, tmp_path: Path
) -> None:
    options = stand_ins.render_fashioniq(fashioniq_annotations, tmp_path / "fashioniq", 15)
    run = ("benchmark=fashioniq", "method=image_plus_text", "backbone=shapes-clip", "cache_dir=cache")
    condsim("bench", *run, *options_of(options), folder=tmp_path)
    rows = (tmp_path / "results" / "leaderboard.csv").read_text()
    for task in (*fashioniq.CATEGORIES, "average", "average@10", "average@50"):
        assert rows.count(f"fashioniq,{task},image_plus_text") == 1
    (tmp_path / "ids.txt").write_text("0\n3\n7\n")
    condsim(
        "bench", *run, *options_of(options), "benchmark.text=pic2word", "queries_from=ids.txt", "tasks=[shirt]",
        folder=tmp_path,
    )  # fmt: skip
    records = [json.loads(path.read_text()) for path in tmp_path.glob("results/runs/fashioniq/shirt/*/record.json")]
    assert {(record["queries"], record["variant"]) for record in records} == {
        (15, ""), (3, "text=pic2word queries_from=ids.txt"),
    }  # fmt: skip
    assert len({record["config"]["fingerprint"] for record in records}) == 2


def test_icir_from_lists_in_its_format_to_its_three_means(stand_ins: ModuleType, tmp_path: Path) -> None:
    """i-CIR's lists are not at hand: small ones in their format, with as many texts per instance."""
    database, queries = [], []
    for instance in range(4):
        for number in range(12):
            text = ("at night", "as a sketch", "in the snow", "")[number % 4]
            database.append((f"icir/database/{instance}/{number}.jpg", text, str(instance)))
        queries += [(f"icir/query/{instance}/0.jpg", text, str(instance)) for text in ("at night", "as a sketch")]
    for path, *_ in (*database, *queries):
        stand_ins.draw(tmp_path / path, (48, 36))
    for name, lines in (("database", database), ("query", queries)):
        (tmp_path / "icir" / f"{name}_files.csv").write_text("".join(",".join(line) + "\n" for line in lines))
    run = ("benchmark=icir", "backbone=shapes-clip", "cache_dir=cache", "method=image_only,text_only,image_plus_text")
    options = {"annotations": str(tmp_path / "icir"), "images": str(tmp_path / "icir")}
    condsim("bench", "-m", *run, *options_of(options), folder=tmp_path)
    records = [json.loads(path.read_text()) for path in tmp_path.glob("results/runs/icir/test/*/record.json")]
    assert len(records) == 3
    for record in records:
        assert (record["queries"], record["clusters"], record["cluster_name"]) == (8, 4, "instance")
        assert set(record["metrics"]) == set(icir.METRICS)
    assert (tmp_path / "results" / "leaderboard.csv").read_text().count("icir,test,image_plus_text") == 1


def test_ltll_from_the_real_list_to_its_mean(
    stand_ins: ModuleType, domain_conversion_lists: Path, tmp_path: Path
) -> None:
    for line in (domain_conversion_lists / "ltll_full_files.csv").read_text().splitlines():
        stand_ins.draw(tmp_path / "images" / line.split()[0], (32, 24))
    run = ("benchmark=domain_conversion", "benchmark.dataset=ltll", "backbone=shapes-clip", "cache_dir=cache")
    options = {"annotations": str(domain_conversion_lists), "images": str(tmp_path / "images")}
    condsim("check", *run[:2], *options_of(options), folder=tmp_path)
    condsim("bench", *run, *options_of(options), "method=image_plus_text_unit", folder=tmp_path)
    rows = (tmp_path / "results" / "leaderboard.csv").read_text()
    for task in ("source_today", "source_archive", "average"):
        assert rows.count(f"ltll,{task},image_plus_text_unit") == 1


def trapezoids(places: list[int]) -> float:
    """revisitop's average precision of zero-based places of the positives, from its definition."""
    areas = [((j / place if place else 1.0) + (j + 1) / (place + 1)) / 2 for j, place in enumerate(places)]
    return sum(areas) / len(areas)


def precision_to_last(places: list[int], k: int) -> float:
    reach = min(max(places) + 1, k)
    return sum(place < reach for place in places) / reach


def test_roxford_from_a_pickle_to_revisitops_numbers(stand_ins: ModuleType, tmp_path: Path) -> None:
    """The published ground truth is not at hand: a pickle in its format, evaluated once more from lists of images."""
    draws = np.random.default_rng(5)
    names = [f"oxford_{i:06d}" for i in range(40)]
    entries: list[dict[str, Any]] = []
    for query in range(6):
        easy, hard, junk = np.split(draws.permutation(40)[:15], [4, 9])
        stand_ins.draw(tmp_path / "data" / "roxford5k" / "jpg" / f"query_{query}.jpg", (60, 40))
        entries.append({"bbx": [4.5, 3.2, 40.5, 33.9], "easy": easy, "hard": hard, "junk": junk})
    for name in names:
        stand_ins.draw(tmp_path / "data" / "roxford5k" / "jpg" / f"{name}.jpg", (48, 36))
    truth = {"imlist": names, "qimlist": [f"query_{i}" for i in range(6)], "gnd": entries}
    (tmp_path / "data" / "roxford5k" / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(truth, protocol=2))
    run = ("benchmark=revisited", "benchmark.dataset=roxford5k", "backbone=shapes-clip", "cache_dir=cache", "top=40")
    condsim("bench", *run, f"benchmark.images={tmp_path / 'data'}", "method=image_only", folder=tmp_path)
    for difficulty, kinds in revisited.DATASETS["roxford5k"].relevant.items():
        (path,) = tmp_path.glob(f"results/runs/roxford5k/{difficulty}/*/record.json")
        record = json.loads(path.read_text())
        precision: list[float] = []
        at: dict[int, list[float]] = {k: [] for k in (1, 5, 10)}
        for entry, ranked in zip(entries, np.load(path.with_name("top.npy")), strict=True):
            positives = {int(row) for kind in kinds for row in entry[kind]}
            others = {int(row) for kind in revisited.DATASETS["roxford5k"].lists for row in entry[kind]} - positives
            order = [int(row) for row in ranked if row >= 0]
            assert set(order) == set(range(40)) - others
            places = [place for place, row in enumerate(order) if row in positives]
            precision.append(trapezoids(places))
            for k, values in at.items():
                values.append(precision_to_last(places, k))
        assert record["metrics"]["map_trapezoid"]["value"] == pytest.approx(np.mean(precision), abs=1e-6)
        for k, values in at.items():
            assert record["metrics"][f"mp@{k}"]["value"] == pytest.approx(np.mean(values), abs=1e-6)
    assert (tmp_path / "results" / "leaderboard.csv").read_text().count("roxford5k,hard,image_only") == 1
