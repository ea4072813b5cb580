"""Damaged results: whatever happens to a file of a results folder, no number changes silently, and a run repairs it."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builders import make_results
from condsim.harness.errors import CondsimError
from condsim.harness.results.results import Results
from condsim.harness.run.record import RECORD, Record, find_records, read_record

DAMAGES = int(os.environ.get("CONDSIM_DAMAGES", "60"))
"""How many are tried; `CONDSIM_DAMAGES=1500` for the whole test."""
Numbers = dict[str, Any]


def flip(data: bytes, rng: random.Random, other: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def digit(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """Another digit in the place of one, which leaves JSON valid."""
    places = [at for at, byte in enumerate(data) if 48 <= byte < 58]
    if not places:
        return flip(data, rng, other)
    at = rng.choice(places)
    return data[:at] + bytes([48 + (data[at] - 47) % 10]) + data[at + 1 :]


HOW: dict[str, Callable[[bytes, random.Random, bytes], bytes | None]] = {
    "flip": flip,
    "digit": digit,
    "truncate": lambda data, rng, other: data[: rng.randrange(len(data))],
    "delete": lambda data, rng, other: None,
    "zero": lambda data, rng, other: bytes(len(data)),
    "append": lambda data, rng, other: data + rng.randbytes(rng.randint(1, 64)),
    "empty": lambda data, rng, other: b"",
    "swap": lambda data, rng, other: other,
}


def numbers(results: Path) -> Numbers:
    """All that readers show of the runs, by run: only what is read without an error."""
    shown: Numbers = {}
    for folder, record in find_records(results):
        if isinstance(record, Record):
            shown[f"{folder.name} record"] = (record.full_task, record.method, record.settings, record.metrics)
    for group in Results(results).question_sets:
        try:
            task = group.task
        except CondsimError:
            task = None
        if task is not None:
            shown[f"{group.full_name} task"] = (task.fingerprint, task.conditions, task.images.names, task.query_ids)
        for run in group.runs:
            ranks, top = run.ranks, run.top
            shown[f"{run.folder.name} ranks"] = ranks.rank.tolist()
            shown[f"{run.folder.name} top"] = None if top is None else top.tolist()
    return shown


def files(results: Path) -> list[Path]:
    """Every file but letters.json and the leaderboard, which are made of the others."""
    made = ("letters.json", "leaderboard.csv")
    return sorted(path for path in results.rglob("*") if path.is_file() and path.name not in made)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return make_results(tmp_path / "results", queries=12, methods=(("one", 1.0, {}), ("two", 0.5, {"rank": 3})))


@pytest.mark.slow
def test_no_damage_changes_a_number_silently(results: Path) -> None:
    rng = random.Random(0)
    right, paths = numbers(results), files(results)
    assert len(right) == 14
    for number in range(DAMAGES):
        path, how = paths[number % len(paths)], rng.choice(list(HOW))
        good = path.read_bytes()
        alike = [file for file in paths if file.suffix == path.suffix and file != path]
        bad = HOW[how](good, rng, rng.choice(alike).read_bytes())
        if bad is None:
            path.unlink()
        else:
            path.write_bytes(bad)
        shown = numbers(results)
        wrong = {name for name, value in shown.items() if right.get(name) != value}
        assert not wrong, f"damage {number} ({how} of {path.relative_to(results)}) changed {sorted(wrong)}"
        if path.parent.name.startswith(("one-", "two-")) and bad != good:
            assert f"{path.parent.name} record" not in shown, f"damage {number} ({how} of {path}) was not noticed"
        path.write_bytes(good)
    assert numbers(results) == right


def test_a_run_in_the_place_of_another_is_named(results: Path) -> None:
    one, two = (next((results / "runs/toy/find").glob(f"{name}-*")) for name in ("one", "two"))
    for name in (RECORD, "ranks.npz", "top.npy"):
        good = (one / name).read_bytes()
        shutil.copy(two / name, one / name)
        with pytest.raises(CondsimError, match="one-"):
            read_record(one)
        (one / name).write_bytes(good)
