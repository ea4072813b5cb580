"""`condsim templates`: what it writes obeys the published rules and is read by the GeneCIS loader."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from condsim.datasets import genecis
from condsim.datasets.make_templates import read_attribute_types, read_instances, read_panoptic
from condsim.harness.commands import templates
from condsim.harness.errors import CondsimError
from condsim.harness.settings.composition import compose_config

TYPES = {"red": "color", "green": "color", "round": "shape", "square": "shape"}


def config(*overrides: str) -> dict:
    composed = OmegaConf.to_container(compose_config("templates", overrides))
    assert isinstance(composed, dict)
    return composed


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """An instance a picture: four categories, every colour and shape, each negative for what it is not."""
    rows = []
    for number in range(160):
        color, shape = (("red", "green")[number % 2], ("round", "square")[number // 2 % 2])
        others = sorted(set(TYPES) - {color, shape})
        box: dict[str, Any] = {"x": 1, "y": 2, "w": 10.5, "h": 4}
        words = {"positive": f"{color}; {shape}", "negative": ";".join(others)}
        rows.append({"image_id": str(number), **box, "category": "abcd"[number // 4 % 4], **words})
    pd.DataFrame(rows).to_csv(tmp_path / "table.csv", index=False)
    (tmp_path / "types.json").write_text(json.dumps(TYPES))
    return tmp_path / "table.csv"


@pytest.fixture
def panoptic(tmp_path: Path) -> Path:
    """Scenes of 12 of 20 categories, equal areas but for one category too small to count."""
    rng = np.random.default_rng(0)
    annotations = []
    for image in range(150):
        shown = rng.choice(20, 14, replace=False)
        segments = [{"category_id": int(c), "area": 500} for c in shown] + [{"category_id": 20, "area": 50}]
        annotations.append({"image_id": image, "file_name": f"{image:012d}.png", "segments_info": segments})
    content = {
        "images": [{"id": i, "width": 100, "height": 100} for i in range(150)],
        "categories": [{"id": i, "name": f"thing{i}-merged"} for i in range(20)] + [{"id": 20, "name": "crumb"}],
        "annotations": annotations,
    }
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    return tmp_path / "panoptic.json"


def test_attribute_templates_from_a_table(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = [f"instances={table}", f"attribute_types={tmp_path / 'types.json'}", f"output={out}"]
    assert templates.run(config(*arguments, "per_condition.focus=20")) == 0
    of = {i.item["image_id"]: i for i in read_instances(table)}
    focus = json.loads((out / "focus_attribute.json").read_text())
    assert {entry["condition"] for entry in focus} == {"color", "shape"}
    assert len(focus) == 40
    for entry in focus:
        reference, target = of[entry["reference"]["image_id"]], of[entry["target"]["image_id"]]
        shared = {a for a in reference.positive & target.positive if TYPES[a] == entry["condition"]}
        assert shared
        assert reference.category == target.category
        assert all(shared & of[one["image_id"]].negative for one in entry["gallery"])
    assert len(json.loads((out / "change_attribute.kinds.json").read_text())[0]) == 14
    for number in of:
        (tmp_path / f"{number}.jpg").touch()
    loaded = genecis.load(str(out), str(tmp_path), tasks=["focus_attribute", "change_attribute"])
    assert [len(task.reference) for task in loaded.tasks] == [40, 80]
    again = tmp_path / "again"
    templates.run(config(*arguments[:2], f"output={again}", "per_condition.focus=20"))
    assert (again / "focus_attribute.json").read_bytes() == (out / "focus_attribute.json").read_bytes()


def test_a_table_and_vaws_json_are_the_same_instances(table: Path, tmp_path: Path) -> None:
    of_table = read_instances(table)
    vaw = [
        {
            "image_id": i.item["image_id"], "instance_id": "x", "instance_bbox": i.item["instance_bbox"],
            "object_name": i.category, "positive_attributes": sorted(i.positive),
            "negative_attributes": sorted(i.negative),
        }
        for i in of_table
    ]  # fmt: skip
    (tmp_path / "vaw.json").write_text(json.dumps(vaw))
    assert read_instances(tmp_path / "vaw.json") == of_table


def test_object_templates_from_panoptic_annotations(panoptic: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert templates.run(config(f"panoptic={panoptic}", f"output={out}", "objects.count=30", "objects.max_far=9")) == 0
    bags = read_panoptic(panoptic, 0.01)
    assert all(len(bag) == 14 and "thing3-merged" not in bag and "crumb" not in bag for bag in bags.values())
    change = json.loads((out / "change_object.json").read_text())
    assert len(change) == 30
    for entry in change:
        reference, target = (bags[entry[part]["val_image_id"]] for part in ("reference", "target"))
        assert entry["condition"] in target - reference
        near = [len(bags[i] & reference) for i in bags if bags[i] != reference]
        assert len(reference & target) == max(near)
        far = [bags[one["val_image_id"]] for one in entry["gallery"][9:]]
        assert all(entry["condition"] in bag and len(bag & reference) <= 9 for bag in far)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w": 0}, "row 4: the box (x, y, w, h) has no area"),
        ({"h": "tall"}, "row 4: instance_bbox"),
        ({"category": ""}, "row 4: object_name"),
        ({"image_id": "../3"}, "row 4: image_id"),
        ({"negative": "red;green"}, "is both a positive and a negative attribute"),
    ],
)
def test_a_bad_row_is_named(table: Path, change: dict, message: str) -> None:
    frame = pd.read_csv(table, dtype=object)
    for column, value in change.items():
        frame.loc[3, column] = value
    frame.to_csv(table, index=False)
    with pytest.raises(CondsimError, match=r"table\.csv") as refused:
        read_instances(table)
    assert message in str(refused.value)


def test_what_is_missing_is_reported(table: Path, panoptic: Path, tmp_path: Path) -> None:
    with pytest.raises(CondsimError, match="attribute_types=FILE"):
        templates.run(config(f"instances={table}"))
    with pytest.raises(CondsimError, match="nothing to make templates from"):
        templates.run(config())
    content = json.loads(panoptic.read_text())
    content["annotations"][5]["segments_info"][0]["category_id"] = 99
    panoptic.write_text(json.dumps(content))
    with pytest.raises(CondsimError, match=r"annotations\[5\]: the id 99 is not in the list of categories"):
        read_panoptic(panoptic, 0.01)


def test_rules_that_nothing_meets_write_no_file(panoptic: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert templates.run(config(f"panoptic={panoptic}", f"output={out}", "objects.min_categories=15")) == 1
    assert not out.exists()


VAW_TYPES = {"red": "color", "blue": "color", "round": "shape", "square": "shape"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "attribute,type\nred,color\nblue,color\nround,shape\nsquare,shape\n"),
        ("t.csv", "attribute, type\nred, color\nblue,color \nround\u00a0,shape\nsquare,\ufeffshape\n"),
        ("t.tsv", "attribute\ttype\nred\tcolor\nblue\tcolor\nround\tshape\nsquare\tshape\n"),
        ("t.json", json.dumps(VAW_TYPES)),
        ("t.JSON", json.dumps({"color": ["red", "blue "], "shape": ["round", "square"]})),
    ],
)
def test_attribute_types_in_either_direction(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert read_attribute_types(tmp_path / name) == VAW_TYPES


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "t.csv",
            "attribute,type\nred,color\nred,mood\n",
            r"row 2: duplicate attribute 'red' \(type 'color', then 'mood'",
        ),
        ("t.csv", "attribute,type\nred,color\nred ,mood\n", "row 2: duplicate attribute 'red'"),
        ("t.json", '{"color": ["red"], "mood": ["red"]}', "duplicate attribute 'red'"),
        ("t.json", '{"red": "color", "red": "mood"}', "duplicate key 'red'"),
        ("t.json", '{"red": "color", "mood": ["red"]}', "expected the type of each attribute"),
        ("t.json", '{"color": [["red"]]}', "attribute: expected text"),
        ("t.json", "{}", "is empty"),
        ("t.json", '{"color": []}', "is empty"),
        ("t.csv", "attribute,type\nred,\n", "row 1: type is empty"),
        ("t.csv", "attribute,type\n ,color\n", "row 1: attribute is empty"),
    ],
)
def test_attribute_types_that_contradict_each_other(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(CondsimError, match=message):
        read_attribute_types(tmp_path / name)


def test_instances_may_have_numbers_as_ids_and_odd_blanks(tmp_path: Path) -> None:
    entry = {
        "image_id": 1000, "instance_bbox": [0, 0, 5, 5], "object_name": "cup ",
        "positive_attributes": ["red\u00a0", "red"], "negative_attributes": ["blue"],
    }  # fmt: skip
    (tmp_path / "val.json").write_text(json.dumps([entry, {**entry, "image_id": "1001", "object_name": "cup"}]))
    one, two = read_instances(tmp_path / "val.json")
    assert (one.image, one.category, one.positive) == ("1000", "cup", frozenset({"red"}))
    assert one.item["image_id"] == "1000"
    assert (two.image, two.category) == ("1001", "cup")
    (tmp_path / "val.json").write_text(json.dumps([{**entry, "image_id": True}]))
    with pytest.raises(CondsimError, match="entry 0: image_id"):
        read_instances(tmp_path / "val.json")
