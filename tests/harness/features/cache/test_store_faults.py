"""What can go wrong with a feature store, done for real: killed processes, damaged files, full and read-only disks."""

from __future__ import annotations

import errno
import os
import random
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import filelock
import numpy as np
import pytest
from numpy.typing import NDArray

from condsim.harness.errors import CondsimError
from condsim.harness.features.cache import segment as feature_segment
from condsim.harness.features.cache import table as feature_table
from condsim.harness.features.cache.request import Encode, Encoded
from condsim.harness.features.cache.segment import Segment
from condsim.harness.features.cache.table import FeatureTable, owner_of
from condsim.harness.files.hashing import digest
from condsim.harness.files.writing import SCRATCH

WIDTH, ROWS, BATCH = 6, 120, 8
KEYS = [digest(f"row {row}".encode()) for row in range(ROWS)]
FEATURES = np.random.default_rng(7).normal(size=(ROWS, WIDTH)).astype(np.float32)
KILLS = 20
IDENTITY = {"model": "stub"}


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    """A folder for one kind of features, below the folder of its backbone."""
    folder = tmp_path / "stub" / "image"
    folder.mkdir(parents=True)
    return folder


def encode(note: Callable[[NDArray[np.int64]], object] = lambda rows: None) -> Encode:
    """An encoder that notes each batch it begins."""

    def batches(rows: NDArray[np.int64]) -> Generator[Encoded, None, None]:
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            note(part)
            yield Encoded(part, FEATURES[part])

    return batches


def fetch(folder: Path, note: Callable[[NDArray[np.int64]], object] = lambda rows: None) -> NDArray[np.float32]:
    return FeatureTable(folder, WIDTH, IDENTITY).fetch(KEYS, encode(note), str)


def rows_of(log: Path) -> list[int]:
    return [int(row) for row in log.read_text().split()] if log.exists() else []


def noting(log: Path) -> Callable[[NDArray[np.int64]], object]:
    return lambda rows: log.open("a").write(" ".join(map(str, rows)) + "\n")


def stored_rows(folder: Path) -> set[int]:
    """Which rows the store holds whole, checked against what they should be; no file of it may be damaged."""
    rows = {key: row for row, key in enumerate(KEYS)}
    found = set()
    for path, segment in FeatureTable(folder, WIDTH, IDENTITY).segments():
        assert isinstance(segment, Segment), f"{path}: {segment}"
        features, intact = segment.read(np.arange(len(segment)))
        assert intact.all()
        here = [rows[bytes(key)] for key in segment.keys]
        assert (features == FEATURES[here]).all()
        found |= set(here)
    return found


def in_child(work: Callable[[], object]) -> int:
    """``work`` in a forked process, which knows nothing of what the parent has open; its process id."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)


def killed_at_line(number: int, work: Callable[[], object]) -> Callable[[], object]:
    """``work``, killed by SIGKILL before its ``number``-th line within the store's modules."""
    files = {feature_table.__file__, feature_segment.__file__}
    left = number

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    def traced() -> None:
        sys.settrace(trace)
        work()

    return traced


