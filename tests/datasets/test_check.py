"""`condsim check`: counts, missing and unreadable images, and a useful answer also where nothing is there."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from builders import GeneCIS, make_cirr, put
from condsim.datasets import check as checking
from condsim.datasets import survey
from condsim.datasets.check import Report, check
from condsim.harness.commands.check import render
from condsim.harness.commands.check import run as command
from running import benchmark_settings

BENCHMARKS = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "benchmark").glob("*.yaml"))
REAL = [name for name in BENCHMARKS if name != "shapes"]


def config_of(benchmark: str, **options: Any) -> dict[str, Any]:
    return {**benchmark_settings(benchmark), **options}


def text_of(report: Report, **more: Any) -> str:
    out = io.StringIO()
    Console(width=160, file=out).print(render(report, **more))
    return out.getvalue()


def counts(report: Report) -> dict[str, tuple[int | None, int | None]]:
    return {part.what: (part.found, part.expected) for part in report.parts}


@pytest.mark.parametrize("name", REAL)
def test_nothing_is_there_yet(name: str) -> None:
    report = check(config_of(name))
    printed = text_of(replace(report, card=""))  # which takes most of the time to print
    assert not report.complete
    assert f"{name} is incomplete" in printed
    assert "is not set" in printed, "says which options to set"
    for word in ("Layout", "Protocol", "Traps", "Gallery", "Text", "Transform", "Ties", "Chance"):
        assert word.lower() in report.card.lower()


def test_published_counts_are_reported_before_any_file_exists() -> None:
    genecis = counts(check(config_of("genecis")))
    assert genecis["change_attribute: queries"] == (None, 2_112)
    cirr = counts(check(config_of("cirr", split="test1")))
    assert cirr == {"test1: queries": (None, 4_148), "test1: gallery": (None, 2_315)}
    printed = text_of(check(config_of("genecis")))
    assert "condsim download benchmark=genecis 'parts=[coco]'" in printed
    assert "CC BY-NC 4.0" in printed
    assert "Traps" in printed, "the protocol card is printed"


@pytest.fixture
def whole(genecis_files: GeneCIS, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The small GeneCIS, and its numbers taken for the published ones."""
    counted = {f"{task}: queries": len(value) for task, value in genecis_files.templates.items()}
    monkeypatch.setattr(survey, "PUBLISHED", {"genecis": counted})
    return genecis_files


def test_a_whole_benchmark_is_complete(whole: Any) -> None:
    report = check(config_of("genecis", **whole.arguments))
    assert report.complete
    assert (report.images, report.missing, report.unreadable, report.problems) == (12, (), (), ())
    assert sorted((part.found, part.expected) for part in report.parts if part.what == "images") == [(6, 6), (6, 6)]
    assert counts(report)["focus_object: queries"] == (2, 2)
    assert "genecis is complete" in text_of(report)


def test_missing_and_unreadable_images_are_counted_and_named(whole: Any, tmp_path: Path) -> None:
    vg = whole.root / "vg"
    (vg / "VG_100K" / "11.jpg").unlink()
    (vg / "VG_100K_2" / "12.jpg").write_bytes((vg / "VG_100K_2" / "12.jpg").read_bytes()[:200])
    (whole.root / "coco" / "000000000003.jpg").write_bytes(b"")
    report = check(config_of("genecis", **whole.arguments))
    assert not report.complete
    assert sorted((part.found, part.expected) for part in report.parts if part.what == "images") == [(5, 6), (6, 6)]
    assert [Path(path).name for path in report.missing] == ["11.jpg"]
    assert len(report.unreadable) == 2
    assert any("12.jpg" in fault and "does not decode" in fault for fault in report.unreadable)
    printed = text_of(report, list_path=Path("full.txt"))
    assert re.search(r"12 images needed \(.*\): 1 missing, 2 unreadable", printed)
    assert "full.txt" in printed
    quick = check(config_of("genecis", **whole.arguments), read_images=False)
    assert (len(quick.missing), quick.unreadable) == (1, ())
    assert re.search(r"12 images needed \(not read.*\): 1 missing, 0 unreadable", text_of(quick))


def test_a_box_outside_its_image_is_found(whole: Any) -> None:
    templates = whole.templates["focus_attribute"]
    whole.write("focus_attribute", put(templates, (0, "target", "instance_bbox"), [300, 5, 10, 10]))
    report = check(config_of("genecis", **whole.arguments))
    (fault,) = report.unreadable
    assert "12.jpg: the box [300, 5, 10, 10]" in fault
    assert "outside its image of 40 x 30" in fault


