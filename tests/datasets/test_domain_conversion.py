"""Domain conversion on small lists in the published formats, and FreeDom's numbers from its definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from condsim.datasets import domain_conversion
from condsim.datasets.check import check
from condsim.harness.errors import CondsimError
from condsim.harness.ranking.engine import Ranking
from condsim.harness.ranking.ranks import Ranks
from condsim.harness.run.run import measure
from condsim.harness.run.task_file import load_task, save_task
from condsim.harness.task import Benchmark, Task

LTLL = """ltll/New/images/BigBen/a_1.jpg New BigBen
ltll/New/images/BigBen/a_2.jpg New BigBen
ltll/Old/images/BigBen/o.jpg Old BigBen
ltll/Old/images/Q001/o.jpg Old Q001
ltll/New/images/Q001/n.jpg New Q001
"""
TARGETS = """imgnet/imagenet-r/n1/cartoon_0.jpg 7
imgnet/imagenet-r/n1/toy_0.jpg 2007
imgnet/imagenet-r/n2/cartoon_0.jpg 9
imgnet/real/n1/a.JPEG 6007
imgnet/real/n2/b.JPEG 6009
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for line in (LTLL + TARGETS).splitlines():
        path = tmp_path / "images" / line.split()[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 8)).save(path)
    (tmp_path / "ltll").mkdir()
    (tmp_path / "ltll" / "full_files.csv").write_text(LTLL)
    (tmp_path / "imgnet_targets.txt").write_text(TARGETS)
    (tmp_path / "imgnet_real_query.txt").write_text("imgnet/real/n1/a.JPEG 7 \nimgnet/real/n2/b.JPEG 9 \n")
    return tmp_path


def load(folder: Path, dataset: str = "ltll", **options: Any) -> Benchmark:
    return domain_conversion.load(dataset, str(folder), str(folder / "images"), **options)


def texts(task: Task) -> list[str]:
    return [task.conditions[code][0] for code in task.condition]


def test_every_source_goes_to_every_other_domain(folder: Path) -> None:
    benchmark = load(folder)
    assert benchmark.name == "ltll"
    assert benchmark.headlines == {
        "average": (("source_today", "map_trapezoid_eps"), ("source_archive", "map_trapezoid_eps"))
    }
    today, archive = benchmark.tasks
    assert (texts(today), texts(archive)) == (["Archive"] * 3, ["Today"] * 2)
    assert [today.relevant[i].tolist() for i in range(3)] == [[2], [2], [3]]
    assert [archive.relevant[i].tolist() for i in range(2)] == [[0, 1], [4]]
    assert today.excluded is None, "the query image stays in the gallery"
    assert today.metrics == ("map_trapezoid_eps", "recall_share@5", "recall_share@10", "precision@5", "precision@10")


def test_several_targets_are_labels_and_missing_classes_stay_as_queries(folder: Path) -> None:
    tasks = {task.name: task for task in load(folder, "imagenet_r").tasks}
    assert list(tasks) == ["source_cartoon", "source_toy", "source_photo"]
    photo = tasks["source_photo"]
    assert photo.labels is not None
    assert photo.labels.names == ("cartoon", "origami", "toy", "sculpture")
    assert texts(photo) == [name for name in photo.labels.names for _ in range(2)]
    assert [photo.relevant[i].tolist() for i in range(8)] == [[0], [2], [], [], [1], [], [], []]
    assert (photo.query_ids or ())[4] == "real/n1/a.JPEG toy"
    assert photo.counts_unanswerable


def test_freedoms_numbers_by_hand(folder: Path, tmp_path: Path) -> None:
    """Two queries of eight have a positive at place 2, one at place 1, five have none and count 0."""
    photo = load(folder, "imagenet_r").tasks[-1]
    offsets = np.array([0, 1, 2, 2, 2, 3, 3, 3, 3])
    above, one = np.array([1, 1, 0]), np.ones(3, dtype=np.int64)
    ranks = Ranks(offsets, above, one, 0 * one, photo.relevant.lengths, np.full(8, 5), complete=True)
    measured = measure(photo, Ranking(ranks, None, None, None), resamples=200, seed=0)
    expected = (2 * (0 / 1 + 1 / 2) / 2 + (1 + 1) / 2) / (1 + 1e-5) / 8
    assert measured["map_trapezoid_eps"].value == pytest.approx(expected, abs=1e-12)
    assert measured["recall_share@10"].value == measured["precision@10"].value == pytest.approx(3 / 8)
    save_task(tmp_path / "task.npz", photo)
    assert load_task(tmp_path / "task.npz", photo.fingerprint).counts_unanswerable


