"""The command line answers at once, and a mistyped name shows the nearest valid ones, never a traceback."""

import subprocess
import sys
from pathlib import Path

import pytest

from condsim.harness.cli import COMMANDS, main


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in COMMANDS)


@pytest.mark.parametrize("command", [["--help"], ["leaderboard"], ["leaderboard", "--help"], ["bench", "--cfg", "job"]])
def test_what_must_answer_at_once_does_not_import_torch(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "results/runs").mkdir(parents=True)
    code = (
        "import sys\nfrom condsim.harness.cli import main\n"
        f"try: main({command!r})\nexcept SystemExit: pass\n"
        "sys.exit('torch was imported' if 'torch' in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["bnech"], "'bench'"),
        (["bench", "method=caly"], "'clay'"),
        (["bench", "methd=clay"], "'method'"),
        (["bench", "benchmark=genesis"], "'genecis'"),
        (["bench", "backbone=ViT-B-32/opnai"], "'ViT-B-32/openai'"),
        (["bench", "method=clay", "method.rnak=3"], "'rank'"),
        (["bench", "-m", "method=clay,image_olny"], "'image_only'"),
        (["bench", "-m", "method=clay", "method.rnak=1,2"], "'rank'"),
        (["bench", "statistics.resmaples=3"], "'resamples'"),
        (["bench", "--config-dir", "nowhere", "method=clay"], "no such folder"),
        (["bench", "method"], "expected name=value"),
    ],
)
def test_a_mistyped_name_shows_the_nearest(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert expected in shown.err
    assert "Traceback" not in shown.err + shown.out
