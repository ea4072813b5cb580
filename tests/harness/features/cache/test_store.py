"""The feature store: what is encoded once is never encoded again, and what is not the same is never taken for it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import condsim.harness.features.cache.digest_index as digests_module
from condsim.harness.errors import CondsimError, UnusableRowsError
from condsim.harness.features.cache import table as feature_table
from condsim.harness.features.cache.digest_index import DigestIndex
from condsim.harness.features.cache.file_digests import stamp_files
from condsim.harness.features.cache.looks import KEPT_SECONDS, KeptLooks
from condsim.harness.features.cache.request import Encoded
from condsim.harness.features.cache.store import FeatureStore, text_keys
from condsim.harness.features.cache.table import FeatureTable
from condsim.harness.files.hashing import digest
from condsim.harness.task import CropRule, ImageTable

WIDTH = 5
IDENTITY = {"model": "stub", "transform": "stock"}


class Encoder:
    """Features that are a function of the text, and a note of every row that was encoded."""

    def __init__(self, texts: Sequence[str], batch: int = 4) -> None:
        self.texts, self.batch = texts, batch
        self.rows: list[int] = []

    def __call__(self, rows: NDArray[np.int64]) -> Generator[Encoded, None, None]:
        for start in range(0, len(rows), self.batch):
            part = rows[start : start + self.batch]
            self.rows += part.tolist()
            yield Encoded(part, features_of([self.texts[row] for row in part]))


def features_of(texts: Sequence[str]) -> NDArray[np.float32]:
    seeds = [int.from_bytes(digest(text.encode())[:4], "little") for text in texts]
    return np.stack([np.random.default_rng(seed).normal(size=WIDTH) for seed in seeds]).astype(np.float32)


def fetch(root: Path, texts: Sequence[str], batch: int = 4) -> tuple[NDArray[np.float32], list[int]]:
    """The features, and the rows that had to be encoded; by a store that knows only what is on the disk."""
    encoder = Encoder(texts, batch)
    folder = FeatureStore(root).table(IDENTITY, "text", WIDTH)
    return folder.fetch(text_keys(texts), encoder, lambda row: f"text {row}"), encoder.rows


def test_what_was_encoded_is_not_encoded_again(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(11)]
    first, encoded = fetch(tmp_path, texts)
    assert encoded == list(range(11))
    assert (first == features_of(texts)).all()
    more = [*reversed(texts), "new"]
    again, encoded = fetch(tmp_path, more)
    assert encoded == [11]
    assert (again == features_of(more)).all()
    assert again.dtype == np.float32


def test_equal_rows_of_one_request_are_encoded_once(tmp_path: Path) -> None:
    texts = ["a", "b", "a", "c", "b", "a"]
    features, encoded = fetch(tmp_path, texts)
    assert encoded == [0, 1, 3]
    assert (features == features_of(texts)).all()


def test_an_empty_request_has_the_right_width_and_writes_nothing(tmp_path: Path) -> None:
    features, encoded = fetch(tmp_path, [])
    assert features.shape == (0, WIDTH)
    assert not encoded
    assert not (tmp_path / "features").exists()


def test_a_request_repeated_in_one_process_reads_and_copies_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["a", "b"]
    table = FeatureStore(tmp_path).table(IDENTITY, "text", WIDTH)
    first = table.fetch(text_keys(texts), Encoder(texts), str)
    monkeypatch.setattr(feature_table, "Segment", None)
    shutil.rmtree(tmp_path)
    assert table.fetch(text_keys(texts), Encoder(texts), str) is first
    assert (first == features_of(texts)).all()


def test_what_was_written_into_features_is_forgotten(tmp_path: Path) -> None:
    texts = ["a", "b", "a"]
    table = FeatureStore(tmp_path).table(IDENTITY, "text", WIDTH)
    table.fetch(text_keys(texts), Encoder(texts), str)[:] = 0
    table.forget_recent()
    assert (table.fetch(text_keys(texts), Encoder(texts), str) == features_of(texts)).all()


def test_notes_are_stored_with_the_features_they_belong_to(tmp_path: Path) -> None:
    def encode(rows: NDArray[np.int64]) -> Generator[Encoded, None, None]:
        yield Encoded(rows, np.ones((len(rows), WIDTH), np.float32), notes=(rows % 3).astype(np.uint8))

    texts = [f"text {i}" for i in range(9)]
    FeatureStore(tmp_path).table(IDENTITY, "text", WIDTH).fetch(text_keys(texts), encode, str)
    FeatureStore(tmp_path).table(IDENTITY, "text", WIDTH).fetch(text_keys(["more"]), Encoder(["more"]), str)
    again = FeatureStore(tmp_path).table(IDENTITY, "text", WIDTH)
    assert again.notes(text_keys([*texts[::-1], "more", "unknown"])).tolist() == [*reversed([0, 1, 2] * 3), 0, 0]


def test_other_backbones_and_kinds_share_nothing(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    folders = [
        store.table(identity, kind, WIDTH)
        for identity in (IDENTITY, {**IDENTITY, "transform": "targetpad-1.25"}, {**IDENTITY, "precision": "bf16"})
        for kind in ("image", "text")
    ]
    for folder in folders:
        encoder = Encoder(["a"])
        folder.fetch(text_keys(["a"]), encoder, str)
        assert encoder.rows == [0]


@pytest.fixture
def most_small(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(feature_table, "MOST_SMALL", 10)
    return 10


def test_many_batches_end_in_few_files(tmp_path: Path, most_small: int) -> None:
    texts = [f"text {i}" for i in range(200)]
    features, _ = fetch(tmp_path, texts, batch=2)
    files = list(tmp_path.rglob("*.safetensors"))
    assert len(files) <= most_small
    again, encoded = fetch(tmp_path, texts)
    assert not encoded
    assert (again == features).all()


def test_large_files_are_left_out_of_merges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_small: int) -> None:
    monkeypatch.setattr(feature_table, "SMALL_BYTES", 1000)
    fetch(tmp_path, [f"text {i}" for i in range(100)], batch=100)
    (large,) = tmp_path.rglob("*.safetensors")
    for i in range(most_small + 5):
        fetch(tmp_path, [f"more {i}"])
    assert large.exists()
    assert len(list(tmp_path.rglob("*.safetensors"))) <= 2 + most_small


def test_features_that_are_not_finite_are_refused_by_name_and_the_rest_kept(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(8)]

    def encode(rows: NDArray[np.int64]) -> Generator[Encoded, None, None]:
        features = features_of([texts[row] for row in rows])
        features[rows == 2, 1] = np.nan
        features[rows == 5, 4] = np.inf
        yield Encoded(rows, features)

    folder = FeatureStore(tmp_path).table(IDENTITY, "text", WIDTH)
    with pytest.raises(UnusableRowsError) as caught:
        folder.fetch(text_keys(texts), encode, lambda row: f"the {texts[row]!r}")
    assert list(caught.value.faults) == [2, 5]
    assert "2 of 8 rows" in str(caught.value)
    assert "the 'text 2': its features contain NaN or infinity" in str(caught.value)
    assert fetch(tmp_path, texts)[1] == [2, 5]


def test_faults_of_the_encoder_are_reported_after_all_else_is_stored(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(30)]

    def encode(rows: NDArray[np.int64]) -> Generator[Encoded, None, None]:
        for row in rows:
            bad = {int(row): "no good"} if row % 2 else {}
            part = np.array([] if bad else [row], dtype=np.int64)
            yield Encoded(part, features_of([texts[row]])[: len(part)], bad)

    folder = FeatureStore(tmp_path).table(IDENTITY, "text", WIDTH)
    with pytest.raises(UnusableRowsError) as caught:
        folder.fetch(text_keys(texts), encode, lambda row: f"text {row}")
    message = str(caught.value)
    assert "15 of 30 rows cannot be encoded" in message
    assert "text 19: no good" in message
    assert "text 21" not in message
    assert "... and 5 more" in message
    assert len(caught.value.faults) == 15
    assert fetch(tmp_path, texts)[1] == list(range(1, 30, 2))


def test_features_of_another_width_are_refused(tmp_path: Path) -> None:
    folder = FeatureStore(tmp_path).table(IDENTITY, "text", WIDTH)

    def encode(rows: NDArray[np.int64]) -> Generator[Encoded, None, None]:
        yield Encoded(rows, np.zeros((len(rows), WIDTH + 1), np.float32))

    with pytest.raises(CondsimError, match=r"shape \(1, 6\) for 1 rows of width 5"):
        folder.fetch(text_keys(["a"]), encode, str)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three files of different content; the store does not care that they are no pictures."""
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.png", "b.png", "sub/c.png"):
        (folder / name).write_text(f"content of {name}")
    past(folder)
    return folder


