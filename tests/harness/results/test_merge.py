"""Records of several machines in one folder: what is damaged or differs is named, and nothing is overwritten."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from builders import Methods, make_results
from condsim.harness.errors import CondsimError
from condsim.harness.results.merge import merge
from condsim.harness.results.results import Results
from condsim.harness.run.record import Measurement, read_record, write_record

METHODS: Methods = (("one", 1.0, {}), ("two", 0.5, {}))


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    return make_results(tmp_path / "theirs", queries=20, methods=METHODS)


def focus(folder: Path, method: str) -> Path:
    (found,) = (folder / "runs/toy/focus").glob(f"{method}-*")
    return found


def test_all_records_arrive_with_the_files_of_their_tasks(theirs: Path, tmp_path: Path) -> None:
    merged = merge(theirs, tmp_path / "ours")
    assert (len(merged.added), merged.present, merged.notes) == (4, 0, [])
    ours = Results(tmp_path / "ours")
    assert ours.leaderboard().to_csv() == Results(theirs).leaderboard().to_csv()
    assert ours.question_set("toy/focus").task is not None


def test_the_same_run_with_other_numbers_is_kept_and_named(theirs: Path, tmp_path: Path) -> None:
    ours = tmp_path / "ours"
    shutil.copytree(theirs, ours)
    place = focus(ours, "one")
    record = read_record(place)
    files = {name: (place / name).read_bytes() for name in record.files}
    other = replace(record, metrics=record.metrics | {"recall@1": Measurement(0.5, 0.4, 0.6, 0.1)})

    def put_back(scratch: Path) -> None:
        for name, content in files.items():
            (scratch / name).write_bytes(content)

    write_record(place, other, put_back)
    merged = merge(theirs, ours)
    assert (len(merged.added), merged.present) == (0, 3)
    assert len(merged.notes) == 1
    assert f"{place} is kept" in merged.notes[0]
    assert "recall@1 50.00 and" in merged.notes[0]
    assert read_record(place).metrics["recall@1"].value == 0.5


def test_damage_on_either_side_costs_one_record_at_most(theirs: Path, tmp_path: Path) -> None:
    ours = tmp_path / "ours"
    merge(theirs, ours)
    (focus(theirs, "two") / "ranks.npz").write_bytes(b"damaged")
    (focus(ours, "one") / "record.json").write_text(json.dumps({"schema": 2}), encoding="utf-8")
    merged = merge(theirs, ours)
    assert [record.method for record in merged.added] == ["one"]  # ours was damaged, theirs replaces it
    assert len(merged.notes) == 1
    assert "ranks.npz is damaged" in merged.notes[0]
    assert {entry.method for entry in Results(ours).leaderboard().select(task="focus").entries} == {"one", "two"}


def test_a_folder_without_records_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CondsimError, match="there are no records"):
        merge(tmp_path, tmp_path / "ours")
