"""`condsim.Index` and `condsim search` on a small folder of drawn pictures, with a backbone that sees mean colours."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import condsim
from condsim.harness import cli, configs
from condsim.harness.errors import CondsimError, NotApplicable, UnusableRowsError
from condsim.harness.method import Gallery, Queries
from condsim.harness.task import ImageTable, TrainSplit
from condsim.methods.clay import Clay
from condsim.methods.inner_product import ImageOnly
from condsim.methods.phrases.given import read_list, write_list

pytestmark = pytest.mark.slow

RGB = {
    "red": (230, 20, 20),
    "pink": (240, 120, 150),
    "green": (20, 200, 40),
    "blue": (20, 30, 220),
    "sky": (90, 160, 240),
}


class Colours:
    """[n, 4]: the mean colour of a picture, or the colour that a text names, and a constant."""

    name, identity, width, device = "colours", {"model": "colours"}, 4, torch.device("cpu")

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode_images(self, table: ImageTable) -> Tensor:
        rows, faults = [], {}
        for row in range(len(table)):
            try:
                with Image.open(table.path(row)) as picture:
                    rows.append([*np.asarray(picture.convert("RGB")).mean(axis=(0, 1)), 60.0])
            except OSError as error:
                faults[row] = f"does not decode ({type(error).__name__})"
        if faults:
            raise UnusableRowsError(len(table), faults, lambda row: table.names[row])
        self.encoded = list(table.names)
        return torch.tensor(rows, dtype=torch.float32)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        colours = [next((rgb for name, rgb in RGB.items() if name in text), (90, 90, 90)) for text in texts]
        return torch.tensor([[*rgb, 60.0] for rgb in colours], dtype=torch.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, rgb in RGB.items():
        path = tmp_path / "photos" / ("warm" if name in ("red", "pink") else ".") / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), rgb).save(path)
    return tmp_path / "photos"


@pytest.fixture
def index(folder: Path) -> condsim.Index:
    return condsim.Index(folder, Colours())


def names(matches: condsim.Matches) -> list[str]:
    return [Path(match.path).stem for match in matches]


def test_a_picture_of_the_folder_finds_the_others_and_not_itself(index: condsim.Index, folder: Path) -> None:
    matches = index.search(folder / "warm/red.png")
    assert names(matches)[0] == "pink"
    assert sorted(names(matches)) == ["blue", "green", "pink", "sky"]
    assert [match.rank for match in matches] == [1, 2, 3, 4]
    assert [match.score for match in matches] == sorted((match.score for match in matches), reverse=True)
    assert matches.method == "image_only"
    frame = index.search("blue.png", k=2).to_pandas()  # a name within the folder
    assert list(frame.columns) == ["path", "score"]
    assert frame.path[0] == str(folder / "sky.png")


def test_a_picture_from_elsewhere_and_a_text_alone(index: condsim.Index, tmp_path: Path) -> None:
    Image.new("RGB", (9, 9), (10, 220, 60)).save(tmp_path / "leaf.png")
    assert names(index.search(tmp_path / "leaf.png", k=1)) == ["green"]
    matches = index.search(condition="sky")
    assert (names(matches)[0], matches.method, len(matches)) == ("sky", "text_only", 5)


def test_features_in_parts_are_searched_where_they_are(
    index: condsim.Index, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, features = index.pictures.table, index.pictures.features
    order = [3, 0, 4, 2, 1]  # not that of the names
    condsim.write_parts(tmp_path / "parts", [([table.names[i] for i in order], features[order])], dtype="float32")
    parts = condsim.Index(tmp_path / "parts", Colours())
    assert len(parts) == 5
    Image.new("RGB", (9, 9), (10, 220, 60)).save(tmp_path / "leaf.png")
    values = {"tint": ["red", "blue", "green"]}
    pairs: list[Any] = [("warm/red.png", "tint"), (tmp_path / "leaf.png", "tint")]
    for method in ("image_plus_text", "clay", "alpha_query_expansion"):
        settings: dict[str, Any] = {"values": values} if method == "clay" else {}
        found, expected = (one.search(pairs, method=method, k=3, **settings) for one in (parts, index))
        assert names(found) == names(expected)
        assert [match.score for match in found] == pytest.approx([match.score for match in expected], abs=1e-5)
    assert names(parts.search(condition="sky", k=1)) == ["sky"]
    with pytest.raises(NotApplicable, match="the method does not rank a gallery in parts"):
        parts.search(*pairs[0], method="weicom")
    with pytest.raises(CondsimError, match=r"warm/redd.png: there is no such file.* Did you mean 'warm/red.png'"):
        parts.search("warm/redd.png")
    condsim.write_parts(tmp_path / "zero", [(["a", "b"], [[1.0] * 4, [0.0] * 4])])
    len(condsim.Index(tmp_path / "zero", Colours()))
    assert "zero: 1 of 2 vectors are zero, so their similarity to everything is 0: 'b'" in capsys.readouterr().err
    condsim.write_parts(tmp_path / "wide", [(["a"], [[1.0] * 5])])
    with pytest.raises(CondsimError, match="wide has features of width 5, but colours of 4: choose the backbone"):
        condsim.Index(tmp_path / "wide", Colours())


def test_a_list_of_queries_gives_what_each_gives_alone(index: condsim.Index, folder: Path) -> None:
    pairs: list[Any] = [("warm/red.png", "blue"), ("green.png", ["sky", "pink"])]
    matches = index.search(pairs, k=3)
    for i, (picture, condition) in enumerate(pairs):
        alone = index.search(picture, condition, k=3)
        assert [match.path for match in matches.of(i)] == alone.paths
        assert [match.score for match in matches.of(i)] == pytest.approx([match.score for match in alone])
    assert list(matches.to_pandas().columns) == ["query", "path", "score"]
    assert matches.queries[1] == (str(folder / "green.png"), ("sky", "pink"))


def test_settings_of_a_method_are_keywords(index: condsim.Index) -> None:
    image = index.search("blue.png", "red", method="image_plus_text", weight=1.0)
    assert image.paths == index.search("blue.png").paths
    text = index.search("blue.png", "red", method="image_plus_text", weight=0.0)
    assert names(text)[0] == "red"
    with pytest.raises(CondsimError, match="Did you mean 'weight'"):
        index.search("blue.png", "red", method="image_plus_text", wieght=0.0)
    with pytest.raises(CondsimError, match=r"there is no method 'cley'\. Did you mean 'clay'"):
        index.search("blue.png", "red", method="cley")
    nested = index.search("blue.png", "red", method="nnn_transductive", base="image_plus_text_unit", alpha=0)
    assert nested.paths == index.search("blue.png", "red", method="image_plus_text_unit").paths


def test_an_object_of_the_users_is_a_method(index: condsim.Index) -> None:
    class Opposite(ImageOnly):
        def embed(self, queries: Queries) -> Tensor:
            return -queries.reference

    matches = index.search("blue.png", method=Opposite())
    assert names(matches) == names(index.search("blue.png"))[::-1]
    with pytest.raises(CondsimError, match="rank: a method that is an object already has its settings"):
        index.search("blue.png", "color", method=Clay(), rank=3)


def test_values_of_a_condition_that_the_lexicon_lacks(index: condsim.Index) -> None:
    with pytest.raises(
        NotApplicable, match=r"--values 'tint=first,second,third' on the command line, values=.*in Python"
    ):
        index.search("blue.png", "tint", method="clay")
    matches = index.search("blue.png", "tint", method="clay", values={"tint": ["red", "blue", "green"]}, why=True, k=2)
    assert names(matches)[0] == "sky"
    assert matches.reasons is not None
    assert matches[0].why.startswith("blue 0.")
    assert "(query: blue 1.00)" in matches[0].why
    with pytest.raises(CondsimError, match="at least two different ones"):
        index.search("blue.png", "tint", method="clay", values={"tint": ["red", "Red"]})
    with pytest.raises(CondsimError, match=r"values of 'tnit': no query has this condition. Did you mean 'tint'"):
        index.search("blue.png", "tint", method="clay", values={"tnit": ["red", "blue"]})
    with pytest.raises(CondsimError, match="the method image_only reads no values"):
        index.search("blue.png", "tint", method="image_only", values={"tint": ["red", "blue"]})


def test_a_value_may_hold_a_comma() -> None:
    values = ("red", "blue, navy", 'so-called "sky"')
    assert read_list(write_list(values)) == read_list(write_list(values, ", ")) == values
    assert read_list('red, "blue, navy",, Red') == ("red", "blue, navy")


def test_pictures_of_a_table_are_searched_and_a_crop_is_a_query(index: condsim.Index, folder: Path) -> None:
    boxes = np.full((4, 4), np.nan)
    boxes[1] = boxes[3] = (0, 0, 4, 4)
    table = ImageTable(folder, ("sky.png", "blue.png", "blue.png", "blue.png"), boxes=boxes, crop="plain")
    cropped = condsim.Index(table, Colours())
    assert cropped.pictures.table.keys == ("blue.png", "blue.png#0,0,4,4", "sky.png")
    whole, crop = cropped.search("blue.png", k=9), cropped.search("blue.png#0,0,4,4", k=9)
    assert [whole.table.keys[row] for row in whole.rows[0, :2]] == ["blue.png#0,0,4,4", "sky.png"]
    assert crop.queries[0][0] == "blue.png#0,0,4,4"
    assert "blue.png#0,0,4,4" in whole._repr_html_()
    assert crop._repr_html_().count("data:image/webp;base64,") == 3
    assert names(index.search(table.take(np.array([1])), k=2)) == ["blue", "sky"]  # from another table: itself first
    with pytest.raises(CondsimError, match=r"no such file.* A name is 'blue\.png'"):
        cropped.search("blue.png#0,0,4,5")


def test_a_training_split_of_the_users_serves_methods_that_look_things_up(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "phrases.txt").write_text("red\n\nblue\n")
    index = condsim.Index(folder, Colours(), train=folder / "warm", phrases=tmp_path / "phrases.txt")
    hubs = index.search("blue.png", "red", method="nnn", alpha=5, neighbors=1, base="image_only")
    assert names(hubs) != names(index.search("blue.png"))
    rerank = index.search("blue.png", "red", method="neighborhood_rerank", neighbors=1, why=True)
    assert rerank.reasons is not None
    split = TrainSplit(ImageTable(folder / "warm", ("red.png",)), ("green",))
    given = condsim.Index(folder, Colours(), train=split).search(
        "blue.png", "red", method="neighborhood_rerank", neighbors=1, why=True
    )
    assert given.reasons is not None
    assert "green" in given[0].why
    with pytest.raises(CondsimError, match=r"name the folder with its pictures too \(train\)"):
        condsim.Index(folder, Colours(), phrases=["red"])


def test_messages_call_the_queries_this_search(index: condsim.Index) -> None:
    for method in ("specific_object", "clay"):
        with pytest.raises(CondsimError, match="this search"):
            index.search("blue.png", "tint", method=method)


def test_a_new_condition_leaves_the_gallery_prepared(index: condsim.Index, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    prepare = Clay.prepare

    def counted(self: Clay, gallery: Gallery) -> Any:
        calls.append(1)
        return prepare(self, gallery)

    monkeypatch.setattr(Clay, "prepare", counted)
    values = {"tint": ["red", "blue", "green"], "shade": ["pink", "sky"]}
    first = index.search("blue.png", "tint", method="clay", values=values)
    index.search("blue.png", "shade", method="clay", values=values)
    assert index.search("blue.png", "tint", method="clay", values=values).paths == first.paths
    assert len(calls) == 1
    index.search("blue.png", "tint", method="clay", values=values, rank=1)
    assert len(calls) == 2


def test_a_changed_folder_is_brought_up_to_date(index: condsim.Index, folder: Path) -> None:
    assert "teal" not in names(index.search("blue.png"))
    Image.new("RGB", (8, 6), (20, 60, 200)).save(folder / "teal.png")
    (folder / "green.png").unlink()
    os.utime(folder, ns=(1, 1))  # file systems with coarse clocks
    assert names(index.search("blue.png"))[0] == "teal"
    assert "green" not in names(index.search("blue.png"))
    Image.new("RGB", (8, 6), (255, 255, 0)).save(folder / "teal.png")  # in place
    index.refresh()
    assert names(index.search("blue.png"))[0] == "sky"


def test_unreadable_pictures_are_left_out_and_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "warm/broken.jpg").write_bytes(b"no picture")
    (folder / "._red.png").write_bytes(b"of the Finder")
    index = condsim.Index(folder, Colours())
    assert len(index) == len(RGB)
    assert list(index.pictures.unreadable) == ["warm/broken.jpg"]
    told = capsys.readouterr().err
    assert "1 of 6 pictures cannot be read and are left out:\n  warm/broken.jpg: does not decode" in told
    with pytest.raises(CondsimError, match=r"the query picture .*broken\.jpg: does not decode"):
        index.search("warm/broken.jpg")


def test_bad_input_is_one_message(index: condsim.Index, tmp_path: Path) -> None:
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: condsim.Index(tmp_path / "nowhere", Colours()), "is not a folder"),
        (lambda: condsim.Index(tmp_path, Colours(), device="cpu"), "device: a backbone that is an object"),
        (lambda: condsim.Index(tmp_path, object()), "object is no backbone: it has no name, identity"),  # type: ignore[arg-type]
        (lambda: index.search("blue.png", method=3), r"int is no method: .*condsim\.OneVector"),  # type: ignore[arg-type]
        (lambda: condsim.Index(tmp_path, "ViT-B-32/opanai"), "Did you mean 'ViT-B-32/openai'"),
        (lambda: index.search("bleu.png"), "there is no such file.*Did you mean 'blue.png'"),
        (lambda: index.search(), "a query needs a picture, a condition, or both"),
        (lambda: index.search("blue.png", " "), "a condition is an empty text"),
        (lambda: index.search([]), "the list of queries is empty"),
        (lambda: index.search([("blue.png", "red")], "color"), "query 0: expected"),
        (lambda: index.search("blue.png", k=0), "k must be 1 or more, not 0"),
        (lambda: index.search("blue.png", method="text_only"), "needs a condition"),
        (lambda: index.search(condition="red", method="image_only"), "needs a reference image"),
        (
            lambda: index.search("blue.png", "red", method="nnn"),
            r"looks things up in a training split: .*--train FOLDER",
        ),
    ]
    for call, message in cases:
        with pytest.raises(CondsimError, match=message):
            call()
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CondsimError, match="there is no picture in this folder"):
        condsim.Index(empty, Colours())
    (empty / "a.png").write_bytes(b"")
    with pytest.raises(CondsimError, match=r"none of its 1 pictures can be read; the first: a\.png: does not decode"):
        condsim.Index(empty, Colours())


def test_a_method_that_writes_into_the_features_spoils_no_later_search(index: condsim.Index) -> None:
    class Writes(ImageOnly):
        def prepare(self, gallery: Gallery) -> Any:
            gallery.features.neg_()
            return super().prepare(gallery)

    before = index.search("blue.png").to_pandas()
    with pytest.raises(CondsimError, match=r"wrote into gallery\.features"):
        index.search("blue.png", method=Writes())
    assert index.search("blue.png").to_pandas().equals(before)


def test_the_contact_sheet_holds_the_pictures_and_no_path_of_this_machine(
    index: condsim.Index, folder: Path, tmp_path: Path
) -> None:
    matches = index.search("blue.png", "<b>red</b>", why=True, k=3)
    page = matches.to_html(tmp_path / "sheets/sheet.html").read_text()
    assert page.count("data:image/webp;base64,") == 4
    assert str(tmp_path) not in page
    assert "&lt;b&gt;red&lt;/b&gt;" in page
    assert "default-src 'none'" in page
    assert matches[0].why in page
    assert "<html" not in matches._repr_html_()
    (folder / "sky.png").unlink()
    assert "not readable" in matches._repr_html_()


@pytest.fixture
def colours_by_name(tmp_path: Path) -> Iterator[list[str]]:
    """The options that choose the backbone of this file."""
    (tmp_path / "configs/backbone").mkdir(parents=True)
    (tmp_path / "configs/backbone/colours.yaml").write_text(f"_target_: {Colours.__module__}.Colours\n")
    configs.forget()
    yield ["--config-dir", str(tmp_path / "configs"), "--backbone", "colours"]
    configs.forget()


def test_the_command_prints_a_table_or_json_and_writes_a_sheet(
    folder: Path, tmp_path: Path, colours_by_name: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    condition = ["--image", "blue.png", "--condition", "tint", "--values", "tint=red,blue,green"]
    sheet = tmp_path / "sheet.html"
    options = ["search", str(folder), *condition, "--method", "clay", "method.rank=2", "--top", "2", *colours_by_name]
    assert cli.main([*options, "--why", "--html", str(sheet)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].endswith("blue.png | tint (clay)")
    assert told[1].split()[0] == "1"
    assert told[1].split()[2:4] == [str(folder / "sky.png"), "blue"]
    assert told[3] == f"{sheet} written"
    assert sheet.is_file()
    assert cli.main([*options, "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["queries"][0]["conditions"] == ["tint"]
    assert content["queries"][0]["results"][0]["path"] == str(folder / "sky.png")
    assert cli.main(["search", str(folder), "rank=5", *colours_by_name]) == 2
    assert "expected a setting method.NAME=VALUE" in capsys.readouterr().err
    assert cli.main([*options, "--values", "colour=red,blue"]) == 2
    assert "--values colour=...: the query has no such condition. Choose one of: tint." in capsys.readouterr().err
    assert cli.main(["search", str(folder), "--image", str(folder), *colours_by_name]) == 2
    assert f"the query picture {folder} is a folder" in capsys.readouterr().err