def past(folder: Path) -> None:
    """Let the files be old enough for their digests to be remembered."""
    time.sleep(1.5 * digests_module.RACY_NS / 1e9)  # type: ignore[attr-defined]


def keys(
    store: Path, root: Path, *names: str, boxes: object = None, dilation: float = 0.7, crop: CropRule = "genecis"
) -> list[bytes]:
    table = ImageTable(root, names, None if boxes is None else np.array(boxes, dtype=np.float64), dilation, crop=crop)
    return FeatureStore(store).image_keys(table).keys


def test_renamed_moved_and_copied_images_keep_their_key(tmp_path: Path, pictures: Path) -> None:
    before = keys(tmp_path, pictures, "a.png", "b.png", "sub/c.png")
    assert len(set(before)) == 3
    (pictures / "a.png").rename(pictures / "renamed.png")
    shutil.copy(pictures / "b.png", pictures / "copied.png")
    shutil.copytree(pictures, tmp_path / "elsewhere")
    assert keys(tmp_path, pictures, "renamed.png", "copied.png", "sub/c.png") == before
    assert keys(tmp_path, tmp_path / "elsewhere", "renamed.png", "b.png", "sub/c.png") == before


def test_an_edited_image_has_another_key_however_like_the_file_looks(tmp_path: Path, pictures: Path) -> None:
    (before,) = keys(tmp_path, pictures, "a.png")
    file = pictures / "a.png"
    stat, size = file.stat(), file.stat().st_size
    file.write_text("CONTENT OF a.png")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file.stat().st_size == size
    (after,) = keys(tmp_path, pictures, "a.png")
    assert after != before


