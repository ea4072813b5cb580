"""The world on disk: complete, in the real formats, the same for a seed, and never half written."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from condsim.datasets import circo, fashioniq, templates
from condsim.datasets.shapes import domains, export, garments
from condsim.datasets.shapes import world as w
from condsim.datasets.shapes.kept_tasks import keep, read_kept
from condsim.datasets.shapes.sizes import WORLD_VERSION, WorldSizes
from condsim.datasets.shapes.world_tasks import read_binding, read_domains, read_world
from condsim.methods.shared.object_parts import object_phrases

pytestmark = pytest.mark.slow

SIZES = WorldSizes(
    attribute_scenes=300, object_scenes=300, templates=60, mit_test_images=2, mit_train_images=1, cirr_val_sets=4,
    cirr_train_sets=3, cirr_queries=7, labelled_test=30, labelled_val=10, labelled_train=20, instances=6,
    instance_views=3, instance_distractors=20, captioned=25, circo_sets=4, garments=120, garment_queries=15,
    binding_queries=2, domain_images=3, domain_queries=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export.ensure_world(tmp_path_factory.mktemp("cache"), seed=3, sizes=SIZES)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.parametrize(("task", "distractors"), [("focus_attribute", 9), ("change_attribute", 14)])
def test_attribute_tasks_are_in_genecis_form(world: Path, task: str, distractors: int) -> None:
    entries, kinds = read(world / f"genecis/{task}.json"), read(world / f"genecis/{task}.kinds.json")
    assert len(entries) == len(kinds) == 60
    for entry, kind in zip(entries, kinds, strict=True):
        assert list(entry) == ["reference", "target", "gallery", "condition"]
        assert len(entry["gallery"]) == len(kind) == distractors
        for item in (entry["reference"], entry["target"], *entry["gallery"]):
            assert isinstance(item["image_id"], str)
            x, y, width, height = item["instance_bbox"]
            with Image.open(world / f"genecis/vg/{item['image_id']}.jpg") as image:
                assert 0 <= x < x + width <= image.width + 0.01
                assert 0 <= y < y + height <= image.height + 0.01
    conditions = {entry["condition"] for entry in entries}
    if task == "focus_attribute":
        assert conditions == {"color", "texture", "shape", "background", "pattern"}
    else:
        assert conditions <= {v for values in w.ATTRIBUTES.values() for v in values}


@pytest.mark.parametrize("task", ["focus_object", "change_object"])
def test_object_tasks_are_in_genecis_form(world: Path, task: str) -> None:
    entries, kinds = read(world / f"genecis/{task}.json"), read(world / f"genecis/{task}.kinds.json")
    assert len(entries) == len(kinds) == 60
    for entry, kind in zip(entries, kinds, strict=True):
        assert Counter(kind) == {templates.CLOSE_WITHOUT: 9, templates.FAR_WITH: 5}
        for item in (entry["reference"], entry["target"], *entry["gallery"]):
            assert (world / f"genecis/coco/{item['val_image_id']:012d}.jpg").is_file()


@pytest.mark.parametrize("task", ["focus_object", "change_object"])
def test_the_table_of_categories_says_what_the_pictures_show(world: Path, task: str) -> None:
    seen: dict[str, set[str]] = {}
    with (world / "genecis/coco/categories.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            seen.setdefault(row["image"], set()).add(row["category"])
    assert set(seen) == {path.name for path in (world / "genecis/coco").glob("*.jpg")}
    for entry in read(world / f"genecis/{task}.json"):
        reference, target = (seen[f"{entry[part]['val_image_id']:012d}.jpg"] for part in ("reference", "target"))
        assert entry["condition"] in target
        assert (entry["condition"] in reference) == (task == "focus_object")
        assert len(reference & target) >= 2


def test_mit_states_folders_are_an_adjective_and_a_noun(world: Path) -> None:
    nouns = read(world / "mit_states/test_nouns.json")
    counts = Counter(p.parent.name for p in world.glob("mit_states/images/*/*.jpg"))
    for folder, count in counts.items():
        adjective, noun = folder.split(" ")
        assert adjective in (*w.COLORS, *w.TEXTURES)
        assert count == (2 if noun in nouns else 1)
        assert adjective in export.states_of(noun)
    assert all(len({folder for folder in counts if folder.endswith(f" {noun}")}) == 6 for noun in nouns)
    assert {f.split(" ")[1] for f in counts} == {f"{size}-{shape}" for size in w.SIZES for shape in w.SHAPES}


@pytest.mark.parametrize(("split", "sets"), [("val", 4), ("train", 3)])
def test_cirr_has_the_real_keys_and_consistent_sets(world: Path, split: str, sets: int) -> None:
    entries = read(world / f"cirr/captions/cap.rc2.{split}.json")
    files = json.loads((world / f"cirr/image_splits/split.rc2.{split}.json").read_text())
    assert len(entries) == 7 * sets
    assert len(files) == 6 * sets
    assert all((world / "cirr" / f).is_file() for f in files.values())
    assert all(f.startswith("./dev/" if split == "val" else "./train/") for f in files.values())
    keys = ["pairid", "reference", "target_hard", "target_soft", "caption", "img_set"]
    for entry in entries:
        assert list(entry) == keys
        members = entry["img_set"]["members"]
        assert len(set(members)) == 6
        assert {entry["reference"], entry["target_hard"]} <= set(members) <= set(files)
        assert entry["target_soft"] == {entry["target_hard"]: 1.0}
        assert entry["caption"]


def test_pair_ids_are_unique_over_the_splits(world: Path) -> None:
    ids = [e["pairid"] for s in ("val", "train") for e in read(world / f"cirr/captions/cap.rc2.{s}.json")]
    assert len(set(ids)) == len(ids)


def test_labelled_tables_hold_their_splits_combinations(world: Path) -> None:
    for split in w.SPLITS:
        with (world / f"labelled/{split}.csv").open() as file:
            rows = list(csv.DictReader(file))
        allowed = w.allowed_combinations(split)
        for row in rows:
            assert (world / "labelled" / row["image"]).is_file()
            named = (w.SHAPES.index(row["shape"]), w.COLORS.index(row["color"]), w.TEXTURES.index(row["texture"]))
            assert allowed[named]
        assert ("caption" in rows[0]) == (split == "train")


def test_the_query_of_an_instance_is_a_picture_that_is_not_in_the_gallery(world: Path) -> None:
    tables = {}
    for name in ("image_queries", "text_queries", "gallery"):
        with (world / f"instance/{name}.csv").open() as file:
            tables[name] = list(csv.DictReader(file))
    gallery = {row["image"] for row in tables["gallery"]}
    assert all((world / "instance" / image).is_file() for image in gallery)
    assert len(tables["image_queries"]) == 6
    positives = [row["positives"].split("|") for row in tables["image_queries"]]
    assert all(len(own) == 2 and set(own) <= gallery for own in positives)
    assert len({image for own in positives for image in own}) == 12
    assert not {row["image"] for row in tables["image_queries"]} & gallery
    assert [row["positives"] for row in tables["text_queries"]] == [row["positives"] for row in tables["image_queries"]]
    for row in tables["text_queries"]:
        size, texture, color, shape = row["text"].split(" ")
        assert size in w.SIZES
        assert w.allowed_combinations("test")[w.SHAPES.index(shape), w.COLORS.index(color), w.TEXTURES.index(texture)]


def test_captioned_pictures_exist(world: Path) -> None:
    with (world / "captions/train.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 25
    assert all((world / "captions" / r["image"]).is_file() and r["caption"] for r in rows)


def test_the_seed_decides_every_byte(world: Path, tmp_path: Path) -> None:
    small = WorldSizes(
        attribute_scenes=100, object_scenes=100, templates=5, mit_test_images=1, mit_train_images=1, cirr_val_sets=1,
        cirr_train_sets=1, cirr_queries=3, labelled_test=5, labelled_val=5, labelled_train=5, instances=5,
        instance_views=2, instance_distractors=5, captioned=5, circo_sets=1, garments=5,
        garment_queries=2, binding_queries=1, domain_images=1, domain_queries=1,
    )  # fmt: skip
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        export.write_world(tmp_path / name, seed, small)

    def content(name: str) -> dict[str, bytes]:
        root = tmp_path / name
        return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    assert content("a") == content("b") != content("c")


def test_a_second_call_writes_nothing(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "write_world", lambda *_: pytest.fail("written twice"))
    assert export.ensure_world(world.parent, seed=3, sizes=SIZES) == world


def test_a_world_that_failed_half_way_is_not_taken_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(root: Path, *_: object) -> None:
        root.mkdir()
        (root / "half.txt").write_text("half")
        raise KeyboardInterrupt

    def write(root: Path, _: int, sizes: WorldSizes, folders: tuple[str, ...]) -> None:
        assert not root.exists()
        for folder in folders:
            (root / folder).mkdir(parents=True)

    monkeypatch.setattr(export, "write_world", fail)
    with pytest.raises(KeyboardInterrupt):
        export.ensure_world(tmp_path)
    assert not [p for p in tmp_path.iterdir() if p.is_dir() and not p.name.endswith(".part")]
    monkeypatch.setattr(export, "write_world", write)
    made = export.ensure_world(tmp_path)
    assert made.is_dir()
    assert f"v{WORLD_VERSION}" in made.name
    assert not (made / "half.txt").exists()


def test_a_part_that_an_earlier_release_did_not_have_is_added_and_the_others_stay(world: Path, tmp_path: Path) -> None:
    before = {path.name: path.stat().st_ino for path in world.iterdir()}
    shutil.copytree(world / "domains", tmp_path / "domains")
    shutil.rmtree(world / "domains")
    assert export.ensure_world(world.parent, seed=3, sizes=SIZES) == world
    after = {path.name: path.stat().st_ino for path in world.iterdir()}
    assert {k: v for k, v in after.items() if k != "domains"} == {k: v for k, v in before.items() if k != "domains"}
    files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 3 * 10 * 5 + 2
    assert all((world / file).read_bytes() == (tmp_path / file).read_bytes() for file in files)


def test_drawings_are_in_the_form_of_domain_conversion(world: Path) -> None:
    benchmark = read_domains(world, "toy")
    assert [task.name for task in benchmark.tasks] == ["source_filled", "source_outline", "source_hatched"]
    assert benchmark.headlines == {"average": tuple((task.name, "map_trapezoid_eps") for task in benchmark.tasks)}
    for task in benchmark.tasks:
        source = task.name.removeprefix("source_")
        assert len(task) == 10 * SIZES.domain_queries * 2
        assert len(task.gallery_rows) == 3 * 10 * SIZES.domain_images
        assert all(task.images.path(row).is_file() for row in range(len(task.images)))
        for query in range(len(task)):
            domain, shape, _ = task.images.names[task.reference[query]].split("/")
            (word,) = task.conditions[task.condition[query]]
            (target,) = (d.listed for d in domains.DOMAINS if d.word == word)
            relevant = [task.images.names[row] for row in task.relevant[query]]
            assert domain == source != target
            assert len(relevant) == SIZES.domain_images
            assert {name.rpartition("/")[0] for name in relevant} == {f"{target}/{shape}"}


def test_drawings_are_objects_of_their_split_with_the_texture_of_their_domain() -> None:
    sample = domains.sample_drawings(np.random.default_rng(0), 4, "test")
    scenes = sample.scenes
    words = {domain.listed: domain.word for domain in domains.DOMAINS}
    assert [w.TEXTURES[t] for t in scenes.texture[:, 0]] == [words[name] for name in sample.domains]
    assert [w.SHAPES[s] for s in scenes.shape[:, 0]] == sample.shapes
    assert w.allowed_combinations("test")[scenes.shape[:, 0], scenes.color[:, 0], scenes.texture[:, 0]].all()
    assert (scenes.count == 1).all()


def test_several_positives_are_in_circos_form(world: Path) -> None:
    entries = read(world / "circo/annotations/val.json")
    assert len(entries) == 5 * SIZES.circo_sets
    info = read(world / "circo/COCO2017_unlabeled/annotations/image_info_unlabeled2017.json")
    files = {image["id"]: image["file_name"] for image in info["images"]}
    assert all((world / "circo/COCO2017_unlabeled/unlabeled2017" / file).is_file() for file in files.values())
    assert {len(entry["gt_img_ids"]) for entry in entries} <= {1, 2, 3, 4}
    assert max(len(entry["gt_img_ids"]) for entry in entries) > 1
    (task,) = circo.load(str(world / "circo"), str(world / "circo/COCO2017_unlabeled")).tasks
    assert (len(task), len(task.gallery_rows)) == (len(entries), len(files))
    assert task.target is not None
    named = [int(task.images.names[row].split(".")[0]) for row in task.target]
    assert named == [entry["target_img_id"] for entry in entries]


def test_garments_are_in_fashioniqs_form(world: Path) -> None:
    benchmark = fashioniq.load(str(world / "fashioniq"), str(world / "fashioniq/images"))
    assert [(task.name, len(task), len(task.gallery_rows)) for task in benchmark.tasks] == [
        (category, SIZES.garment_queries, SIZES.garments) for category in fashioniq.CATEGORIES
    ]
    assert set(benchmark.headlines) == {"average@10", "average@50", "average"}


@pytest.mark.parametrize("category", garments.CATEGORIES)
def test_each_garment_query_has_one_positive(category: str) -> None:
    sample = garments.sample_garments(np.random.default_rng(0), category, 400, 150, "test")
    scenes = sample.scenes
    columns = (scenes.shape[:, 0], scenes.size[:, 0], scenes.color[:, 0], scenes.texture[:, 0], scenes.background)
    kinds = [tuple(map(int, kind)) for kind in zip(*columns, strict=True)]
    assert len(set(kinds)) == len(kinds) == 400
    allowed = w.allowed_combinations("test")
    assert all(allowed[shape, color, texture] for shape, _, color, texture, _ in kinds), "no training combination"
    assert len({reference for reference, *_ in sample.queries}) == len(sample.queries) == 150
    for reference, target, captions in sample.queries:
        words = " ".join(captions).split()
        (value,) = {word for word in words if word in (*w.COLORS, *w.TEXTURES)}
        shape, size, color, texture, background = kinds[reference]
        if value in w.COLORS:
            wanted, column = (shape, size, w.COLORS.index(value), texture, background), 2
        else:
            wanted, column = (shape, size, color, w.TEXTURES.index(value), background), 3
        assert kinds[target] == wanted != kinds[reference]
        named = [kind for kind in kinds if kind[column] == wanted[column]]
        assert len(named) > 20, "so the captions alone leave the target at less than an even chance in the top 10"


def test_binding_is_in_colas_form_and_its_table_of_parts_is_the_truth(world: Path) -> None:
    entries, labels = (read(world / f"binding/{name}.json") for name in ("pairs", "pairs.labels"))
    assert len(entries) == len(labels) == 6 * SIZES.binding_queries
    with (world / "binding/images/parts.csv").open(newline="") as file:
        parts: dict[str, set[str]] = {}
        for row in csv.DictReader(file):
            parts.setdefault(row["image"], set()).add(row["category"])
    assert set(parts) == {path.name for path in (world / "binding/images").glob("*.jpg")}
    task = read_binding(world / "binding", "shapes")
    assert task.candidates is not None
    assert (task.metrics, len(task), task.candidates.lengths.tolist()) == (
        ("recall@1", "recall@2"), len(entries), [6] * len(entries)
    )  # fmt: skip
    for i, entry in enumerate(entries):
        text, target = entry[1], parts[entry[0]]
        assert set(object_phrases(text)) == target
        assert all(parts[image] != target for image in entry[2::2])
        assert task.images.names[task.relevant[i][0]] == entry[0]


def test_the_kept_tasks_are_those_of_the_loaders(world: Path, tmp_path: Path) -> None:
    loaded = read_world(world, "shapes", "split=val")
    keep(tmp_path / "tasks", b"0" * 16, loaded)
    kept = read_kept(tmp_path / "tasks", b"0" * 16)
    assert kept is not None
    assert repr(kept) == repr(loaded)
    assert [task.fingerprint for task in kept.tasks] == [replace(task).fingerprint for task in loaded.tasks]
    tables = [[id(task.images) for task in benchmark.tasks] for benchmark in (kept, loaded)]
    first = [[ids.index(table) for table in ids] for ids in tables]
    assert first[0] == first[1], "tasks that share a table still do"