def test_pic2words_protocol_has_a_task_per_target(folder: Path) -> None:
    benchmark = load(folder, "imagenet_pic2word")
    assert [task.name for task in benchmark.tasks] == ["cartoon", "origami", "toy", "sculpture"]
    cartoon = benchmark.tasks[0]
    assert texts(cartoon) == ["a cartoon of"] * 2
    assert [cartoon.relevant[i].tolist() for i in range(2)] == [[0], [2]]
    assert cartoon.metrics == ("recall_share@10", "recall_share@50", "recall@10", "recall@50")
    assert set(benchmark.headlines) == {"average@10", "average@50"}
    other = load(folder, "imagenet_pic2word", text="magiclens").tasks[0]
    assert texts(other) == ["find this object in cartoon"] * 2
    assert (other.variant, cartoon.variant) == ("text=magiclens", "")
    assert other.fingerprint != cartoon.fingerprint


def test_freedoms_own_list_of_imagenet_r_asks_the_same_question(folder: Path) -> None:
    before = load(folder, "imagenet_r").tasks
    domains = {0: "cartoon", 2: "toy", 6: "real"}
    rows = (line.split() for line in TARGETS.splitlines())
    lines = [f"{p.replace('imgnet', 'imagenet_r', 1)} {domains[int(n) // 1000]} {p.split('/')[2]}" for p, n in rows]
    (folder / "full_files.csv").write_text("\n".join(lines))
    after = load(folder, "imagenet_r").tasks
    assert [task.fingerprint for task in before] == [task.fingerprint for task in after]


def test_names_with_blanks_and_both_image_folders(folder: Path) -> None:
    images = folder / "images" / "ltll" / "New" / "images"
    (images / "BigBen").rename(images / "Big Ben")
    (images / "Big Ben" / "a_1.jpg").rename(images / "Big Ben" / "a 1.jpg")
    for root in (folder / "images", folder / "images" / "ltll"):
        task = domain_conversion.load("ltll", str(folder), str(root)).tasks[0]
        assert all(task.images.path(row).is_file() for row in range(len(task.images)))
        assert task.images.names[0] == "New/images/BigBen/a_1.jpg"


def test_missing_images_are_named_or_left_out(folder: Path) -> None:
    (folder / "images" / "ltll" / "Old" / "images" / "Q001" / "o.jpg").unlink()
    with pytest.raises(CondsimError, match=r"1 of its 5 images .*Old/images/Q001/o\.jpg"):
        load(folder)
    today, archive = load(folder, on_error="skip").tasks
    assert (len(today), len(archive), len(today.gallery_rows)) == (2, 1, 4)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ltll/Old/x.jpg Odl BigBen", "line 1: there is no domain 'Odl'. Did you mean 'Old'"),
        ("ltll/Old/x.jpg Old", "line 1: expected lines of"),
        ("x.jpg Old BigBen", "line 1: expected a path with the dataset's folder before it"),
        ("ltll/../../x.jpg Old BigBen", "line 1: .*leads out"),
        ("ltll/New/images/Q001/n.jpg New Q001", "line 5: New/images/Q001/n.jpg is in line 1 already"),
        ("ltll/New/x.jpg 5007", "line 1: there is no domain '5007'"),
    ],
)
def test_a_faulty_line_is_named_or_left_out(folder: Path, line: str, message: str) -> None:
    path = folder / "ltll" / "full_files.csv"
    path.write_text("\n".join([line, *LTLL.splitlines()[1:]]))
    with pytest.raises(CondsimError, match=message):
        load(folder)
    assert load(folder, on_error="skip").tasks[0].skipped


def test_unknown_choices_name_the_nearest(folder: Path) -> None:
    for options, message in (
        ({"dataset": "ltl"}, "Did you mean 'ltll'"),
        ({"text": "freedo"}, "Did you mean 'freedom'"),
        ({"dataset": None}, "benchmark.dataset is not set"),
        ({"dataset": "nico_pp"}, r"database_files\.csv does not exist"),
    ):
        with pytest.raises(CondsimError, match=message):
            load(folder, **options)


def test_check_counts_lists_and_images(folder: Path) -> None:
    options = {"_target_": "condsim.datasets.domain_conversion.load", "dataset": "ltll", "name": "ltll"}
    report = check({**options, "annotations": str(folder), "images": str(folder / "images")})
    counts = {part.what: (part.found, part.expected) for part in report.parts}
    assert (counts["references"], counts["gallery"], counts["images"]) == ((5, 488), (5, 488), (5, 5))
    assert (report.missing, report.problems) == ((), ())
    assert "# Domain conversion" in report.card
