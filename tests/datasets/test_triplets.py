"""Training tables: blank and missing labels teach nothing, a row without a caption is named."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from condsim.datasets.triplets import captioned, mined, same_label
from condsim.harness.errors import CondsimError
from condsim.harness.triplets import Triplets


def pairs(triplets: Triplets) -> set[tuple[str, str]]:
    names = triplets.images.names
    return {(names[r], names[t]) for r, t in zip(triplets.reference, triplets.target, strict=True)}


AB = {("a.png", "b.png"), ("b.png", "a.png")}


def test_images_without_a_label_are_not_alike(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,color\na.png,red\nb.png, red\nc.png,\nd.png,\u00a0\ne.png,blue\n")
    frame = pd.DataFrame({"image": [f"{c}.png" for c in "abcde"], "color": ["red", "red", None, float("nan"), "blue"]})
    frame.to_parquet(tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        assert pairs(same_label(tmp_path / name, ["color"])) == AB
        assert pairs(same_label(tmp_path / name, "color")) == AB


def test_labels_in_training_have_the_benchmarks_spelling(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(" image,color \n./a.png,3\nb.png ,3.0\nc.png,4\n")
    assert pairs(same_label(tmp_path / "t.csv", ["color"])) == AB


def test_several_labels_have_to_agree_and_be_there(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,color,shape\na.png,red,disc\nb.png,red,disc\nc.png,red,\nd.png,red,\n")
    assert pairs(same_label(tmp_path / "t.csv", ["color", "shape"])) == AB


@pytest.mark.parametrize("caption", [None, "", " \u00a0"])
def test_a_row_without_a_caption_is_named(tmp_path: Path, caption: str | None) -> None:
    pd.DataFrame({"image": ["a.png", "b.png"], "caption": ["red", caption]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(CondsimError, match=r"t\.parquet: row 2: caption: there is no caption"):
        captioned(tmp_path / "t.parquet")


@pytest.mark.parametrize("image", [None, "", "../a.png", "a\x00.png"])
def test_a_row_without_an_image_is_named(tmp_path: Path, image: str | None) -> None:
    frame = pd.DataFrame({"image": ["a.png", image], "caption": ["red", "red"], "color": ["red", "red"]})
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(CondsimError, match=r"t\.parquet: row 2: image"):
        captioned(tmp_path / "t.parquet")
    with pytest.raises(CondsimError, match=r"t\.parquet: row 2: image"):
        same_label(tmp_path / "t.parquet", ["color"])


def test_a_limit_draws_rows_by_the_seed_and_still_names_rows_of_the_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,caption\n" + "".join(f"{i}.png,text {i}\n" for i in range(9)))
    drawn = {seed: captioned(tmp_path / "t.csv", limit=4, seed=seed) for seed in (0, 1)}
    for triplets in drawn.values():
        assert [triplets.images.names[row] for row in triplets.target] == sorted(triplets.images.names)
        assert [triplets.texts[t][5:] for t in triplets.text] == [
            triplets.images.names[i][:-4] for i in triplets.target
        ]
    assert len(drawn[0]) == len(drawn[1]) == 4
    assert drawn[0].fingerprint == captioned(tmp_path / "t.csv", limit=4).fingerprint != drawn[1].fingerprint
    assert len(captioned(tmp_path / "t.csv", limit=9)) == 9
    with (tmp_path / "t.csv").open("a") as file:
        file.write("9.png,\n")
    with pytest.raises(CondsimError, match="row 10: caption"):
        captioned(tmp_path / "t.csv", limit=10)


def test_no_label_at_all(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,color\na.png,\nb.png,\n")
    with pytest.raises(CondsimError, match="no two images agree in color"):
        same_label(tmp_path / "t.csv", ["color"])


def test_a_file_that_is_spelt_otherwise_is_found(tmp_path: Path) -> None:
    (tmp_path / "e\u0301.png").write_bytes(b"")
    (tmp_path / "t.csv").write_text("image,caption\n\u00e9.png,red\n")
    triplets = captioned(tmp_path / "t.csv")
    assert triplets.images.path(0) == tmp_path / "e\u0301.png"


def test_mined_triplets_with_an_empty_cell_are_named(tmp_path: Path) -> None:
    row = {"reference": "a", "target": "b", "subject": "s", "condition": "on c", "object": "c", "object_head": "c"}
    for column in ("reference", "target", "subject", "condition"):
        pd.DataFrame([row, {**row, column: None}]).to_parquet(tmp_path / "t.parquet")
        with pytest.raises(CondsimError, match=rf"t\.parquet: row 2: {column} is empty"):
            mined(tmp_path / "t.parquet", tmp_path)
