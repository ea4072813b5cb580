"""`condsim cache`: what is listed is what is stored, damage is found, and only what the command names is deleted."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from numpy.typing import NDArray

from condsim.harness.commands import cache as cache_command
from condsim.harness.errors import CondsimError
from condsim.harness.features.cache.maintenance import survey, verify
from condsim.harness.features.cache.request import Encoded
from condsim.harness.features.cache.store import FeatureStore, text_keys
from condsim.harness.files.writing import SCRATCH


def encode(rows: NDArray[np.int64]) -> Generator[Encoded, None, None]:
    yield Encoded(rows, np.ones((len(rows), 4), np.float32))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Two backbones: one with 3 image and 2 text features, one with 5 text features."""
    store = FeatureStore(tmp_path)
    one, two = ({"model": m, "weights": "ab" * 16, "transform": "stock", "precision": "fp32"} for m in ("one", "two"))
    store.table(one, "image", 4).fetch(text_keys("abc"), encode, str)
    store.table(one, "text", 4).fetch(text_keys("de"), encode, str)
    store.table(two, "text", 4).fetch(text_keys("abcde"), encode, str)
    return tmp_path


def test_ls_counts_what_is_stored(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = {entry.identity["model"]: entry for entry in survey(cache)[0]}
    assert entries["one"].counts == {"image": 3, "text": 2}
    assert entries["two"].counts == {"image": 0, "text": 5}
    files = [file for file in (cache / "features").rglob("*") if file.is_file()]
    assert sum(entry.size for entry in entries.values()) == sum(file.stat().st_size for file in files)
    assert time.time() - entries["one"].used < 3600
    assert cache_command.main(["--cache-dir", str(cache), "ls"]) == 0
    assert "fp32" in capsys.readouterr().out
    assert cache_command.main(["--cache-dir", str(cache / "nowhere"), "ls"]) == 0
    assert "no features are stored" in capsys.readouterr().out


def test_verify_finds_and_repairs_damage(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--cache-dir", str(cache), "verify"]
    assert cache_command.main(arguments) == 0
    (file,) = next(cache.glob("features/one-*/image")).glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[content.index(np.ones(4, np.float32).tobytes()) + 6] ^= 1
    file.write_bytes(content)
    (damage,) = verify(cache)
    assert damage.file == file
    assert damage.fault == "1 of its 3 rows do not match their checksums"
    assert cache_command.main(arguments) == 1
    assert str(file) in capsys.readouterr().out.replace("\n", "")
    assert cache_command.main([*arguments, "--repair"]) == 0
    assert verify(cache) == []
    assert {entry.identity["model"]: entry.counts["image"] for entry in survey(cache)[0]}["one"] == 2


def test_prune_deletes_what_is_named_and_nothing_else(cache: Path) -> None:
    entries = {entry.identity["model"]: entry for entry in survey(cache)[0]}
    name = entries["one"].path.name
    arguments = ["--cache-dir", str(cache), "prune", name]
    assert cache_command.main([*arguments, "--dry-run"]) == 0
    assert entries["one"].path.exists()
    assert cache_command.main(arguments) == 0
    assert [entry.identity["model"] for entry in survey(cache)[0]] == ["two"]
    with pytest.raises(CondsimError, match="two-"):
        cache_command.main(["--cache-dir", str(cache), "prune", entries["two"].path.name + "x"])


def test_prune_by_age(cache: Path) -> None:
    old = next(cache.glob("features/two-*/identity.json"))
    os.utime(old, (time.time() - 10 * 86_400,) * 2)
    cache_command.main(["--cache-dir", str(cache), "prune", "--unused-for", "11"])
    assert old.exists()
    cache_command.main(["--cache-dir", str(cache), "prune", "--unused-for", "9"])
    assert not old.exists()
    assert [entry.identity["model"] for entry in survey(cache)[0]] == ["one"]


def test_reading_features_counts_as_use(cache: Path) -> None:
    identity = next(cache.glob("features/two-*/identity.json"))
    os.utime(identity, (0, 0))
    settings = {"model": "two", "weights": "ab" * 16, "transform": "stock", "precision": "fp32"}
    FeatureStore(cache).table(settings, "text", 4).fetch(text_keys("ba"), encode, str)
    assert time.time() - identity.stat().st_mtime < 3600


def test_prune_without_a_choice_only_sweeps(cache: Path) -> None:
    left = next(cache.glob("features/one-*/image")) / f"{SCRATCH}elsewhere-1-abcd.safetensors"
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    cache_command.main(["--cache-dir", str(cache), "prune"])
    assert not left.exists()
    assert len(survey(cache)[0]) == 2


def test_prune_leaves_a_backbone_that_is_being_encoded_for(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = next(cache.glob("features/one-*/image"))
    with FileLock(folder / ".lock"):
        assert cache_command.main(["--cache-dir", str(cache), "prune", "--all"]) == 0
    assert "another process is writing" in capsys.readouterr().out
    assert [entry.identity["model"] for entry in survey(cache)[0]] == ["one"]


def test_features_of_another_backbone_are_found(cache: Path) -> None:
    """Two files of the same width change places, as after a careless restore."""
    one, two = (next(cache.glob(f"features/{name}-*/text")) for name in ("one", "two"))
    (first,), (second,) = one.glob("*.safetensors"), two.glob("*.safetensors")
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    damage = verify(cache)
    assert {entry.file for entry in damage} == {first, second}
    assert all("another backbone" in entry.fault for entry in damage)
    verify(cache, repair=True)
    assert verify(cache) == []
    assert {entry.identity["model"]: entry.counts for entry in survey(cache)[0]} == {
        "one": {"image": 3, "text": 0},
        "two": {"image": 0, "text": 0},
    }


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[",
        b"[" * 100_000,
        b'{"identity": {"model": "one"}, "width": 4}',
        b'{"identity": [], "width": 4}',
        b'{"identity": {}, "width": 1e400}',
        b"\xff\xfe",
        b"null",
    ],
)
def test_a_folder_of_an_unknown_backbone_is_named_and_stops_nothing(
    cache: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    file = next(cache.glob("features/one-*/identity.json"))
    file.write_bytes(content)
    assert cache_command.main(["--cache-dir", str(cache), "ls"]) == 0
    output = capsys.readouterr().out
    assert f"condsim cache prune {file.parent.name}" in " ".join(output.split())
    assert "two" in output
    assert cache_command.main(["--cache-dir", str(cache), "verify"]) == 1
    assert cache_command.main(["--cache-dir", str(cache), "prune", file.parent.name]) == 0
    assert not file.parent.exists()
    assert cache_command.main(["--cache-dir", str(cache), "verify"]) == 0


def test_markup_in_a_name_is_printed_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_command.console, "_width", 200)  # type: ignore[attr-defined]
    identity = {"model": "[/x][red]", "pretrained": "[/]"}
    FeatureStore(tmp_path).table(identity, "text", 4).fetch(text_keys("a"), encode, str)
    assert cache_command.main(["--cache-dir", str(tmp_path), "ls"]) == 0
    assert "[/x][red]" in capsys.readouterr().out


def test_a_damaged_index_of_digests_does_not_stop_prune(cache: Path) -> None:
    (cache / "digests.sqlite").write_bytes(b"SQLite format 3\0" + bytes(5000))
    assert cache_command.main(["--cache-dir", str(cache), "prune"]) == 0
