"""Loaded tasks are read back only while nothing that they depend on has changed, and never run code."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

import condsim
from builders import make_tasks
from condsim.datasets.shapes.kept_tasks import keep, read_kept, state_of
from condsim.harness.files.hashing import digest
from condsim.harness.task import Benchmark

STATE = b"a state of 16 B."


@pytest.fixture
def benchmark(tmp_path: Path) -> Benchmark:
    return Benchmark(
        "toy", tuple(make_tasks(tmp_path / "pictures", queries=5)), headlines={"mean": (("focus", "map"),)}
    )


def test_tasks_come_back_as_they_were(benchmark: Benchmark, tmp_path: Path) -> None:
    keep(tmp_path / "tasks", STATE, benchmark)
    kept = read_kept(tmp_path / "tasks", STATE)
    assert repr(kept) == repr(benchmark)
    assert kept.tasks[0].images is kept.tasks[1].images
    assert read_kept(tmp_path / "tasks", b"another state   ") is None


@pytest.mark.parametrize("place", [0, 15, 16, 31, 32, 200, -1])
def test_a_damaged_file_is_not_read(benchmark: Benchmark, tmp_path: Path, place: int) -> None:
    path = tmp_path / "tasks"
    keep(path, STATE, benchmark)
    content = bytearray(path.read_bytes())
    path.write_bytes(content[:place])
    assert read_kept(path, STATE) is None
    content[place] ^= 1
    path.write_bytes(content)
    assert read_kept(path, STATE) is None


def test_a_file_that_names_a_function_does_not_run_it(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return os.mkdir, (str(tmp_path / "made"),)

    content = pickle.dumps(Harmful())
    (tmp_path / "tasks").write_bytes(STATE + digest(content) + content)
    assert read_kept(tmp_path / "tasks", STATE) is None
    assert not (tmp_path / "made").exists()


def test_a_cache_that_cannot_be_written_is_no_error(benchmark: Benchmark, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    keep(tmp_path / "file" / "tasks", STATE, benchmark)
    assert read_kept(tmp_path / "file" / "tasks", STATE) is None


def rewrite(path: Path) -> None:
    path.write_text("[2]")


@pytest.mark.parametrize(
    ("changed", "change"),
    [
        ("world/a/pairs.json", rewrite),
        ("world/table.csv", rewrite),
        ("world/a/1.png", Path.unlink),
        ("package/harness/task.py", rewrite),
        ("package/datasets/deep/cirr.py", Path.unlink),
    ],
)
def test_the_state_changes_with_annotations_names_of_pictures_and_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str, change: Callable[[Path], object]
) -> None:
    for file in ("world/a/pairs.json", "world/table.csv", "world/a/1.png", "package/harness/task.py",
                 "package/datasets/deep/cirr.py"):  # fmt: skip
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("[1]")
    monkeypatch.setattr(condsim, "__file__", str(tmp_path / "package" / "__init__.py"))

    def state() -> bytes:
        return state_of(tmp_path / "world", "shapes")

    before = state()
    assert state() == before != state_of(tmp_path / "world", "other")
    os.utime(tmp_path / "world" / "a" / "1.png")  # pictures are looked at by their content elsewhere
    assert state() == before
    change(tmp_path / changed)
    assert state() != before
