"""GeneCIS: what the template files say is what the task holds, faults included."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st

from builders import GeneCIS, put
from condsim.datasets import genecis
from condsim.harness.errors import CondsimError
from condsim.harness.settings.composition import compose_config
from condsim.harness.task import Task


def read(path: Path, task: str, **more: Any) -> Task:
    return genecis.read_task(path, Path("images"), None, task, **more)


def items(task: Task, rows: np.ndarray) -> list[tuple[str, tuple[float, ...]]]:
    boxes = task.images.boxes
    return [(task.images.names[row], () if boxes is None else tuple(boxes[row])) for row in rows]


def test_a_task_says_what_its_templates_say(genecis_files: GeneCIS) -> None:
    task = genecis.load(**genecis_files.arguments).tasks[0]
    assert task.full_name == "genecis/focus_attribute"
    assert len(set(items(task, np.arange(len(task.images))))) == len(task.images) == 7
    for i, template in enumerate(genecis_files.templates["focus_attribute"]):
        expected = [template["target"], *template["gallery"]]
        found = items(task, task.candidates[i])
        assert [Path(name).stem for name, _ in found] == [item["image_id"] for item in expected]
        assert [list(box) for _, box in found] == [item["instance_bbox"] for item in expected]
        assert task.relevant[i].tolist() == [task.candidates[i][0]]
        [(name, box)] = items(task, task.reference[[i]])
        assert (Path(name).stem, list(box)) == tuple(template["reference"].values())
        assert task.conditions[task.condition[i]] == (template["condition"],)
    assert task.clusters.tolist() == task.reference.tolist()
    assert task.clusters[0] == task.clusters[1] != task.clusters[2]
    assert task.metrics == ("recall@1", "recall@2", "recall@3")


def test_repeated_items_stay_repeated_and_a_target_may_be_its_own_distractor(genecis_files: GeneCIS) -> None:
    task = genecis.load(**genecis_files.arguments).tasks[0]
    repeated, own_distractor = task.candidates[0], task.candidates[1]
    assert repeated[1] == repeated[2] != repeated[3]
    assert own_distractor[0] == own_distractor[1]
    assert task.relevant[1].tolist() == [own_distractor[0]], "named once: its copy is an irrelevant tie"
    assert task.reference[1] in own_distractor, "a reference in its own gallery is not removed"
    assert task.excluded is None


def test_boxes_and_dilation_are_the_protocols(genecis_files: GeneCIS) -> None:
    benchmark = genecis.load(**genecis_files.arguments)
    assert benchmark.tasks[0].images.dilation == 0.7
    assert [-3.0, -1.0, 8.0, 8.0] in benchmark.tasks[0].images.boxes.tolist(), "negative boxes are kept as they are"
    assert benchmark.tasks[2].images.boxes is None
    assert benchmark.tasks[2].images.names[0] == "000000000001.jpg"


def test_every_image_path_exists_in_both_layouts(genecis_files: GeneCIS) -> None:
    split = genecis.load(**genecis_files.arguments)
    assert all(task.images.path(row).is_file() for task in split.tasks for row in range(len(task.images)))
    for folder in ("VG_100K", "VG_100K_2"):
        for file in (genecis_files.root / "vg" / folder).iterdir():
            shutil.move(file, genecis_files.root / "vg")
    (genecis_files.root / "coco" / "val2017").mkdir()
    for file in (genecis_files.root / "coco").glob("*.jpg"):
        shutil.move(file, genecis_files.root / "coco" / "val2017")
    merged = genecis.load(**genecis_files.arguments)
    assert all(task.images.path(row).is_file() for task in merged.tasks for row in range(len(task.images)))
    assert [task.images.names for task in merged.tasks] == [task.images.names for task in split.tasks]
    assert [task.fingerprint for task in merged.tasks] == [task.fingerprint for task in split.tasks]


def test_only_the_folder_that_a_task_needs_has_to_be_there(genecis_files: GeneCIS) -> None:
    arguments = genecis_files.arguments | {"visual_genome": None}
    benchmark = genecis.load(**arguments, tasks=["change_object"])
    assert [task.name for task in benchmark.tasks] == ["change_object"]
    assert benchmark.headlines == {}, "the average needs all four tasks"
    with pytest.raises(CondsimError, match=r"benchmark\.visual_genome is not set"):
        genecis.load(**arguments)
    with pytest.raises(CondsimError, match="'focus_object'"):
        genecis.load(**arguments, tasks=["focus_objects"])


def test_the_headline_is_the_mean_of_the_four_recalls(genecis_files: GeneCIS) -> None:
    benchmark = genecis.load(**genecis_files.arguments)
    assert benchmark.headlines == {"average": tuple((task.name, "recall@1") for task in benchmark.tasks)}


def test_kinds_stand_beside_the_candidates(genecis_files: GeneCIS) -> None:
    path = genecis_files.root / "templates" / "focus_object.kinds.json"
    path.write_text(json.dumps([["close", "close", "far"], ["far", "far", "close"]]))
    kinds = genecis.load(**genecis_files.arguments).tasks[2].kinds
    assert kinds.names == ("close", "far")
    assert kinds.codes.tolist() == [-1, 0, 0, 1, -1, 1, 1, 0]
    path.write_text(json.dumps([["close", "close", "far"], ["far"]]))
    with pytest.raises(CondsimError, match=r"kinds\.json: entry 1 has 1 kinds for a gallery of 3"):
        genecis.load(**genecis_files.arguments)


def test_the_yaml_makes_the_benchmark(genecis_files: GeneCIS) -> None:
    overrides = [f"benchmark.{key}={value}" for key, value in genecis_files.arguments.items()]
    config = compose_config("check", ["benchmark=genecis", "tasks=[focus_object]", *overrides])
    benchmark = instantiate(config.benchmark)
    assert [task.full_name for task in benchmark.tasks] == ["genecis/focus_object"]


FAULTS: list[tuple[tuple[str | int, ...], Any, list[str]]] = [
    ((1, "reference"), ..., ["entry 1", "reference", "required"]),
    ((1, "target", "image_id"), ..., ["entry 1", "target.image_id", "required"]),
    ((0, "target", "image_id"), 12, ["entry 0", "target.image_id", "string", "12"]),
    ((0, "target", "image_id"), "99", ["entry 0", "target", "99.jpg", "condsim check"]),
    ((2, "gallery", 1, "image_id"), "../11", ["entry 2", "gallery[1].image_id", "../11"]),
    ((2, "gallery", 1, "instance_bbox"), [1, 2, 3], ["entry 2", "gallery[1].instance_bbox", "at least 4"]),
    ((2, "gallery", 1, "instance_bbox", 2), "7", ["entry 2", "gallery[1].instance_bbox[2]", "number"]),
    ((2, "gallery", 1, "instance_bbox", 2), True, ["entry 2", "gallery[1].instance_bbox[2]", "number"]),
    ((2, "gallery", 1, "instance_bbox", 3), 0, ["entry 2", "gallery[1]", "no area"]),
    ((2, "gallery", 1, "instance_bbox", 2), -4, ["entry 2", "gallery[1]", "no area"]),
    ((1, "reference", "instance_bbox", 0), -50, ["entry 1", "reference", "outside its image"]),
    ((1, "gallery"), [], ["entry 1", "gallery", "at least 1"]),
    ((1, "gallery"), {"a": 1}, ["entry 1", "gallery", "list"]),
    ((0, "condition"), " ", ["entry 0", "condition"]),
    ((0, "condition"), None, ["entry 0", "condition", "string", "None"]),
    ((0, "condition"), "a\nb", ["entry 0", "condition", "one line"]),
    ((0,), "template", ["entry 0", "template"]),
]


@pytest.mark.parametrize(("place", "value", "words"), FAULTS, ids=[str(fault[0]) + ascii(fault[1]) for fault in FAULTS])
def test_a_fault_is_one_message_with_file_entry_and_expectation(
    genecis_files: GeneCIS, place: tuple[str | int, ...], value: Any, words: list[str]
) -> None:
    genecis_files.write("focus_attribute", put(genecis_files.templates["focus_attribute"], place, value))
    with pytest.raises(CondsimError) as caught:
        genecis.load(**genecis_files.arguments)
    message = str(caught.value)
    assert "\n" not in message
    for word in ["focus_attribute.json", *words, "on_error=skip"]:
        assert word in message, message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[{"reference": ', ["malformed or truncated JSON", "line 1"]),
        ("", ["malformed or truncated JSON"]),
        ("{}", ["expected a list of GeneCIS templates", "object"]),
        ("[]", ["empty"]),
        ("[NaN]", ["NaN is not a JSON number"]),
        ('[{"condition": "a", "condition": "b"}]', ["duplicate key 'condition'"]),
        ("[" * 100_000, ["nested too deeply"]),
        ("[" + "9" * 5000 + "]", ["malformed JSON"]),
    ],
)
def test_a_file_that_is_no_list_of_templates(genecis_files: GeneCIS, text: str, words: list[str]) -> None:
    (genecis_files.root / "templates" / "focus_attribute.json").write_text(text)
    with pytest.raises(CondsimError) as caught:
        genecis.load(**genecis_files.arguments)
    for word in ["focus_attribute.json", *words]:
        assert word in str(caught.value)


def test_bytes_that_are_no_text_and_a_file_that_is_not_there(genecis_files: GeneCIS) -> None:
    path = genecis_files.root / "templates" / "focus_attribute.json"
    path.write_bytes(b'["\xff\xfe"]')
    with pytest.raises(CondsimError, match="not UTF-8"):
        genecis.load(**genecis_files.arguments)
    path.unlink()
    with pytest.raises(CondsimError, match=r"focus_attribute\.json does not exist"):
        genecis.load(**genecis_files.arguments)


def test_skip_leaves_out_the_entry_and_says_so(genecis_files: GeneCIS) -> None:
    templates = genecis_files.templates["focus_attribute"]
    kinds = genecis_files.root / "templates" / "focus_attribute.kinds.json"
    kinds.write_text(json.dumps([["a"] * 3, ["b"] * 3, ["c"] * 3]))
    whole = genecis.load(**genecis_files.arguments).tasks[0]
    genecis_files.write("focus_attribute", put(templates, (1, "target", "image_id"), "99"))
    task = genecis.load(**genecis_files.arguments, on_error="skip").tasks[0]
    assert (len(whole), len(task), len(task.skipped), whole.skipped) == (3, 2, 1, ())
    assert "entry 1: target: the image 99.jpg" in task.skipped[0]
    assert task.query_ids == ("0", "2"), "the others keep their numbers"
    assert [task.kinds.names[code] for code in task.kinds.codes if code >= 0] == ["a"] * 3 + ["c"] * 3
    kinds.unlink()
    genecis_files.write("focus_attribute", [None, 3])
    with pytest.raises(CondsimError, match=r"no template of it can be used; the first fault: .*entry 0"):
        genecis.load(**genecis_files.arguments, on_error="skip")
    with pytest.raises(CondsimError, match="'skip'"):
        genecis.load(**genecis_files.arguments, on_error="skp")  # type: ignore[arg-type]


pictures = st.builds(
    lambda image, box: {"image_id": image, "instance_bbox": box},
    st.sampled_from("abc"),
    st.tuples(st.sampled_from([-1, 0, 0.5]), st.just(0), st.sampled_from([2, 2.0, 3]), st.just(4)).map(list),
)
template_lists = st.lists(
    st.fixed_dictionaries(
        {
            "reference": pictures,
            "target": pictures,
            "gallery": st.lists(pictures, min_size=1, max_size=5),
            "condition": st.sampled_from(["color", "shape"]),
        }
    ),
    min_size=1,
    max_size=6,
)


@given(template_lists)
def test_the_table_holds_each_picture_once_and_gives_every_list_back(
    tmp_path_factory: pytest.TempPathFactory, templates: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("templates") / "change_attribute.json"
    path.write_text(json.dumps(templates))
    task = read(path, "change_attribute")

    def plain(item: dict[str, Any]) -> tuple[str, tuple[float, ...]]:
        return f"{item['image_id']}.jpg", tuple(map(float, item["instance_bbox"]))

    table = items(task, np.arange(len(task.images)))
    assert len(set(table)) == len(table)
    assert set(table) == {plain(x) for t in templates for x in (t["reference"], t["target"], *t["gallery"])}
    for i, template in enumerate(templates):
        assert items(task, task.reference[[i]]) == [plain(template["reference"])]
        assert items(task, task.candidates[i]) == [plain(x) for x in (template["target"], *template["gallery"])]
        assert items(task, task.relevant[i]) == [plain(template["target"])]
