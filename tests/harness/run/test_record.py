"""A record is read as it was written, or it is one error that names it."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builders import make_record
from condsim.harness.files.hashing import content_digest, json_digest, settings_hash
from condsim.harness.run.record import (
    RECORD,
    Measurement,
    Record,
    RecordError,
    find_records,
    read_file,
    read_record,
    record_folder,
    write_record,
)


def record(**changes: Any) -> Record:
    names = {"benchmark": "toy", "task": "two", "method": "clay"}
    names |= {name: value for name, value in changes.items() if name in names}
    config = {"task": f"{names['benchmark']}/{names['task']}", "method": names["method"], "fingerprint": "f" * 32,
              "method_config": {"rank": 5}}  # fmt: skip
    config |= changes.get("config", {})
    parts: dict[str, Any] = {
        "run": settings_hash(config), "settings": {"rank": 5}, "created": "2026-01-01T00:00:00+00:00",
        "metrics": {"recall@1": Measurement(0.5, 0.25, 0.75, 0.1)}, **names,
    }  # fmt: skip
    return make_record(**{**parts, **changes, "config": config})


def written(results: Path, made: Record, *files: tuple[str, bytes]) -> tuple[Path, Record]:
    def write_more(folder: Path) -> None:
        for name, data in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)

    folder = record_folder(results, made.benchmark, made.task, made.method, made.run)
    return folder, write_record(folder, made, write_more)


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object], sign: bool = True) -> None:
    """Change the JSON, as somebody would who also computes a right digest."""
    content = json.loads((folder / RECORD).read_text())
    change(content)
    if sign and not {"NaN", "Infinity"} & set(re.findall(r"\w+", json.dumps(content))):
        content.pop("digest", None)
        content["digest"] = json_digest(content)
    (folder / RECORD).write_text(json.dumps(content))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder, made = written(tmp_path, record(), ("ranks.npz", b"ranks"), ("submission/recall.json", b"{}"))
    assert made.files == {"ranks.npz": content_digest(b"ranks"), "submission/recall.json": content_digest(b"{}")}
    assert read_record(folder) == made
    assert read_file(folder, made, "ranks.npz") == b"ranks"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_the_headline_metric_stays_the_first(tmp_path: Path) -> None:
    measured = Measurement(0.5, 0.25, 0.75, 0.1)
    folder, _ = written(tmp_path, record(metrics=dict.fromkeys(("recall@10", "recall@5", "mrr", "recall@1"), measured)))
    assert list(read_record(folder).metrics) == ["recall@10", "mrr", "recall@1", "recall@5"]
    rewrite(folder, lambda content: content.pop("headline"))
    assert list(read_record(folder).metrics) == ["mrr", "recall@1", "recall@5", "recall@10"]  # of an earlier version


def test_a_failure_while_writing_leaves_nothing(tmp_path: Path) -> None:
    def fail(scratch: Path) -> None:
        (scratch / "half").write_text("half")
        raise OSError("disk full")

    folder = record_folder(tmp_path, "toy", "two", "clay", record().run)
    with pytest.raises(OSError, match="disk full"):
        write_record(folder, record(), fail)
    assert list(folder.parent.iterdir()) == []


def test_a_failure_while_writing_again_keeps_the_old_record(tmp_path: Path) -> None:
    folder, made = written(tmp_path, record(), ("ranks.npz", b"old"))

    def fail(scratch: Path) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_record(folder, record(queries=5), fail)
    assert read_record(folder) == made


def test_writing_again_replaces_every_file(tmp_path: Path) -> None:
    written(tmp_path, record(), ("ranks.npz", b"old"), ("more.txt", b"old"))
    folder, _ = written(tmp_path, record(queries=5), ("ranks.npz", b"new"))
    assert read_record(folder).queries == 5
    assert sorted(path.name for path in folder.iterdir()) == ["ranks.npz", RECORD]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_the_folder_has_the_permissions_that_the_user_wants(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        folder, _ = written(tmp_path, record(), ("ranks.npz", b"ranks"))
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / RECORD).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "name", ["../../../escaped", "/escaped", "..", ".hidden", "a/b", "x" * 400, "null\0byte", "é" * 300]
)
def test_no_name_leads_out_of_the_results(tmp_path: Path, name: str) -> None:
    for place in ("benchmark", "task", "method"):
        names = {"benchmark": "b", "task": "t", "method": "m"} | {place: name}
        folder = record_folder(tmp_path, **names, run="0" * 12)
        assert folder.resolve().is_relative_to(tmp_path / "runs")
        assert len(folder.relative_to(tmp_path).parts) == 4
        folder.mkdir(parents=True)


def test_names_with_blanks_and_letters_of_any_script(tmp_path: Path) -> None:
    folder, made = written(tmp_path, record(task="Größe & 颜色", benchmark="a b"))
    assert read_record(folder) == made
    assert record_folder(tmp_path, "a b", "t", "m", "0") != record_folder(tmp_path, "a_b", "t", "m", "0")


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b'{"schema": 99}', b'{"schema": 1}', b'{"schema": 2}', b"\x00\xff", b"[" * 100_000,
     b'{"schema": 2, "queries": ' + b"9" * 5000 + b"}", b'{"schema": 2, "queries": 1e999}', b'{"schema": "\\ud800"}'],
)  # fmt: skip
def test_a_damaged_record_is_named_and_the_others_are_read(tmp_path: Path, data: bytes) -> None:
    good, made = written(tmp_path, record())
    bad = good.with_name("bad-000000000000")
    bad.mkdir()
    (bad / RECORD).write_bytes(data)
    found = dict(find_records(tmp_path))
    assert found[good] == made
    error = found[bad]
    assert isinstance(error, RecordError)
    assert str(bad / RECORD) in str(error)
    str(error).encode()


HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "queries should be": lambda c: c.update(queries="many"),
    "queries should": lambda c: c.update(queries=True),
    "method should be": lambda c: c.update(method=3),
    "method should": lambda c: c.update(method="a\nb"),
    "method": lambda c: c.update(method="\udcff"),
    "settings should be": lambda c: c.update(settings=[]),
    "seconds should be": lambda c: c.update(seconds={"score": "fast"}),
    "seconds should": lambda c: c.update(seconds={"score": float("nan")}),
    "created should be": lambda c: c.update(created=3),
    "headlines should be": lambda c: c.update(headlines={"a": 5}),
    "versions should be": lambda c: c.update(versions=[]),
    "files should be": lambda c: c.update(files={"../../x": "0" * 32}),
    "high should be": lambda c: c["metrics"]["recall@1"].update(high=1.5),
    "value should be": lambda c: c["metrics"]["recall@1"].update(value=float("inf")),
    "value should": lambda c: c["metrics"]["recall@1"].update(value=True),
    "low should": lambda c: c["metrics"]["recall@1"].update(low=-1),
    "low should be": lambda c: c["metrics"]["recall@1"].update(low=10**400),
    "chance should be": lambda c: c["metrics"]["recall@1"].update(chance="abc"),
    "does not hold the value": lambda c: c["metrics"]["recall@1"].update(low=0.6),
    "there is no metric 'run'": lambda c: c["metrics"].update(run=c["metrics"]["recall@1"]),
    "expected value, low": lambda c: c["metrics"].update({"map": 3}),
    "config.method_config": lambda c: c["config"].update(method_config=[]),
    "config.task": lambda c: c["config"].update(task="toy/three"),
    "not the hash of its config": lambda c: c["config"].update(seed=1),
    "run should be": lambda c: c.update(run="../../../x"),
    "extra": lambda c: c.update(extra=1),
    "queries is missing": lambda c: c.pop("queries"),
    "at most queries": lambda c: c.update(clusters=5),
}


@pytest.mark.parametrize("reason", HOSTILE)
def test_a_record_that_no_run_writes_is_refused_with_the_reason(tmp_path: Path, reason: str) -> None:
    folder, _ = written(tmp_path, record())
    rewrite(folder, HOSTILE[reason])
    with pytest.raises(RecordError, match=reason):
        read_record(folder)


def test_an_edited_number_does_not_match_the_digest(tmp_path: Path) -> None:
    folder, _ = written(tmp_path, record())
    rewrite(folder, lambda content: content["metrics"]["recall@1"].update(value=0.6), sign=False)
    with pytest.raises(RecordError, match="does not match its digest"):
        read_record(folder)


def test_a_record_in_the_place_of_another_is_refused(tmp_path: Path) -> None:
    folder, _ = written(tmp_path, record())
    for copy in (folder.with_name("clay-0123456789ab"), tmp_path / "runs" / "other" / "two" / folder.name):
        shutil.copytree(folder, copy)
        with pytest.raises(RecordError, match=f"it belongs into toy/two/{folder.name}"):
            read_record(copy)
    assert [found for _, found in find_records(tmp_path) if isinstance(found, Record)] == [read_record(folder)]


def test_the_files_beside_it_are_those_that_the_run_wrote(tmp_path: Path) -> None:
    folder, made = written(tmp_path, record(), ("ranks.npz", b"ranks"))
    (folder / "ranks.npz").write_bytes(b"rankz")
    with pytest.raises(RecordError, match=r"ranks\.npz is damaged"):
        read_record(folder)
    with pytest.raises(RecordError, match=r"ranks\.npz is damaged"):
        read_file(folder, made, "ranks.npz")
    (folder / "ranks.npz").unlink()
    with pytest.raises(RecordError, match=r"ranks\.npz is missing"):
        read_record(folder)


@pytest.mark.parametrize(
    "changes",
    [{"metrics": {"recall@1": Measurement(float("nan"), 0, 1)}}, {"metrics": {"recall@1": Measurement(2.0, 0, 3.0)}},
     {"method": "a\nb"}, {"task": "\udcff"}, {"run": "0" * 12}],
)  # fmt: skip
def test_what_could_not_be_read_again_is_never_written(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(RecordError):
        written(tmp_path, record(**changes))
    assert not (tmp_path / "runs").exists()


def test_messages_about_files_that_are_not_utf8_are_kept(tmp_path: Path) -> None:
    folder, made = written(tmp_path, replace(record(), skipped=["caf\udce9.jpg is damaged", "日本"]))
    assert read_record(folder) == made


def test_the_hash_depends_on_settings_and_not_on_their_order() -> None:
    assert settings_hash({"a": 1, "b": [2]}) == settings_hash({"b": [2], "a": 1})
    assert settings_hash({"a": 1}) != settings_hash({"a": 2})
    assert settings_hash({"a": 1}) != settings_hash({"a": "1"})
