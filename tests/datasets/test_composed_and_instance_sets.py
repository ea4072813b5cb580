"""INSTRE, Oxford5k, GLDv2, PatternCom, LaSCo, MA-CIR and Zappos: small files in the published formats, read and run."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import get_method
from PIL import Image
from scipy.io import savemat

from condsim.datasets.check import check
from condsim.harness.commands.bench import bench
from condsim.harness.errors import CondsimError
from condsim.harness.task import Benchmark, Task
from running import benchmark_settings


@dataclass
class Files:
    """A stand-in on disk: its benchmark, the settings of its paths, and the files that tests change."""

    benchmark: str
    settings: dict[str, str]
    lists: dict[str, Path] = field(default_factory=dict)

    def config(self, **more: Any) -> dict[str, Any]:
        return {**benchmark_settings(self.benchmark), **self.settings, **more}

    def load(self, **more: Any) -> Benchmark:
        config = self.config(**more)
        benchmark: Benchmark = get_method(config.pop("_target_"))(**config)
        return benchmark


def draw(path: Path, *names: str) -> None:
    """Small pictures of different colors."""
    for i, name in enumerate(names):
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 10), (40 * i % 256, 90, 255 - 20 * i % 256)).save(file)


def cells(*values: object) -> np.ndarray[Any, Any]:
    """A MATLAB cell array, one row."""
    array = np.empty((1, len(values)), dtype=object)
    array[0, :] = [np.array([value]) if isinstance(value, str) else value for value in values]
    return array


INSTRE_IMAGES = ("INSTRE-S1/01a_cup/001.jpg", "INSTRE-S1/01a_cup/002.jpg", "INSTRE-S2/02_toy/001.jpg")
INSTRE_QUERIES = ("INSTRE-S1/01a_cup/003.jpg", "INSTRE-M/02_pair/001.jpg")


def write_instre(path: Path, boxes: tuple[list[float], list[float]]) -> None:
    entries = np.empty((1, 2), dtype=[("ok", object), ("bbx", object)])
    for i, positives in enumerate(([1, 2], [3])):
        entries[0, i] = np.array([positives], dtype=np.uint16), np.array([boxes[i]])
    savemat(path, {"imlist": cells(*INSTRE_IMAGES), "qimlist": cells(*INSTRE_QUERIES), "gnd": entries})


def instre(root: Path) -> Files:
    draw(root, *INSTRE_IMAGES, *INSTRE_QUERIES)
    truth = root / "gnd_instre.mat"
    write_instre(truth, ([4.0, 2.0, 3.0, 6.0], [1.0, 1.0, 9.0, 8.0]))
    return Files("instre", {"images": str(root)}, {"truth": truth})


def oxford5k(root: Path) -> Files:
    names = [f"oxford_{i:06d}" for i in range(5)]
    draw(root / "oxford5k" / "jpg", *(f"{name}.jpg" for name in names))
    draw(root / "flickr100k" / "jpg", "b/2.jpg", "a/1.jpg")
    gnd = [{"bbx": [1.0, 1.0, 6.0, 7.0], "ok": np.array([2, 0]), "junk": np.array([4])}]
    truth = {"imlist": names, "qimlist": ["oxford_000002"], "gnd": gnd}
    (root / "oxford5k" / "gnd_oxford5k.pkl").write_bytes(pickle.dumps(truth, protocol=2))
    return Files("revisited", {"dataset": "oxford5k", "name": "oxford5k", "images": str(root)})


GLDV2 = [f"{i:x}b{i:x}d{'0' * 12}" for i in range(4)]
GLDV2_TESTS = [f"{i:x}e{i:x}f{'1' * 12}" for i in range(4)]


def gldv2(root: Path) -> Files:
    for folder, idents in (("index", GLDV2), ("test", GLDV2_TESTS[:3])):
        draw(root / "images", *(f"{folder}/{i[0]}/{i[1]}/{i[2]}/{i}.jpg" for i in idents))
    (root / "index.csv").write_text("\n".join(["id", *GLDV2]))
    solution = root / "retrieval_solution_v2.1.csv"
    rows = (
        f"{GLDV2_TESTS[0]},{GLDV2[3]} {GLDV2[1]},Private",
        f"{GLDV2_TESTS[1]},{GLDV2[0]},Public",
        f"{GLDV2_TESTS[3]},None,Ignored",
        f"{GLDV2_TESTS[2]},{GLDV2[2]},Private",
    )
    solution.write_text("\n".join(["id,images,Usage", *rows]))
    return Files("gldv2", {"annotations": str(root), "images": str(root / "images")}, {"solution": solution})


PATTERNNET = ("bridge001", "overpass001", "overpass002", "river001", "river002", "forest001")


def patterncom(root: Path) -> Files:
    draw(root / "images", *(f"{name[:-3]}/{name}.jpg" for name in PATTERNNET))
    lines = {
        "context": ("bridge001,{},water", "overpass001,{},road", "overpass002,{},rail"),
        "color": (
            "bridge001,{},red",
            "bridge001,{},gray",
            "overpass001,{},red",
            "river001,{},green",
            "river002,{},brown",
        ),
    }  # fmt: skip
    for name in ("color", "context", "density", "existence", "quantity", "shape"):
        rows = lines.get(name, ("river001,{},few", "river002,{},many"))
        text = "\n".join(row.format(name).replace(",", ".jpg,", 1) for row in rows)
        (root / "PatternCom").mkdir(exist_ok=True)
        (root / "PatternCom" / f"{name}.csv").write_text(text)
    settings = {"annotations": str(root), "images": str(root)}
    return Files("patterncom", settings, {"color": root / "PatternCom" / "color.csv"})


def lasco(root: Path) -> Files:
    def path(ident: int) -> str:
        return f"val2014/COCO_val2014_{ident:012d}.jpg"

    draw(root, *(path(ident) for ident in (42, 73, 74, 900)))
    corpus = [{"id": ident, "path": f"val/{path(ident)}"} for ident in (42, 73, 74)]
    queries = [
        {"qid": 42000, "query-image": [42, path(42)], "query-text": "The dog runs", "target-image": [74, path(74)]},
        {"qid": 42001, "query-image": [900, path(900)], "query-text": "It is red", "target-image": [73, path(73)]},
    ]
    (root / "lasco_val_corpus.json").write_text(json.dumps(corpus))
    (root / "lasco_val.json").write_text(json.dumps(queries))
    return Files("lasco", {"annotations": str(root), "images": str(root)}, {"queries": root / "lasco_val.json"})


MACIR = ("1.png", "1_edit_0.png", "1_edit_1.png", "2.png", "2_edit_0.png")


def macir(root: Path) -> Files:
    draw(root / "images", *MACIR)

    def query(reference: str, target: str, kind: str, change: str) -> dict[str, str]:
        return {
            "reference_image": reference, "target_image": target, "relative_caption": f"to {target}",
            "composition_type": kind, "condition_type": change,
        }  # fmt: skip

    queries = [
        query("1.png", "1_edit_1.png", "color", "remove"),
        query("2_edit_0.png", "2.png", "color", "add"),
        query("1_edit_0.png", "1.png", "action", "remove"),
    ]
    meta = root / "meta_data"
    meta.mkdir()
    for suffix in ("full", "remove", "replace", "add"):
        ids = "image_ids.json" if suffix == "full" else f"image_ids_{suffix}.json"
        kept = [q for q in queries if suffix in ("full", q["condition_type"])] or queries[1:2]
        (meta / f"macir_meta_{suffix}.json").write_text(json.dumps(kept))
        (meta / ids).write_text(json.dumps(MACIR))
    return Files("macir", {"annotations": str(root), "images": str(root)}, {"full": meta / "macir_meta_full.json"})


def zappos(root: Path) -> Files:
    names = [f"Shoes/Brand & Co/{i}.jpg" for i in range(5)]
    draw(root / "ut-zap50k-images", *names)
    (root / "filenames.json").write_text("\n".join(names))
    (root / "tripletlists").mkdir()
    for name in ("class", "closure", "gender", "heel"):
        (root / "tripletlists" / f"{name}_tripletlist_test.txt").write_text("4 0 3\n1 3 0\n")
    heel = root / "tripletlists" / "heel_tripletlist_test.txt"
    return Files("zappos", {"annotations": str(root), "images": str(root)}, {"heel": heel})


MAKERS: dict[str, Callable[[Path], Files]] = {
    maker.__name__: maker for maker in (instre, oxford5k, gldv2, patterncom, lasco, macir, zappos)
}


def named(task: Task) -> list[tuple[str, str, list[str]]]:
    """(reference, text, names of the relevant images) of each query."""
    texts = ["" if code < 0 else task.conditions[code][0] for code in task.condition]
    return [
        (task.images.names[row], text, [task.images.names[i] for i in task.relevant[query]])
        for query, (row, text) in enumerate(zip(task.reference, texts, strict=True))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
def test_a_run_leaves_a_record_and_a_row(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = MAKERS[name](tmp_path)
    monkeypatch.chdir(tmp_path)
    benchmark = files.load()
    with_text = bool(benchmark.tasks[0].conditions)
    settings = (f"benchmark.{key}={value}" for key, value in files.settings.items() if key != "name")
    board = bench(
        f"benchmark={files.benchmark}", *settings, "backbone=shapes-clip", "cache_dir=cache",
        "method=image_plus_text_unit" if with_text else "method=image_only",
    )  # fmt: skip
    records = [json.loads(path.read_text()) for path in tmp_path.glob(f"results/runs/{benchmark.name}/*/*/record.json")]
    assert {record["task"] for record in records} == {task.name for task in benchmark.tasks}
    for record in records:
        assert {*record["metrics"]} == {*benchmark.tasks[0].metrics}
        assert all(0 <= metric["value"] <= 1 for metric in record["metrics"].values())
    assert {entry.task for entry in board.entries} >= {task.name for task in benchmark.tasks}


@pytest.mark.parametrize("name", MAKERS)
def test_check_finds_every_file(name: str, tmp_path: Path) -> None:
    files = MAKERS[name](tmp_path)
    report = check(files.config())
    assert (report.missing, report.unreadable, report.problems) == ((), (), ())
    assert name == "macir" or all(part.found for part in report.parts), "MA-CIR has more types than the stand-in"
    by_name = {part.what: part for part in report.parts}
    assert by_name["images"].complete
    without = check(files.config(annotations=str(tmp_path / "nowhere"), images=str(tmp_path / "nowhere")))
    assert without.problems
    assert not without.complete


@pytest.mark.parametrize("name", MAKERS)
def test_without_the_images_the_task_is_the_same(name: str, tmp_path: Path) -> None:
    files = MAKERS[name](tmp_path)
    more: dict[str, Any] = {"images": None, "annotations": files.settings.get("annotations", str(tmp_path))}
    if name == "patterncom":
        (tmp_path / "gallery.txt").write_text("\n".join(sorted(f"{image}.jpg" for image in PATTERNNET)))
        more["gallery"] = str(tmp_path / "gallery.txt")
    tasks = files.load(**more).tasks
    with_images = files.load().tasks
    assert [task.fingerprint for task in tasks] == [task.fingerprint for task in with_images]
    Path(with_images[0].images.path(int(with_images[0].reference[0]))).unlink()
    with pytest.raises(CondsimError, match=r"`condsim check` lists every missing image|is not in the gallery"):
        files.load()


def test_instre_counts_from_one_and_reads_both_kinds_of_boxes(tmp_path: Path) -> None:
    files = instre(tmp_path)
    (task,) = files.load().tasks
    assert named(task) == [
        (INSTRE_QUERIES[0], "", list(INSTRE_IMAGES[:2])),
        (INSTRE_QUERIES[1], "", [INSTRE_IMAGES[2]]),
    ]
    assert task.full_name == "instre/test"
    assert (len(task.gallery_rows), task.metrics, task.images.crop) == (3, ("map_trapezoid",), "plain")
    boxes = [task.images.boxes[row].tolist() for row in task.reference]  # type: ignore[index]
    assert boxes == [[4, 2, 7, 8], [1, 1, 10, 9]], "x, y, width, height: the first box is no box of corners"
    write_instre(files.lists["truth"], ([4.0, 2.0, 7.0, 8.0], [1.0, 1.0, 10.0, 9.0]))
    (corners,) = files.load().tasks
    assert corners.fingerprint == task.fingerprint
    files.lists["truth"].write_bytes(b"MATLAB 5.0 and nothing more")
    with pytest.raises(CondsimError, match=r"gnd_instre\.mat: not a ground truth of INSTRE"):
        files.load()


def test_the_older_oxford_keeps_the_query_and_takes_out_junk(tmp_path: Path) -> None:
    files = oxford5k(tmp_path)
    (task,) = files.load().tasks
    assert named(task) == [("oxford_000002.jpg", "", ["oxford_000002.jpg", "oxford_000000.jpg"])]
    assert task.excluded is not None
    assert task.excluded[0].tolist() == [4]
    benchmark = files.load(distractors=True)
    assert benchmark.name == "oxford5k_100k"
    assert benchmark.tasks[0].images.names[5:7] == ("flickr100k/a/1.jpg", "flickr100k/b/2.jpg")
    assert all(benchmark.tasks[0].images.path(row).is_file() for row in range(8))
    with pytest.raises(CondsimError, match="instre has no distractors"):
        files.load(dataset="instre", distractors=True)


def test_gldv2_splits_by_usage_and_ignores_what_is_ignored(tmp_path: Path) -> None:
    files = gldv2(tmp_path)
    private, public = files.load().tasks
    assert (private.query_ids, public.query_ids) == ((GLDV2_TESTS[0], GLDV2_TESTS[2]), (GLDV2_TESTS[1],))
    assert [private.relevant[i].tolist() for i in range(2)] == [[3, 1], [2]]
    assert private.images.names[3] == f"index/3/b/3/{GLDV2[3]}.jpg"
    assert private.images.names[int(private.reference[1])] == f"test/2/e/2/{GLDV2_TESTS[2]}.jpg"
    text = files.lists["solution"].read_text()
    for old, new, message in (
        (",Public", ",public", "row 2: Usage: expected Private, Public or Ignored, found 'public'"),
        (GLDV2[0], "f" * 16, "row 2: the image 'ffffffffffffffff' is not in"),
        (GLDV2_TESTS[1], "../../x", "row 2: id: expected 16 digits"),
    ):
        files.lists["solution"].write_text(text.replace(old, new))
        with pytest.raises(CondsimError, match=message):
            files.load()
        assert [task.name for task in files.load(on_error="skip").tasks] == ["private"]


def test_patterncom_merges_classes_as_the_released_code_does(tmp_path: Path) -> None:
    tasks = {task.name: task for task in patterncom(tmp_path).load().tasks}
    # context: bridge and overpass are one class, for the texts and for the positives
    assert named(tasks["context"]) == [
        (f"{name}.jpg", text, [f"{target}.jpg"])
        for name, text, target in (
            ("bridge001", "road", "overpass001"),
            ("bridge001", "rail", "overpass002"),
            ("overpass001", "water", "bridge001"),
            ("overpass001", "rail", "overpass002"),
            ("overpass002", "water", "bridge001"),
            ("overpass002", "road", "overpass001"),
        )
    ]
    # color: a bridge's texts are the colors of bridges alone, but its positives are overpasses too; the last line of an
    # image says its color
    assert named(tasks["color"]) == [
        ("bridge001.jpg", "gray", ["bridge001.jpg"]),
        ("bridge001.jpg", "red", ["overpass001.jpg"]),
        ("river001.jpg", "brown", ["river002.jpg"]),
        ("river002.jpg", "green", ["river001.jpg"]),
    ]
    assert len(tasks["color"].gallery_rows) == len(PATTERNNET), "the query image and images without a value stay in it"


def test_patterncom_refuses_what_it_cannot_use(tmp_path: Path) -> None:
    files = patterncom(tmp_path)
    assert files.load().headlines["average"][0] == ("color", "map")
    assert "6 images, and PatternNet has 30,400" in files.load().notes[0]
    assert [task.name for task in files.load(tasks=["shape"]).tasks] == ["shape"]
    with pytest.raises(CondsimError, match="Did you mean 'shape'"):
        files.load(tasks=["shap"])
    with pytest.raises(CondsimError, match=r"benchmark\.images is not set.*set benchmark\.gallery"):
        files.load(images=None)
    text = files.lists["color"].read_text()
    for line, message in (
        ("river009.jpg,color,red", r"line 1: the image river009\.jpg is not in the gallery"),
        ("river001.jpg,red", "line 1: expected filename,attribute,value"),
    ):
        files.lists["color"].write_text(f"{line}\n{text}")
        with pytest.raises(CondsimError, match=message):
            files.load()
        assert len(files.load(on_error="skip", tasks=["color"]).tasks[0]) == 4


def test_lasco_finds_images_by_coco_id(tmp_path: Path) -> None:
    files = lasco(tmp_path)
    (task,) = files.load().tasks
    image = "COCO_val2014_{:012d}.jpg".format
    assert named(task) == [(image(42), "The dog runs", [image(74)]), (image(900), "It is red", [image(73)])]
    assert task.gallery_rows.tolist() == [0, 1, 2], "the corpus, with the first reference and without the second"
    assert (task.query_ids, task.excluded) == (("42000", "42001"), None)
    queries = json.loads(files.lists["queries"].read_text())
    for change, message in (
        (
            {"target-image": [900, "val2014/COCO_val2014_000000000900.jpg"]},
            r"entry 1: target-image: .*900\.jpg is not in",
        ),
        (
            {"target-image": [74, "val2014/COCO_val2014_000000000073.jpg"]},
            "entry 1: the file of image 74 should end in",
        ),
        ({"query-text": None}, "entry 1: query-text: Input should be a valid string"),
        ({"query-image": [900]}, "entry 1: query-image"),
    ):
        files.lists["queries"].write_text(json.dumps([queries[0], {**queries[1], **change}]))
        with pytest.raises(CondsimError, match=message):
            files.load()
        assert files.load(on_error="skip").tasks[0].query_ids == ("42000",)


def test_macir_has_a_task_per_type_and_removes_the_reference(tmp_path: Path) -> None:
    files = macir(tmp_path)
    benchmark = files.load()
    action, color = benchmark.tasks
    assert (action.name, color.name) == ("action", "color"), "in the order of the released code"
    assert named(color) == [
        ("1.png", "to 1_edit_1.png", ["1_edit_1.png"]),
        ("2_edit_0.png", "to 2.png", ["2.png"]),
    ]
    assert color.excluded is not None
    assert [color.excluded[i].tolist() for i in range(2)] == [[0], [4]]
    assert color.labels is not None
    assert [color.labels.names[code] for code in color.labels.codes.values] == ["remove", "add"]
    assert benchmark.headlines == {"average": (("action", "recall@1"), ("color", "recall@1"))}


def test_macirs_restricted_candidates_share_the_beginning_of_the_name(tmp_path: Path) -> None:
    files = macir(tmp_path)
    action, color = files.load(candidates="restricted").tasks
    assert (action.name, color.name) == ("action_remove", "color_remove"), "color_add has one candidate and is left out"
    assert color.candidates is not None
    assert [color.images.names[row] for row in color.candidates[0]] == ["1_edit_0.png", "1_edit_1.png"]
    assert named(action) == [("1_edit_0.png", "to 1.png", ["1.png"])]
    queries = json.loads(files.lists["full"].read_text())
    queries[0]["target_image"] = "1.png"
    files.lists["full"].write_text(json.dumps(queries))
    with pytest.raises(CondsimError, match=r"entry 0: target_image: 1\.png is the reference"):
        files.load()
    with pytest.raises(CondsimError, match="Did you mean 'restricted'"):
        files.load(candidates="restrictd")


def test_zappos_ranks_the_close_shoe_against_the_far_one(tmp_path: Path) -> None:
    files = zappos(tmp_path)
    tasks = {task.name: task for task in files.load().tasks}
    assert [task.conditions for task in tasks.values()] == [
        (("type of shoe",),), (("closing mechanism",),), (("suggested gender",),), (("height of the heel",),),
    ]  # fmt: skip
    heel = tasks["heel"]
    assert heel.candidates is not None
    shoes = [[heel.images.names[row][-5] for row in heel.candidates[i]] for i in range(2)]
    assert shoes == [["0", "3"], ["3", "0"]]
    assert [(reference[-5], close[-5]) for reference, _, (close,) in named(heel)] == [("4", "3"), ("1", "0")]
    assert len(heel.images) == 4, "an image that no triplet names is not read"
    assert files.load(conditions={"heel": "heels"}).tasks[3].conditions == (("heels",),)
    for line, message in (("4 0 9", "names image 9"), ("4 0", "expected three numbers"), ("4 2 2", "both candidates")):
        files.lists["heel"].write_text(f"4 0 3\n\n{line}\n")
        with pytest.raises(CondsimError, match=f"line 3: .*{message}"):
            files.load()
        assert len(files.load(on_error="skip").tasks[3]) == 1
    with pytest.raises(CondsimError, match="Did you mean 'heel'"):
        files.load(conditions={"hell": "x"})
    with pytest.raises(CondsimError, match="Did you mean 'test'"):
        files.load(split="tests")


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("cars196", ["car model", "manufacturer", "car type", "car color"]),
        ("cub200", ["bird species"]),
        ("deepfashion_inshop", ["clothing category", "texture", "fabric", "fit"]),
        ("movie_posters", ["movie genre", "production country"]),
        ("synthetic_cars", ["car model", "car color", "background color"]),
    ],
)
def test_label_sets_leave_each_image_out(name: str, texts: list[str], tmp_path: Path) -> None:
    draw(tmp_path, *(f"{i}.jpg" for i in range(4)))
    columns = list(benchmark_settings(name)["conditions"])
    rows = [",".join([f"{i}.jpg", *(f"{column} {i // 2}" for column in columns)]) for i in range(4)]
    (tmp_path / "labels.csv").write_text("\n".join([",".join(["image", *columns]), *rows]))
    files = Files(name, {"table": str(tmp_path / "labels.csv")})
    benchmark = files.load()
    assert [task.conditions for task in benchmark.tasks] == [((text,),) for text in texts]
    for task in benchmark.tasks:
        assert [task.relevant[i].tolist() for i in range(4)] == [[1], [0], [3], [2]]
        assert task.metrics == ("map_r", "precision@1", "r_precision")
        assert task.variant == "leave_one_out"
    (part,) = (part for part in check(files.config()).parts if part.what == "gallery")
    assert part.found == 4
    assert part.expected is not None
    assert part.expected >= 1_000
