"""Writing files: the old content or the new one, never half of either, from any number of processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from condsim.harness.files import writing as files
from condsim.harness.files.writing import SCRATCH, atomic, atomic_folder, sweep


def test_a_file_is_replaced_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "table.csv"
    for text in ("old", "new"):
        with atomic(path) as scratch:
            scratch.write_text(text)
            assert scratch.suffix == ".csv"
            assert not path.exists() or path.read_text() == "old"
    assert path.read_text() == "new"
    assert [file.name for file in path.parent.iterdir()] == ["table.csv"]


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")

    def fail_in_the_middle() -> None:
        with atomic(path) as scratch:
            scratch.write_text("half")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail_in_the_middle()
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_replaced_with_all_that_it_holds(
    tmp_path: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    path = tmp_path / "record"
    for name in ("old", "new"):
        with atomic_folder(path) as scratch:
            (scratch / name).write_text(name)
    assert [file.name for file in path.iterdir()] == ["new"]
    assert [folder.name for folder in tmp_path.iterdir()] == ["record"]


def test_a_long_name_has_room_for_its_scratch(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250 + ".csv")
    with atomic(path) as scratch:
        scratch.write_text("whole")
    assert path.read_text() == "whole"


def test_scratch_of_dead_processes_is_removed_and_of_running_ones_is_not(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from condsim.harness.files.writing import atomic, atomic_folder\n"
        "with atomic(Path(sys.argv[1]) / 'a.csv') as file, atomic_folder(Path(sys.argv[1]) / 'b') as folder:\n"
        "    file.write_text('half'); (folder / 'half').write_text('half'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert len(list(tmp_path.glob(f"{SCRATCH}*"))) == 2
    with atomic(tmp_path / "mine.csv") as scratch:
        scratch.write_text("mine")
        sweep(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [scratch.name]


def test_scratch_of_another_machine_is_removed_after_a_day(tmp_path: Path) -> None:
    young, old = tmp_path / f"{SCRATCH}elsewhere-1-abcd", tmp_path / f"{SCRATCH}elsewhere-2-abcd"
    young.mkdir()
    old.mkdir()
    os.utime(old, (0, 0))
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [young]


WRITER = """
import sys
from pathlib import Path
from condsim.harness.files.writing import atomic_folder
for number in range(int(sys.argv[2])):
    with atomic_folder(Path(sys.argv[1]) / "record") as scratch:
        for name in "ab":
            (scratch / name).write_text(f"{sys.argv[3]} {number}")
"""


@pytest.mark.parametrize("times", [25])
def test_processes_that_write_one_folder_all_succeed(tmp_path: Path, times: int) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(times), str(writer)]) for writer in range(4)
    ]
    record, reads = tmp_path / "record", 0
    while any(writer.poll() is None for writer in writers):
        if reads or record.exists():
            assert (record / "a").read_text()  # always there, once it was written
            reads += 1
    assert [writer.returncode for writer in writers] == [0] * 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["record"]
    assert sorted(path.name for path in record.iterdir()) == ["a", "b"]
