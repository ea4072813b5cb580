"""Records are whole or absent, and a record that is neither is named."""

import json
from pathlib import Path

import pytest

from condsim.harness.hashing import settings_hash
from condsim.harness.run.record import MetricValue, Record, find_records, read_record, write_record


def record(**changes: object) -> Record:
    parts: dict[str, object] = {
        "run": "abc",
        "benchmark": "toy",
        "task": "two",
        "method": "clay",
        "backbone": "tiny",
        "settings": {"rank": 5},
        "config": {"method_config": {"rank": 5}},
        "queries": 4,
        "clusters": 4,
        "cluster_name": "query",
        "metrics": {"recall@1": MetricValue(0.5, 0.25, 0.75, 0.1)},
        "seconds": {"score": 0.1},
        "versions": {},
        "created": "2026-01-01T00:00:00+00:00",
    }
    return Record(**{**parts, **changes})  # type: ignore[arg-type]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "runs/toy/two/clay-abc"
    write_record(folder, record(), lambda scratch: (scratch / "more.txt").write_text("ranks") and None)
    assert read_record(folder) == record()
    assert (folder / "more.txt").read_text() == "ranks"
    assert [path.name for path in folder.parent.iterdir()] == ["clay-abc"]


def test_a_failure_while_writing_leaves_nothing(tmp_path: Path) -> None:
    def fail(scratch: Path) -> None:
        (scratch / "half").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_record(tmp_path / "runs/a", record(), fail)
    assert list((tmp_path / "runs").iterdir()) == []


def test_writing_again_replaces(tmp_path: Path) -> None:
    write_record(tmp_path / "runs/a", record())
    write_record(tmp_path / "runs/a", record(queries=5))
    assert read_record(tmp_path / "runs/a").queries == 5


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"schema": 99}', '{"schema": 1}', '{"schema": 1, "metrics": {"recall@1": 3}}', "\x00\xff"],
)
def test_a_corrupt_record_is_named_and_the_others_are_read(tmp_path: Path, text: str) -> None:
    write_record(tmp_path / "runs/good", record())
    (tmp_path / "runs/bad").mkdir()
    (tmp_path / "runs/bad/record.json").write_text(text, encoding="latin-1")
    found = dict(find_records(tmp_path))
    assert isinstance(found[tmp_path / "runs/good"], Record)
    assert isinstance(found[tmp_path / "runs/bad"], ValueError)
    assert "bad/record.json" in str(found[tmp_path / "runs/bad"])


@pytest.mark.parametrize("changes", [{"queries": "many"}, {"method": 3}, {"settings": []}])
def test_a_record_of_wrong_types_is_named(tmp_path: Path, changes: dict[str, object]) -> None:
    write_record(tmp_path / "runs/a", record())
    path = tmp_path / "runs/a/record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ValueError, match=rf"{next(iter(changes))} should be of type"):
        read_record(tmp_path / "runs/a")


def test_not_a_number_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_record(tmp_path / "runs/a", record(metrics={"recall@1": MetricValue(float("nan"), 0, 1)}))
    assert not (tmp_path / "runs/a").exists()


def test_the_hash_depends_on_settings_and_not_on_their_order() -> None:
    assert settings_hash({"a": 1, "b": [2]}) == settings_hash({"b": [2], "a": 1})
    assert settings_hash({"a": 1}) != settings_hash({"a": 2})
    assert settings_hash({"a": 1}) != settings_hash({"a": "1"})
