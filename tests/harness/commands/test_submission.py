"""`condsim submission`: files are checked entry by entry, and a server's answer becomes a marked row."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from builders import make_cirr, make_record, make_results
from condsim.harness import cli
from condsim.harness.files.hashing import settings_hash
from condsim.harness.results.results import Results
from condsim.harness.results.server import answer_path
from condsim.harness.run.record import Record, record_folder, write_record

RECALL = {"recall@1": 33.59, "recall@5": 65.9, "recall@10": 77.2, "recall@50": 95.1}
SUBSET = "R_subset@1 = 74.5 %\nR_subset@2 = 89.0 %\nR_subset@3 = 95.25 %\n"


def withheld(
    results: Path, method: str = "clay", benchmark: str = "cirr", file: str = "cirr_test1_recall.json", text: str = "{}"
) -> Record:
    """The record of a run whose ground truth is withheld, with a submission file."""
    task = f"{benchmark}/test1"
    config = {"task": task, "fingerprint": "f", "method": method, "method_config": {}}
    record = make_record(
        run=settings_hash(config), benchmark=benchmark, task="test1", method=method, config=config, metrics={},
        created="2026-01-01T00:00:00+00:00", seconds={"score": 0.5},
    )  # fmt: skip

    def file_for_the_server(folder: Path) -> None:
        (folder / "submission").mkdir()
        (folder / "submission" / file).write_text(text, encoding="utf-8")

    return write_record(record_folder(results, benchmark, "test1", method, record.run), record, file_for_the_server)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results"


def rows(results: Path) -> list[dict[str, str]]:
    with (results / "leaderboard.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_an_answer_becomes_a_row_that_names_the_server_and_the_date(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_results(results, 20)
    record, other = withheld(results), withheld(results, "image_only")
    (tmp_path / "recall.json").write_text(json.dumps(RECALL), encoding="utf-8")
    (tmp_path / "subset.txt").write_text(SUBSET, encoding="utf-8")
    files = ["recall.json", "subset.txt"]
    assert cli.main(["submission", *files, f"run={record.run[:6]}", "date=2026-02-03"]) == 0
    found = {row["run"]: row for row in rows(results)}
    row = found[record.run]
    assert row["server"] == "cirr.cecs.anu.edu.au, 2026-02-03"
    assert (float(row["recall@1"]), float(row["subset_recall@3"])) == (33.59, 95.25)
    assert row["recall@1_low"] == row["letters"] == ""
    assert found[other.run]["server"] == found[other.run]["recall@1"] == ""
    assert all(row["server"] == "" for row in rows(results) if row["benchmark"] == "toy")
    out = capsys.readouterr().out
    assert "measured by the benchmark's own server on that date" in out
    assert "cirr.cecs.anu.edu.au, 2026-02-03" in out


def test_the_report_shows_the_row_as_the_servers(results: Path, tmp_path: Path) -> None:
    record = withheld(results)
    (tmp_path / "answer.json").write_text(json.dumps(RECALL), encoding="utf-8")
    assert cli.main(["submission", "answer.json", f"run={record.run}", "date=2026-02-03"]) == 0
    assert cli.main(["report"]) == 0
    page = (results / "report.html").read_text(encoding="utf-8")
    assert "measured by the server cirr.cecs.anu.edu.au, 2026-02-03" in page
    assert "33.6" in page


def test_circos_recall_is_that_of_the_target(results: Path, tmp_path: Path) -> None:
    record = withheld(results, benchmark="circo", file="circo_test.json")
    text = "mAP@5: 9.35\nmAP@10: 9.94\nRecall@5: 21.5\nSemantic mAP@10 for aspect 'negation': 4.1\n"
    (tmp_path / "mail.txt").write_text(f"Dear user,\n{text}", encoding="utf-8")
    assert cli.main(["submission", "mail.txt", f"run={record.run}"]) == 0
    (row,) = rows(results)
    assert (float(row["map@5"]), float(row["map@10"]), float(row["target_recall@5"])) == (9.35, 9.94, 21.5)
    assert row["server"].startswith("circo.micc.unifi.it, ")


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("nothing here", [], "expected lines such as 'recall@1: 33.6'"),
        ('{"recall@1": 0.3, "recall@5": 0.7}', [], "no value is above 1: say with unit=percent or unit=fraction"),
        ('{"recall@1": 130}', [], "recall@1 is 130, expected a number from 0 to 100"),
        ('{"recall@1": 30, "R@1": 31}', [], "recall@1 has two values, 30 and 31"),
        ('{"recall@1": NaN}', [], "recall@1 is nan"),
        ('{"recall@1": 30}', ["date=3.2.2026"], "expected YYYY-MM-DD"),
        ('{"recall@1": 30}', ["date=2126-01-01"], "is in the future"),
        ('{"recall@1": 30}', ["dates=2026-01-01"], "Did you mean 'date'?"),
        ('{"recall@1": 30}', ["unit=points"], "expected percent or fraction"),
        ('{"recall@1": 30}', ["run=zz"], "Runs with submission files: run="),
    ],
)
def test_an_answer_that_is_not_clear_is_refused(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, settings: list[str], message: str
) -> None:
    record = withheld(results)
    (tmp_path / "answer").write_text(text, encoding="utf-8")
    words = settings if any(word.startswith("run=") for word in settings) else [f"run={record.run}", *settings]
    assert cli.main(["submission", "answer", *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(results.rglob("server-*"))


def test_a_second_answer_adds_metrics_and_never_changes_one(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = withheld(results)
    for text, status in (('{"recall@1": 30}', 0), ('{"Rs@1": 70}', 0), ('{"recall@1": 31}', 2)):
        (tmp_path / "answer").write_text(text, encoding="utf-8")
        assert cli.main(["submission", "answer", f"run={record.run}"]) == status
    assert "30 is kept for this run" in capsys.readouterr().err
    (row,) = rows(results)
    assert (float(row["recall@1"]), float(row["subset_recall@1"])) == (30, 70)


def test_an_answer_to_other_files_or_a_damaged_one_is_left_out(results: Path, tmp_path: Path) -> None:
    record = withheld(results)
    (tmp_path / "answer").write_text(json.dumps(RECALL), encoding="utf-8")
    assert cli.main(["submission", "answer", f"run={record.run}"]) == 0
    withheld(results, text='{"other": 1}')
    changed = Results(results)
    assert changed.leaderboard().entries[0].metrics == {}
    assert "other submission files than the run has now" in changed.notes[0]
    withheld(results)
    path = answer_path(results / "runs/cirr/test1/x", record.run)
    path.write_text(path.read_text(encoding="utf-8").replace("0.3359", "0.4359"), encoding="utf-8")
    damaged = Results(results)
    assert damaged.leaderboard().entries[0].server == ""
    assert "is damaged" in damaged.notes[0]


def test_the_answer_travels_with_the_record(results: Path, tmp_path: Path) -> None:
    record = withheld(results)
    (tmp_path / "answer").write_text(json.dumps(RECALL), encoding="utf-8")
    assert cli.main(["submission", "answer", f"run={record.run}"]) == 0
    assert cli.main(["bundle"]) == 0
    shutil.copytree(results, tmp_path / "copy")
    assert cli.main(["merge", "bundle.zip", "--results", "merged"]) == 0
    for folder in ("copy", "merged"):
        (entry,) = Results(tmp_path / folder).leaderboard().entries
        assert entry.metrics["recall@5"].value == pytest.approx(0.659)


def test_runs_without_submission_files_take_no_answer(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_results(results, 20)
    (tmp_path / "answer").write_text(json.dumps(RECALL), encoding="utf-8")
    assert cli.main(["submission", "answer", "run=a"]) == 2
    assert "benchmark=cirr benchmark.split=test1" in capsys.readouterr().err


CIRCO: dict[str, Any] = {str(i): list(range(50)) for i in range(800)}
CIRR: dict[str, Any] = {
    "version": "rc2", "metric": "recall_subset", **{str(i): ["a-0-img0", "a-0-img1", "a-1-img0"] for i in range(4148)}
}  # fmt: skip


@pytest.mark.parametrize(
    ("value", "messages"),
    [
        (CIRCO, ["a valid submission for CIRCO test"]),
        (CIRR, ["a valid submission for CIRR test1, recall_subset"]),
        (CIRCO | {"3": [*range(49), 0], "7": "x"}, ["query 3 names an image twice", "query 7: expected a list"]),
        ({key: images for key, images in CIRCO.items() if int(key) < 220}, ["there is no query 220", "more faults"]),
        (CIRR | {"metric": "recal"}, ["metric: expected 'recall' or 'recall_subset', found 'recal'"]),
        (CIRR | {"version": "rc1"}, ["version: expected 'rc2', found 'rc1'"]),
        (CIRR | {"5": ["a", "b"]}, ["pair 5 has 2 images, expected 3"]),
        (CIRR | {"5": ["a", "b", "c.png"]}, ["has 'c.png': expected names without folder and extension"]),
        (CIRR | {"5": ["a", "b", 3]}, ["pair 5 has no list of image names"]),
        (CIRR | {"x": ["a", "b", "c"]}, ["4,149 pairs, expected the 4,148", "'x' is no pair of CIRR"]),
        ([1], ["expected one JSON object, found a list"]),
    ],
)
def test_each_fault_of_a_file_names_its_entry(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: Any, messages: list[str]
) -> None:
    (tmp_path / "file.json").write_text(json.dumps(value), encoding="utf-8")
    valid = "valid submission" in messages[0]
    assert cli.main(["submission", "--check", str(tmp_path / "file.json")]) == (0 if valid else 1)
    out = " ".join(capsys.readouterr().out.split())
    assert all(message in out for message in messages), out


def test_with_the_annotations_pairs_and_references_are_looked_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = make_cirr(tmp_path / "cirr", "test1")
    value: dict[str, Any] = {"version": "rc2", "metric": "recall_subset"}
    for entry in files.captions:
        members = [member for member in entry["img_set"]["members"] if member != entry["reference"]]
        value[str(entry["pairid"])] = members[:3]
    path = tmp_path / "file.json"
    first, outside = files.captions[0], next(n for n in files.files if n not in files.captions[1]["img_set"]["members"])
    spoilt = value | {"100": [first["reference"], *value["100"][:2]], "101": [outside, *value["101"][:2]], "7": ["a"]}
    del spoilt["102"]
    for content, status in ((value, 0), (spoilt, 1)):
        path.write_text(json.dumps(content), encoding="utf-8")
        assert cli.main(["submission", "--check", str(path), "--annotations", str(tmp_path / "cirr")]) == status
    out = " ".join(capsys.readouterr().out.split())
    assert "pair 102 is missing" in out
    assert f"pair 100 names its own reference, {first['reference']}" in out
    assert f"pair 101 names an image outside its image set: {outside}" in out
    assert "'7' is no pair of cirr/test1" in out
