"""The index of digests only saves time: damage in it, or a lock on it, never yields another digest or an error."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from condsim.harness.features.cache import digest_index
from condsim.harness.features.cache.digest_index import DigestIndex
from condsim.harness.features.cache.file_digests import stamp_files
from condsim.harness.files.hashing import digest

FILES = 40


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("files")
    for i in range(FILES):
        file = folder / f"{i:02d}.png"
        file.write_text(f"content {i}")
        os.utime(file, (1e9, 1e9))
    time.sleep(1.5 * digest_index.RACY_NS / 1e9)  # type: ignore[attr-defined]  # their ctime is old enough for their digests to be stored
    return [str(folder / f"{i:02d}.png") for i in range(FILES)]


def digests(file: Path, paths: list[str]) -> list[bytes]:
    """As a new process gets them."""
    return DigestIndex(file).digests(paths, stamp_files(paths))


EXPECTED = [digest(f"content {i}".encode()) for i in range(FILES)]


@pytest.fixture
def index(tmp_path: Path, paths: list[str]) -> Path:
    file = tmp_path / "digests.sqlite"
    assert digests(file, paths) == EXPECTED
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT count(*) FROM digests").fetchone() == (FILES,)
    return file


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE digests SET digest = (SELECT max(digest) FROM digests) WHERE path LIKE '%3.png'",
        "UPDATE digests SET digest = 12345",
        "UPDATE digests SET stamp = NULL, checksum = NULL",
        "UPDATE digests SET checksum = x'00'",
        "DROP TABLE digests",
        "DROP TABLE digests; CREATE TABLE digests (path TEXT PRIMARY KEY)",
        "DROP TABLE digests; CREATE VIEW digests AS SELECT 1 AS path, 2 AS stamp, 3 AS digest, 4 AS checksum",
    ],
)
def test_a_row_that_was_changed_is_not_used(index: Path, paths: list[str], damage: str) -> None:
    with sqlite3.connect(index) as connection:
        connection.executescript(damage)
    assert digests(index, paths) == EXPECTED
    assert digests(index, paths) == EXPECTED
    with sqlite3.connect(index) as connection:
        assert connection.execute("SELECT count(*) FROM digests").fetchone() == (FILES,), "it is written again"


def test_exchanged_digests_are_found(index: Path, paths: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect(index) as connection:
        rows = connection.execute("SELECT path, digest FROM digests ORDER BY path LIMIT 2").fetchall()
        for (path, _), (_, other) in zip(rows, rows[::-1], strict=True):
            connection.execute("UPDATE digests SET digest = ? WHERE path = ?", (other, path))
    assert digests(index, paths) == EXPECTED
    assert capsys.readouterr().err.count("is damaged") == 1


def flip(content: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice((1, 1, 5, 50))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return content


def cut(content: bytearray, rng: random.Random) -> bytearray:
    return content[: rng.randrange(len(content))]


def blank(content: bytearray, rng: random.Random) -> bytearray:
    start = rng.randrange(len(content))
    content[start : start + 500] = bytes(len(content[start : start + 500]))
    return content


def random_page(content: bytearray, rng: random.Random) -> bytearray:
    page = 4096 * rng.randrange(max(1, len(content) // 4096))
    content[page : page + 4096] = rng.randbytes(4096)
    return content


@pytest.mark.parametrize("damage", [flip, cut, blank, random_page])
def test_no_damage_of_the_file_yields_another_digest_or_an_error(
    index: Path, paths: list[str], damage: Callable[[bytearray, random.Random], bytearray]
) -> None:
    rng, intact = random.Random(3), index.read_bytes()
    for _ in range(12):
        index.write_bytes(damage(bytearray(intact), rng))
        assert digests(index, paths) == EXPECTED
        assert digests(index, paths) == EXPECTED
        index.write_bytes(damage(bytearray(intact), rng))
        DigestIndex(index).forget_missing()
        assert digests(index, paths) == EXPECTED


def test_a_lock_of_another_process_is_reported_once_and_waited_for_briefly(
    index: Path, paths: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest_index, "LOCK_SECONDS", 0.1)
    with sqlite3.connect(index) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        shared = DigestIndex(index)
        for _ in range(3):
            assert shared.digests(paths, stamp_files(paths)) == EXPECTED
            shared._known.clear()
        connection.rollback()
    assert capsys.readouterr().err.count("is locked by another process") == 1
    assert digests(index, paths) == EXPECTED