def test_faulty_entries_and_files_are_problems_and_the_rest_is_still_checked(
    whole: Any,
) -> None:
    whole.write("focus_attribute", put(whole.templates["focus_attribute"], (1, "condition"), 7))
    (whole.root / "templates" / "focus_object.json").write_text("[{")
    report = check(config_of("genecis", **whole.arguments, tasks=["focus_attribute", "focus_object", "change_object"]))
    assert counts(report)["focus_attribute: queries"] == (2, 3)
    assert counts(report)["focus_object: queries"] == (None, 2)
    assert counts(report)["change_object: queries"] == (2, 2)
    assert "change_attribute: queries" not in counts(report), "only the chosen tasks"
    assert len(report.problems) == 2
    assert "entry 1: condition" in report.problems[0]
    assert "focus_object.json: malformed or truncated JSON" in report.problems[1]


def test_only_ten_faults_are_shown_and_all_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = make_cirr(tmp_path / "cirr", "val", 30)
    for path in list((files.root / "images" / "dev").iterdir())[:14]:
        path.unlink()
    output = tmp_path / "lists" / "faults.txt"
    settings = {"benchmark": config_of("cirr", **files.arguments), "decode": True, "workers": 2, "output": str(output)}
    assert command(settings) == 1
    lines = output.read_text().splitlines()
    assert len(lines) == 14
    assert all(line.endswith(".png: missing") for line in lines)
    printed = capsys.readouterr().out
    assert printed.count("missing: ") == 10
    assert "... and 4 more" in printed


def test_a_whole_cirr_is_complete_by_its_exit_status(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = make_cirr(tmp_path / "cirr")
    monkeypatch.setattr(survey, "PUBLISHED", {"cirr": {"val: queries": 8, "val: gallery": 14}})
    monkeypatch.chdir(tmp_path)
    settings = {"benchmark": config_of("cirr", **files.arguments), "decode": True, "workers": 2, "output": None}
    assert command(settings) == 0
    assert not list(tmp_path.glob("check-*")), "nothing to list, so no list"
    assert "cirr is complete" in capsys.readouterr().out
    assert "img_set.members" in check(config_of("cirr", **spoil(files))).problems[0]


def spoil(files: Any) -> dict[str, str]:
    captions = [dict(entry) for entry in files.captions]
    captions[0]["img_set"] = {"id": 0, "members": ["a"]}
    files.write(captions=captions)
    return dict(files.arguments)


def test_loaders_that_need_everything_are_checked_by_loading(tmp_path: Path) -> None:
    for name, pixel in (("a", True), ("b", True), ("c", True), ("d", False)):
        (tmp_path / f"{name}.png").write_bytes(PNG if pixel else b"no picture")
    (tmp_path / "labels.csv").write_text("image,color\na.png,red\nb.png,red\nc.png,red\nd.png,red\ne.png,red\n")
    report = check(config_of("labelled", table=str(tmp_path / "labels.csv")))
    assert counts(report) == {"color: queries": (1, None), "color: gallery": (4, None), "images": (4, 5)}
    assert [Path(path).name for path in report.missing] == ["e.png"]
    assert [Path(fault.split(":")[0]).name for fault in report.unreadable] == ["d.png"]


def test_the_report_is_about_the_benchmark_that_a_users_loader_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loader_of_a_user.py").write_text(
        "from builders import make_task\nfrom condsim import Benchmark\n"
        "def load(): return Benchmark('mine', (make_task(),))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    report = check({"_target_": "loader_of_a_user.load"})
    assert report.benchmark == "mine"
    assert counts(report)["toy: queries"] == (1, None)
    assert len(report.missing) == 5


def test_no_card_has_a_table_without_a_head() -> None:
    for path in checking.CARDS.glob("*.md"):
        lines = path.read_text(encoding="utf-8").splitlines()
        starts = [i for i, line in enumerate(lines) if line.startswith("|") and not lines[i - 1].startswith("|")]
        assert all(set(lines[i + 1]) <= set("|-: ") for i in starts), path.name


PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"
)


def test_every_loader_has_a_card() -> None:
    assert {path.stem for path in checking.CARDS.glob("*.md")} >= {
        "genecis",
        "mit_states",
        "cirr",
        "labelled",
        "instance",
    }
