"""Random damage to every file of a cache: the features that come back are always the right ones."""

from __future__ import annotations

import random
import shutil
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from condsim.harness.features.cache.digest_index import DigestIndex
from condsim.harness.features.cache.maintenance import survey, verify
from condsim.harness.features.cache.request import Encode, Encoded
from condsim.harness.features.cache.segment import Segment
from condsim.harness.features.cache.store import FeatureStore, text_keys
from condsim.harness.features.cache.table import FeatureTable
from condsim.harness.files.hashing import digest

WIDTH, TEXTS = 6, [f"text {i}" for i in range(24)]
BACKBONES = ("one", "two")
DAMAGES = 60


def features_of(model: str, kind: str, texts: list[str]) -> NDArray[np.float32]:
    seeds = [int.from_bytes(digest(f"{model} {kind} {text}".encode())[:4], "little") for text in texts]
    return np.stack([np.random.default_rng(seed).normal(size=WIDTH) for seed in seeds]).astype(np.float32)


def fetch(root: Path, model: str, kind: str, texts: list[str] = TEXTS) -> NDArray[np.float32]:
    """By a process that knows only what is on the disk."""

    def encode(rows: NDArray[np.int64]) -> Generator[Encoded, None, None]:
        for part in np.array_split(rows, max(1, len(rows) // 8)):
            yield Encoded(part, features_of(model, kind, [texts[row] for row in part]), notes=part.astype(np.uint8))

    encoder: Encode = encode
    return FeatureStore(root).table({"model": model}, kind, WIDTH).fetch(text_keys(texts), encoder, str)


def all_right(root: Path) -> bool:
    return all(
        fetch(root, model, kind).tobytes() == features_of(model, kind, TEXTS).tobytes()
        for model in BACKBONES
        for kind in ("image", "text")
    )


def damage(files: list[Path], rng: random.Random) -> str:
    """Damage one of ``files``, or exchange two."""
    file = rng.choice(files)
    content = bytearray(file.read_bytes())
    kind = rng.choice(
        ("flip", "flip", "flip", "flips", "cut", "blank", "empty", "append", "exchange", "copy", "delete")
    )
    if kind in ("flip", "flips") and content:
        for _ in range(1 if kind == "flip" else 20):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        content = content[: rng.randrange(len(content) + 1)]
    elif kind == "blank" and content:
        start = rng.randrange(len(content))
        content[start : start + 60] = bytes(len(content[start : start + 60]))
    elif kind == "empty":
        content.clear()
    elif kind == "append":
        content += rng.randbytes(9)
    elif kind in ("exchange", "copy"):
        other = rng.choice(files)
        content, mine = bytearray(other.read_bytes()), bytes(content)
        if kind == "exchange":
            other.write_bytes(mine)
    file.write_bytes(content)
    if kind == "delete":
        file.unlink()
    return kind


@pytest.mark.slow
def test_random_damage_never_changes_a_feature(tmp_path: Path) -> None:
    rng = random.Random(11)
    root = tmp_path / "cache"
    assert all_right(root)
    for number in range(DAMAGES):
        files = sorted(file for file in (root / "features").rglob("*") if file.is_file() and file.name != ".lock")
        kind = damage(files, rng)
        if number % 10 == 0:
            survey(root)
            verify(root, repair=True)
        assert all_right(root), f"damage {number}: {kind}"
        if number % 25 == 24:  # from a good state again
            shutil.rmtree(root)
            assert all_right(root)


@pytest.mark.parametrize("pair", [(("one", "text"), ("two", "text")), (("one", "image"), ("one", "text"))])
def test_segments_that_change_places_are_found_and_encoded_again(
    tmp_path: Path, pair: tuple[tuple[str, str], tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert all_right(tmp_path)
    one, two = (next(tmp_path.glob(f"features/{model}-*/{kind}")) for model, kind in pair)
    one.rename(tmp_path / "aside")
    two.rename(one)
    (tmp_path / "aside").rename(two)
    assert all_right(tmp_path)
    assert "belong to another backbone or another kind" in capsys.readouterr().err
    assert verify(tmp_path) == []


def test_a_checksum_depends_on_the_owner(tmp_path: Path) -> None:
    """A file whose metadata alone were changed to the other backbone is not taken for that backbone's."""
    assert all_right(tmp_path)
    one, two = (next(tmp_path.glob(f"features/{model}-*/text")) for model in BACKBONES)
    owners = [FeatureTable(folder, WIDTH, {"model": model}).owner for folder, model in ((one, "one"), (two, "two"))]
    for file in one.glob("*.safetensors"):
        content = file.read_bytes().replace(owners[0].encode(), owners[1].encode())
        (two / file.name).write_bytes(content)
        assert not Segment(two / file.name, WIDTH, owners[1]).intact(np.arange(1)).any()
    assert all_right(tmp_path)


def test_a_digest_index_in_a_folder_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    assert DigestIndex(tmp_path / "nowhere" / "digests.sqlite").forget_missing() == 0
