"""Published features are looked up by name, from each of the formats."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from condsim.harness.encoding import encode_images
from condsim.harness.errors import CondsimError, UnusableRowsError
from condsim.harness.features.published.backbone import Precomputed
from condsim.harness.files.gallery_parts import write_parts
from condsim.harness.task import ImageTable

NAMES = tuple(f"folder/{i}.jpg" for i in range(20))
FEATURES = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
TEXTS = ("a dog", "a cat", "two\tcats")


def write(path: Path, features: np.ndarray, names: tuple[str, ...], names_suffix: str = ".txt") -> Path:
    if path.suffix == ".npy":
        np.save(path, features)
    elif path.suffix == ".safetensors":
        save_file({"features": features, "other": np.zeros(3)}, path)
    else:
        pq.write_table(pa.table({"name": names, "embedding": list(features)}), path)
        return path
    text = json.dumps(names) if names_suffix == ".json" else "\n".join(names)
    path.with_suffix(names_suffix).write_text(text)
    return path


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".parquet"])
def test_rows_are_found_by_name_in_any_order(tmp_path: Path, suffix: str, dtype: type) -> None:
    stored: NDArray[Any] = FEATURES.astype(dtype)
    images = write(tmp_path / f"images{suffix}", stored, NAMES)
    backbone = Precomputed(images, cache_dir=tmp_path / "cache")
    assert (backbone.name, backbone.width) == ("images", 6)
    whole = backbone.encode_images(ImageTable(tmp_path, NAMES))
    assert whole.dtype == torch.float32
    assert (whole.numpy() == stored.astype(np.float32)).all()
    some = np.array([7, 3, 3, 19])
    found = backbone.encode_images(ImageTable(tmp_path, NAMES).take(some))
    assert (found.numpy() == stored[some].astype(np.float32)).all()


def test_a_crop_has_a_name_of_its_own(tmp_path: Path) -> None:
    boxes = np.array([[np.nan] * 4, [10, 20, 64, 48.5]])
    table = ImageTable(tmp_path, ("a.jpg", "a.jpg"), boxes)
    images = write(tmp_path / "images.npy", FEATURES[:2], ("a.jpg#10,20,64,48.5", "a.jpg"))
    found = Precomputed(images, cache_dir=tmp_path / "cache").encode_images(table)
    assert (found.numpy() == FEATURES[[1, 0]]).all()


def test_an_npz_file_holds_features_and_names(tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    np.savez(path, features=FEATURES, names=np.array(NAMES))
    assert (Precomputed(path).encode_images(ImageTable(tmp_path, NAMES[::-1])).numpy() == FEATURES[::-1]).all()
    np.savez(path, vectors=FEATURES)
    with pytest.raises(CondsimError, match=r"expected an array of features.*found vectors"):
        Precomputed(path)


def test_a_name_twice_is_refused_in_the_files_own_order_too(tmp_path: Path) -> None:
    names = (NAMES[0], NAMES[1], NAMES[0])
    path = write(tmp_path / "twice.npy", FEATURES[:3].astype(np.float16), names)
    with pytest.raises(CondsimError, match=f"duplicate name {NAMES[0]!r}"):
        Precomputed(path, cache_dir=tmp_path).encode_images(ImageTable(tmp_path, names))


def test_queries_and_database_may_be_files_of_their_own(tmp_path: Path) -> None:
    queries = write(tmp_path / "queries.npy", FEATURES[:5], NAMES[:5])
    database = write(tmp_path / "database.safetensors", FEATURES[5:].astype(np.float16), NAMES[5:])
    backbone = Precomputed([queries, str(database)], name="both", cache_dir=tmp_path)
    some = np.array([17, 2, 5, 4, 2])
    found = backbone.encode_images(ImageTable(tmp_path, NAMES).take(some)).numpy()
    assert found == pytest.approx(FEATURES[some], abs=2e-3)
    assert (found[[1, 3]] == FEATURES[[2, 4]]).all()
    assert len(backbone.identity) == 1 + 4
    again = write(tmp_path / "again.npy", FEATURES[:3], NAMES[2:5])
    with pytest.raises(CondsimError, match=f"duplicate name {NAMES[2]!r}"):
        Precomputed([queries, again]).encode_images(ImageTable(tmp_path, NAMES[:2]))
    with pytest.raises(CondsimError, match="2 files of features for 1 files of names"):
        Precomputed([queries, database], image_names=[tmp_path / "queries.txt"])


def test_texts_are_looked_up_as_they_are(tmp_path: Path) -> None:
    images = write(tmp_path / "images.npy", FEATURES, NAMES)
    texts = write(tmp_path / "texts.npy", FEATURES[:3], TEXTS, ".json")
    backbone = Precomputed(images, texts, name="published")
    assert (backbone.encode_texts(["two\tcats", "a dog"]).numpy() == FEATURES[[2, 0]]).all()
    assert backbone.encode_texts([]).shape == (0, 6)
    message = r"text 1, 'a dgo': has no features.*\n.*'a dog'(.|\n)*add them to"
    with pytest.raises(UnusableRowsError, match=message) as error:
        backbone.encode_texts(["a cat", "a dgo"])
    assert not error.value.skippable  # nobody is advised to skip images
    with pytest.raises(CondsimError, match=r"backbone\.texts=FILE"):
        Precomputed(images).encode_texts(["a dog"])


def test_the_identity_follows_the_content(tmp_path: Path) -> None:
    images = write(tmp_path / "images.npy", FEATURES, NAMES)
    before = Precomputed(images, cache_dir=tmp_path).identity
    moved = write(tmp_path / "moved.npy", FEATURES, NAMES)
    assert Precomputed(moved, name="images", cache_dir=tmp_path).identity == before
    write(moved, FEATURES, NAMES[::-1])
    assert Precomputed(moved, name="images", cache_dir=tmp_path).identity != before
    write(moved, FEATURES + 1, NAMES)
    assert Precomputed(moved, name="images", cache_dir=tmp_path).identity != before


def test_what_is_missing_or_wrong_is_named(tmp_path: Path) -> None:
    images = write(tmp_path / "images.npy", FEATURES, NAMES)
    with pytest.raises(UnusableRowsError, match=r"1 of 2 rows(.|\n)*folder/x\.jpg: has no features"):
        Precomputed(images).encode_images(ImageTable(tmp_path, (NAMES[0], "folder/x.jpg")))
    with pytest.raises(CondsimError, match=r"named 'folder/0\.jpg#1,1,1,1': has no features"):
        Precomputed(images).encode_images(ImageTable(tmp_path, NAMES, np.ones((20, 4))))
    with pytest.raises(CondsimError, match="empty"):
        Precomputed(images).encode_images(ImageTable(tmp_path, ()))
    with pytest.raises(CondsimError, match=r"has 20 rows of features, but there are 3 names"):
        Precomputed(images, image_names=write(tmp_path / "texts.npy", FEATURES[:3], TEXTS).with_suffix(".txt"))
    with pytest.raises(CondsimError, match=r"width 6, but .* of 4"):
        Precomputed(images, write(tmp_path / "texts.npy", FEATURES[:3, :4], TEXTS))
    with pytest.raises(CondsimError, match="no such file"):
        Precomputed(tmp_path / "gone.npy")
    with pytest.raises(CondsimError, match=r"\.npy, \.npz, \.safetensors, \.parquet"):
        Precomputed(tmp_path / "features.h5")
    (tmp_path / "lonely.npy").write_bytes(images.read_bytes())
    with pytest.raises(
        CondsimError, match=r"per line in .*lonely\.txt, or in another file with backbone\.image_names="
    ):
        Precomputed(tmp_path / "lonely.npy")
    with pytest.raises(CondsimError, match=f"{tmp_path} is a folder"):
        Precomputed(tmp_path)
    np.save(tmp_path / "ints.npy", np.ones((3, 4), dtype=np.int64))
    with pytest.raises(CondsimError, match=r"an int64 tensor of shape \(3, 4\)"):
        Precomputed(tmp_path / "ints.npy")
    np.savez(tmp_path / "objects.npz", names=np.array(NAMES, dtype=object), features=FEATURES)
    with pytest.raises(CondsimError, match=r"the array 'names' has Python objects; expected text"):
        Precomputed(tmp_path / "objects.npz")
    np.savez(tmp_path / "words.npz", names=NAMES, features=np.array(NAMES))
    with pytest.raises(CondsimError, match=r"expected a matrix of floats: .*numpy\.str_$"):
        Precomputed(tmp_path / "words.npz")


@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".parquet"])
def test_damaged_files_are_refused(tmp_path: Path, suffix: str) -> None:
    images = write(tmp_path / f"images{suffix}", FEATURES, NAMES)
    content = images.read_bytes()
    for broken in (b"", b"garbage" * 9, content[: len(content) // 2]):
        images.write_bytes(broken)
        with pytest.raises(CondsimError, match=rf"images{suffix}(: cannot be read| is empty)"):
            Precomputed(images)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_features_that_are_not_finite_are_refused_by_name(tmp_path: Path, dtype: type) -> None:
    features: NDArray[Any] = FEATURES.astype(dtype)
    features[4, 2] = np.nan
    backbone = Precomputed(write(tmp_path / "images.npy", features, NAMES))
    with pytest.raises(UnusableRowsError, match=r"row 4, .*folder/4\.jpg: its features contain NaN"):
        backbone.encode_images(ImageTable(tmp_path, NAMES))
    assert len(backbone.encode_images(ImageTable(tmp_path, NAMES[:4]))) == 4


def test_vectors_of_zeros_are_reported_once_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features = FEATURES.copy()
    features[[3, 7]] = 0
    features[5] = 0
    features[5, :2] = 1, -1
    backbone = Precomputed(write(tmp_path / "images.npy", features, NAMES))
    backbone.encode_images(ImageTable(tmp_path, NAMES[:4]))
    assert f"1 of 4 vectors are zero, so their similarity to everything is 0: '{NAMES[3]}'" in capsys.readouterr().err
    backbone.encode_images(ImageTable(tmp_path, NAMES))
    assert (
        f"1 of 20 vectors are zero, so their similarity to everything is 0: '{NAMES[7]}'\n" in capsys.readouterr().err
    )
    parts = write_parts(tmp_path / "parts", [(NAMES[:6], features[:6]), (NAMES[6:], features[6:])])
    assert parts.zero == (3, 7)
    in_parts = Precomputed(parts.folder)
    for read in (in_parts.image_parts, in_parts.encode_images):
        read(ImageTable(tmp_path, NAMES))
    reported = capsys.readouterr().err
    assert f"{parts.folder}: 2 of 20 vectors are zero" in reported
    assert reported.count("vectors are zero") == 1


@pytest.mark.parametrize(
    "spell",
    [
        lambda name: f"./{name}",
        lambda name: name.replace("/", "\\"),
        lambda name: f"{name} ",
        lambda name: f"\ufeff{name}",
        lambda name: f"{name}\u00a0",
        lambda name: name,
    ],
)
@pytest.mark.parametrize("suffix", [".txt", ".json"])
def test_one_image_may_be_written_in_several_ways(tmp_path: Path, spell: Callable[[str], str], suffix: str) -> None:
    path = write(tmp_path / "images.npy", FEATURES, tuple(map(spell, NAMES)), suffix)
    features = Precomputed(path, cache_dir=tmp_path).encode_images(ImageTable(tmp_path, NAMES[::-1]))
    assert (features.numpy() == FEATURES[::-1]).all()
    written_so = ImageTable(tmp_path, tuple(map(spell, NAMES)))
    path = write(tmp_path / "others.npy", FEATURES, NAMES, suffix)
    assert (Precomputed(path, cache_dir=tmp_path).encode_images(written_so).numpy() == FEATURES).all()


def test_texts_in_another_unicode_form_are_found(tmp_path: Path) -> None:
    images = write(tmp_path / "images.npy", FEATURES, NAMES)
    texts = write(tmp_path / "texts.npy", FEATURES[:2], ("cafe\u0301", "\ufeffa dog "))
    features = Precomputed(images, texts, cache_dir=tmp_path).encode_texts(["a dog", "caf\u00e9"])
    assert (features.numpy() == FEATURES[[1, 0]]).all()


def test_a_name_that_two_rows_may_mean_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "images.npy", FEATURES[:3], ("./a.png", "a.png ", "b.png"))
    backbone = Precomputed(path, cache_dir=tmp_path)
    with pytest.raises(UnusableRowsError, match="several rows have its name"):
        backbone.encode_images(ImageTable(tmp_path, ("b.png", "a.png")))
    assert (backbone.encode_images(ImageTable(tmp_path, ("./a.png",))).numpy() == FEATURES[:1]).all()


def test_blank_lines_at_the_end_of_the_names_are_no_names(tmp_path: Path) -> None:
    path = write(tmp_path / "images.npy", FEATURES, NAMES)
    path.with_suffix(".txt").write_text("\r\n".join(NAMES) + "\r\n\r\n  \n")
    assert (Precomputed(path, cache_dir=tmp_path).encode_images(ImageTable(tmp_path, NAMES)).numpy() == FEATURES).all()


def test_on_another_device_features_are_copied_there_and_no_gallery_is_in_parts(tmp_path: Path) -> None:
    write_parts(tmp_path / "parts", [(NAMES, FEATURES)])
    table = ImageTable(tmp_path, NAMES)
    here, there = (
        Precomputed(tmp_path / "parts", device=device, cache_dir=tmp_path / "cache") for device in ("cpu", "meta")
    )
    assert here.image_parts(table) is not None
    assert there.image_parts(table) is None
    assert there.mapped_images(table).device == encode_images(there, table).device == torch.device("meta")
