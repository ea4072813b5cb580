"""A bundle: its records can be read and rendered again, and no byte of it changes without notice."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from condsim.harness import cli
from condsim.harness.errors import CondsimError
from condsim.harness.results.bundle import read_bundle, unpacked, write_bundle
from condsim.harness.results.results import Results


@pytest.fixture(scope="module")
def bundle(results_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "bundle.zip"
    results = Results(results_folder)
    write_bundle(path, [run for run in results.runs if run.record.method == "clay"], "a,table\n")
    return path


def test_a_bundle_gives_the_leaderboard_of_its_records(bundle: Path, results_folder: Path) -> None:
    with unpacked(bundle) as folder:
        ours = Results(folder).leaderboard().select(task="focus")
        theirs = Results(results_folder).leaderboard().select(method="clay", task="focus")
        assert [(entry.run, entry.metrics) for entry in ours.entries] == [
            (entry.run, entry.metrics) for entry in theirs.entries
        ]
        assert Results(folder).compare("toy/focus").comparison.runs


def test_it_holds_sums_that_other_programs_can_check_and_the_environment(bundle: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        lines = archive.read("SHA256SUMS").decode().splitlines()
        sums = {line[66:]: line[:64] for line in lines}
        assert sums.keys() | {"SHA256SUMS"} == set(archive.namelist())
        assert all(hashlib.sha256(archive.read(name)).hexdigest() == digest for name, digest in sums.items())
        environment = json.loads(archive.read("environment.json"))
    assert environment["packages"]["condsim"]


def test_any_flipped_byte_is_noticed(bundle: Path, tmp_path: Path) -> None:
    data = bundle.read_bytes()
    rng = np.random.default_rng(0)
    ends = [*range(60), *(len(data) - 1 - np.arange(60))]  # the headers at both ends, and anywhere between
    for place in [*ends, *rng.integers(0, len(data), 120)]:
        damaged = tmp_path / "damaged.zip"
        damaged.write_bytes(data[:place] + bytes([data[place] ^ (1 << rng.integers(8))]) + data[place + 1 :])
        with pytest.raises(CondsimError, match=r"damaged\.zip"):
            read_bundle(damaged)


@pytest.mark.parametrize("end", [b"", b"more"])
def test_a_cut_or_longer_file_is_noticed(bundle: Path, tmp_path: Path, end: bytes) -> None:
    (tmp_path / "b.zip").write_bytes(bundle.read_bytes()[: None if end else -1] + end)
    with pytest.raises(CondsimError, match=r"b\.zip"):
        read_bundle(tmp_path / "b.zip")


def test_a_bundle_cannot_reach_outside_of_its_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../evil", "x")
        archive.writestr("SHA256SUMS", f"{hashlib.sha256(b'x').hexdigest()}  ../evil\n")
    with pytest.raises(CondsimError, match=r"outside of a results folder"):
        read_bundle(tmp_path / "evil.zip")


def test_the_commands_bundle_verify_and_merge(
    results_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["bundle", "method=clay", "--results", str(results_folder)]) == 0
    assert cli.main(["bundle", "--verify", "bundle.zip"]) == 0
    assert cli.main(["merge", "bundle.zip", "--results", "merged"]) == 0
    assert cli.main(["merge", str(results_folder), "--results", "merged"]) == 0
    out = capsys.readouterr().out
    assert "bundle.zip is intact: 8 records" in out
    assert "bundle.zip: 8 records added, 0 already there" in out
    assert "6 records added, 8 already there" in out
    text = (tmp_path / "merged/leaderboard.csv").read_text(encoding="utf-8")
    assert text == Results(results_folder).leaderboard().to_csv()
    assert cli.main(["bundle", "method=nothing", "--results", str(results_folder)]) == 2