def test_files_edited_in_quick_succession_are_never_confused(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    file = tmp_path / "a.png"
    for i in range(30):
        file.write_text(f"{i:05d}")
        assert store.image_keys(ImageTable(tmp_path, ("a.png",))).digests == [digest(f"{i:05d}".encode())]


def test_the_crop_is_part_of_the_key(tmp_path: Path, pictures: Path) -> None:
    whole = [np.nan] * 4
    boxes = [whole, [1, 2, 3, 4], [1, 2, 3, 4.5], [1, 2, 3, 4]]
    a = keys(tmp_path, pictures, "a.png", "a.png", "a.png", "b.png", boxes=boxes)
    assert len(set(a)) == 4
    assert a[0] == keys(tmp_path, pictures, "a.png")[0], "a row without a box is the whole image"
    assert a[1] == keys(tmp_path, pictures, "a.png", boxes=[[1, 2, 3, 4]])[0]
    assert a[1] != keys(tmp_path, pictures, "a.png", boxes=[[1, 2, 3, 4]], dilation=0.5)[0]
    assert a[1] != keys(tmp_path, pictures, "a.png", boxes=[[1, 2, 3, 4]], crop="plain")[0]


def test_keys_are_the_same_on_every_machine_and_version(tmp_path: Path, pictures: Path) -> None:
    """If this fails, every user's features are encoded again: change the constants only when they have to be."""
    assert text_keys(["a photo of a dog"])[0].hex() == "e4f914634c12889d5176c817523daa70"
    assert keys(tmp_path, pictures, "a.png")[0].hex() == "5cd1af0a2b06a805a3a9fce2bf72f4e2"
    assert keys(tmp_path, pictures, "a.png", boxes=[[1, 2, 3, 4]])[0].hex() == "02c6e76401768495d9dc89734b739002"


def test_missing_files_are_counted_and_named(tmp_path: Path, pictures: Path) -> None:
    names = ("a.png", *(f"gone-{i}.png" for i in range(12)), "gone-0.png", "sub")
    with pytest.raises(UnusableRowsError) as caught:
        keys(tmp_path, pictures, *names)
    message = str(caught.value)
    assert "13 of 15 rows" in message
    assert f"row 1, {pictures / 'gone-0.png'}: there is no such file" in message
    assert "... and 3 more" in message
    assert 13 in caught.value.faults, "a name that is in the table twice is a fault twice"


def test_a_folder_in_place_of_a_file_is_a_fault(tmp_path: Path, pictures: Path) -> None:
    with pytest.raises(UnusableRowsError, match="row 1"):
        keys(tmp_path, pictures, "a.png", "sub")


def test_unchanged_files_are_not_read_again(tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(tmp_path, pictures, "a.png", "b.png")
    read: list[str] = []
    real = digests_module.digest_files  # type: ignore[attr-defined]
    monkeypatch.setattr(digests_module, "digest_files", lambda paths: read.extend(paths) or real(paths))
    assert keys(tmp_path, pictures, "a.png", "b.png") == before
    assert not read
    keys(tmp_path, pictures, "a.png", "sub/c.png")
    assert read == [str(pictures / "sub/c.png")]


def test_the_digest_of_a_table_is_that_of_its_keys_whether_stored_or_not(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digest_of(**more: Any) -> bytes:
        table = ImageTable(pictures, ("a.png", "b.png"), **more)
        known = FeatureStore(tmp_path).images_digest(table)
        assert known == digest(b"".join(FeatureStore(tmp_path).image_keys(table).keys))
        return known

    boxes = np.array([[1.0, 2, 3, 4], [1, 2, 3, 4]])
    first = [digest_of(), digest_of(boxes=boxes), digest_of(boxes=boxes, crop="plain")]
    assert len(set(first)) == 3
    with monkeypatch.context() as patch:
        patch.setattr(FeatureStore, "_keys", None)
        assert FeatureStore(tmp_path).images_digest(ImageTable(pictures, ("a.png", "b.png"))) == first[0]
    (pictures / "b.png").write_text("CONTENT OF b.png")
    assert digest_of() != first[0]
    past(pictures)
    assert digest_of() != first[0]


def test_the_runs_of_one_command_share_a_look_at_the_files(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, store, looks = ImageTable(pictures, ("a.png", "b.png")), FeatureStore(tmp_path), KeptLooks()
    with looks.used():
        first = store.images_digest(table)
        (pictures / "b.png").write_text("CONTENT OF b.png")
        assert store.images_digest(table) == digest(b"".join(store.image_keys(table).keys)) == first
    changed = store.images_digest(table)
    assert changed != first, "outside, every change is noticed at once"
    with KeptLooks().used():
        assert store.images_digest(table) == changed, "the next command looks again"
    later = time.monotonic() + KEPT_SECONDS
    monkeypatch.setattr(time, "monotonic", lambda: later)
    with looks.used():
        assert store.images_digest(table) == changed, "a long command looks again"


def test_names_that_are_not_utf8_are_files_like_others(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 '\"%.png")
    (tmp_path / name).write_text("x")
    past(tmp_path)
    assert keys(tmp_path, tmp_path, name) == keys(tmp_path, tmp_path, name) == [digest(b"x")]


def test_entries_of_files_that_are_gone_are_forgotten(tmp_path: Path, pictures: Path) -> None:
    keys(tmp_path, pictures, "a.png", "b.png")
    (pictures / "a.png").unlink()
    index = DigestIndex(tmp_path / "digests.sqlite")
    assert index.forget_missing() == 1
    assert index.forget_missing() == 0
    assert index.digests([str(pictures / "b.png")], stamp_files([str(pictures / "b.png")])) == [
        digest(b"content of b.png")
    ]


def test_features_lie_under_the_backbones_name(tmp_path: Path) -> None:
    fetch(tmp_path, ["a"])
    (identity,) = tmp_path.glob("features/stub-*/identity.json")
    assert '"transform": "stock"' in identity.read_text()
    assert len(FeatureTable(identity.parent / "text", WIDTH, IDENTITY)) == 1


def test_a_fault_is_reported_for_every_row_with_the_same_file(tmp_path: Path) -> None:
    def fails(rows: NDArray[np.int64]) -> Generator[Encoded, None, None]:
        yield Encoded(rows[:0], np.zeros((0, 0), np.float32), {int(row): "does not decode" for row in rows})

    with pytest.raises(UnusableRowsError) as caught:
        FeatureStore(tmp_path).table(IDENTITY, "image", WIDTH).fetch(text_keys(["a", "b", "a"]), fails, str)
    assert caught.value.faults == dict.fromkeys(range(3), "does not decode")
    assert caught.value.skippable


def test_files_that_are_no_longer_read_are_deleted_after_a_day(tmp_path: Path) -> None:
    """Another machine may have mapped one of them."""
    texts = [f"text {i}" for i in range(130)]
    fetch(tmp_path, texts, batch=2)
    (folder,) = tmp_path.glob("features/*/text")
    old = list((folder / feature_table.OLD).iterdir())
    assert len(old) == feature_table.MOST_SMALL + 1, "those that were merged"
    fetch(tmp_path, ["one more"])
    assert all(path.exists() for path in old)
    yesterday = time.time() - 25 * 3600
    for path in old[:3]:
        os.utime(path, (yesterday, yesterday))
    fetch(tmp_path, ["and another"])
    assert [path.exists() for path in old] == [False] * 3 + [True] * (len(old) - 3)