def lines_of(work: Callable[[], object]) -> int:
    """How many lines within the store's modules ``work`` executes."""
    files = {feature_table.__file__, feature_segment.__file__}
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if frame.f_code.co_filename not in files:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """20 kills between any two lines of the store's code, merges among them; every process continues from the last."""
    monkeypatch.setattr(feature_table, "MOST_SMALL", 4)
    lines = lines_of(lambda: fetch(tmp_path / "whole"))
    rng = random.Random(20)
    survivors = 0
    folder, log = tmp_path / "0", tmp_path / "0.log"
    for kill in range(KILLS):
        before, begun = stored_rows(folder), len(rows_of(log))
        work = partial(fetch, folder, noting(log))
        _, status = os.waitpid(in_child(killed_at_line(rng.randrange(lines // 3), work)), 0)
        new = stored_rows(folder) - before
        encoded = rows_of(log)[begun:]
        assert before <= stored_rows(folder), "nothing that was stored is lost"
        assert set(encoded) >= new
        assert not before & set(encoded), "nothing that was stored is encoded again"
        assert len(set(encoded) - new) <= BATCH, "at most one batch was lost"
        if os.WIFSIGNALED(status):
            continue
        assert status == 0
        survivors += 1
        assert (fetch(folder) == FEATURES).all()
        folder, log = tmp_path / str(kill + 1), tmp_path / f"{kill + 1}.log"
    assert KILLS - survivors >= 14
    features = fetch(folder)
    assert features.tobytes() == FEATURES.tobytes(), "bit-identical"
    assert not list(folder.glob(f"{SCRATCH}*")), "nothing half-written is left"


def test_killed_by_the_clock(tmp_path: Path) -> None:
    """Kills from outside, at any instruction, also inside a write."""
    rng = random.Random(3)
    log = tmp_path / "log"
    for _ in range(8):
        begun, before = len(rows_of(log)), stored_rows(tmp_path / "f")

        def slowly(rows: NDArray[np.int64]) -> None:
            noting(log)(rows)
            time.sleep(0.002)

        child = in_child(lambda: fetch(tmp_path / "f", slowly))
        time.sleep(rng.uniform(0, 0.04))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        new = stored_rows(tmp_path / "f") - before
        assert len(set(rows_of(log)[begun:]) - new) <= BATCH
    assert fetch(tmp_path / "f").tobytes() == FEATURES.tobytes()


def test_two_processes_at_once_share_the_work(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def slowly(rows: NDArray[np.int64]) -> None:
        noting(log)(rows)
        time.sleep(0.005)

    def work() -> None:
        assert (fetch(tmp_path / "f", slowly) == FEATURES).all()

    children = [in_child(work) for _ in range(3)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert sorted(rows_of(log)) == list(range(ROWS)), "every row was encoded, and none twice"
    assert stored_rows(tmp_path / "f") == set(range(ROWS))


def test_a_process_killed_while_it_holds_the_lock_blocks_nobody(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def stuck(rows: NDArray[np.int64]) -> None:
        noting(log)(rows)
        if 5 * BATCH in rows:
            time.sleep(600)

    holder = in_child(lambda: fetch(tmp_path / "f", stuck))
    while 5 * BATCH not in rows_of(log):
        time.sleep(0.01)
    waiting = in_child(lambda: fetch(tmp_path / "f", noting(log)))
    time.sleep(0.2)
    assert os.waitpid(waiting, os.WNOHANG) == (0, 0), "it waits for the one that encodes"
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    assert os.waitpid(waiting, 0)[1] == 0
    encoded = rows_of(log)
    assert sorted(set(encoded)) == list(range(ROWS))
    assert len(encoded) == ROWS + BATCH, "the unfinished batch is encoded again and nothing else"
    assert fetch(tmp_path / "f").tobytes() == FEATURES.tobytes()


def test_any_flipped_byte_is_noticed_named_and_repaired(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(5)
    fetch(tmp_path)
    noticed = 0
    for _ in range(30):
        file = rng.choice(sorted(tmp_path.glob("*.safetensors")))
        content = bytearray(file.read_bytes())
        at = rng.randrange(len(content))
        content[at] ^= 1 << rng.randrange(8)
        file.write_bytes(content)
        encoded: list[int] = []
        capsys.readouterr()
        assert fetch(tmp_path, encoded.extend).tobytes() == FEATURES.tobytes()
        assert len(encoded) <= ROWS
        if file.name in capsys.readouterr().err:
            noticed += 1
            assert not file.exists()
        assert stored_rows(tmp_path) == set(range(ROWS))
    assert noticed >= 20  # the others hit what nothing depends on, such as the padding of a header


def test_a_flipped_byte_of_a_feature_costs_that_one_row(tmp_path: Path) -> None:
    fetch(tmp_path)
    (file,) = merged(tmp_path)
    segment = Segment(file, WIDTH, owner_of(IDENTITY, file.parent.name))
    at = file.read_bytes().index(segment.features[33].tobytes())
    flip(file, at + 5)
    encoded: list[int] = []
    assert (fetch(tmp_path, encoded.extend) == FEATURES).all()
    assert encoded == [KEYS.index(bytes(segment.keys[33]))]


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 50, 0.3, 0.9, -1])
def test_a_truncated_file_is_noticed_and_repaired(
    tmp_path: Path, keep: float, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch(tmp_path)
    (file,) = merged(tmp_path)
    size = file.stat().st_size
    os.truncate(file, int(keep * size) if 0 < keep < 1 else int(keep) % size)
    assert (fetch(tmp_path) == FEATURES).all()
    said = capsys.readouterr().err
    assert str(file) in said
    assert "is not used" in said
    assert stored_rows(tmp_path) == set(range(ROWS))


def test_a_file_of_zeros_as_a_power_cut_may_leave_it_is_noticed(tmp_path: Path) -> None:
    fetch(tmp_path)
    (file,) = merged(tmp_path)
    content = file.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    for blank in (b"\0" * len(content), content[:header] + b"\0" * (len(content) - header)):
        file.write_bytes(blank)
        assert (fetch(tmp_path) == FEATURES).all()
        (file,) = merged(tmp_path)


def test_what_a_killed_process_left_half_written_is_swept_up(tmp_path: Path) -> None:
    left = tmp_path / f"{SCRATCH}elsewhere-1-abcd.safetensors"
    left.write_bytes(b"half of a segm")
    os.utime(left, (0, 0))
    assert (fetch(tmp_path) == FEATURES).all()
    assert not left.exists()


def test_a_full_disk_is_a_clear_error_and_leaves_the_store_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0
    real = feature_segment.save  # type: ignore[attr-defined]

    def save(*args: Any) -> bytes:
        nonlocal written
        written += 1
        if written == 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args)

    monkeypatch.setattr(feature_segment, "save", save)
    with pytest.raises(CondsimError) as caught:
        fetch(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "no space left" in str(caught.value)
    assert f"{5 * BATCH} of {ROWS} features are encoded and stored" in str(caught.value)
    assert stored_rows(tmp_path) == set(range(5 * BATCH))
    assert not list(tmp_path.glob(f"{SCRATCH}*"))
    encoded: list[int] = []
    assert (fetch(tmp_path, encoded.extend) == FEATURES).all()
    assert encoded == list(range(5 * BATCH, ROWS))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "condsim-test", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system needs root; the same fault is simulated in the test above")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * (48 << 10))
    with pytest.raises(CondsimError, match="no space left"):
        fetch(small_disk / "f")
    kept = stored_rows(small_disk / "f")
    assert kept
    assert kept < set(range(ROWS))
    ballast.unlink()
    encoded: list[int] = []
    assert (fetch(small_disk / "f", encoded.extend) == FEATURES).all()
    assert sorted(encoded) == sorted(set(range(ROWS)) - kept)


@pytest.fixture
def unprivileged() -> Iterator[tuple[Path, Callable[[Callable[[], object]], int]]]:
    """A folder that anybody may read, and a way to run something as somebody who may not write to it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "stub" / "image"
        folder.mkdir(parents=True)
        for path in (folder, folder.parent, folder.parent.parent):
            path.chmod(0o755)

        def run(work: Callable[[], object]) -> int:
            def as_nobody() -> None:
                if os.geteuid() == 0:
                    os.setuid(65534)
                work()

            for path in (folder, *folder.rglob("*")):
                path.chmod(0o555 if path.is_dir() else 0o444)
            status = os.waitpid(in_child(as_nobody), 0)[1]
            for path in (folder, *folder.rglob("*")):
                path.chmod(path.stat().st_mode | stat.S_IWUSR)
            return status

        yield folder, run


def test_a_read_only_cache_works_for_reading(
    unprivileged: tuple[Path, Callable[[Callable[[], object]], int]],
) -> None:
    folder, run = unprivileged
    fetch(folder)

    def read() -> None:
        encoded: list[int] = []
        assert (fetch(folder, encoded.extend) == FEATURES).all()
        assert not encoded

    assert run(read) == 0


def test_what_a_read_only_cache_lacks_is_a_clear_error(
    unprivileged: tuple[Path, Callable[[Callable[[], object]], int]],
) -> None:
    folder, run = unprivileged
    FeatureTable(folder, WIDTH, IDENTITY).fetch(KEYS[: ROWS - 3], encode(), str)
    (file,) = merged(folder)
    flip(file, len(file.read_bytes()) - 1)

    def read() -> None:
        with pytest.raises(CondsimError) as caught:
            fetch(folder)
        message = str(caught.value)
        assert "encoding 4 features that the cache does not hold" in message
        assert str(folder) in message
        assert f"{file} is damaged" in message
        assert "CONDSIM_CACHE" in message

    assert run(read) == 0


def test_waiting_for_another_process_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, said = tmp_path / "log", tmp_path / "said"

    def until_said(rows: NDArray[np.int64]) -> None:
        noting(log)(rows)
        while not said.exists():
            time.sleep(0.01)

    class Impatient(filelock.FileLock):
        def acquire(self, timeout: float = -1, *arguments: Any, **more: Any) -> Any:  # type: ignore[override]
            return super().acquire(min(timeout, 0.05), *arguments, **more)

    child = in_child(lambda: fetch(tmp_path / "f", until_said))
    while not log.exists():
        time.sleep(0.01)
    monkeypatch.setattr(filelock, "FileLock", Impatient)
    monkeypatch.setattr(feature_table, "warn", said.write_text)
    assert (fetch(tmp_path / "f") == FEATURES).all()
    assert os.waitpid(child, 0)[1] == 0
    assert said.read_text() == f"waiting for another process that is encoding into {tmp_path / 'f'}"


def merged(folder: Path) -> list[Path]:
    """The folder's one feature file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_table, "MOST_SMALL", 1)
        FeatureTable(folder, WIDTH, IDENTITY)._merge()
    return list(folder.glob("*.safetensors"))


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 0x10
    file.write_bytes(content)
