"""The command line answers at once, a mistyped name shows the nearest valid ones, and nothing ends in a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from condsim.harness.cli import COMMANDS, main
from condsim.harness.settings.config_files import choices_of

CONDSIM = Path(sys.executable).with_name("condsim")
SLOW = ("torch._C", "torchvision", "open_clip", "datasets", "wandb")


CALLS = "import json, sys\nfrom condsim.harness.cli import main\nsys.exit([*map(main, {calls!r})] != {status!r})"


def condsim_calls(
    *calls: list[str], cwd: Path, status: list[int], environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Calls of the command ``condsim`` in one new process, which must end with these statuses."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", CALLS.format(calls=calls, status=status)], cwd=cwd, capture_output=True,
        text=True, check=False, env={**os.environ, "CONDSIM_CACHE": str(cwd / "cache"), **(environment or {})},
    )  # fmt: skip
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {command} " in shown for command in COMMANDS)


def test_what_must_answer_at_once_imports_neither_torch_nor_modules_of_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "results/runs").mkdir(parents=True)
    for name in ("hydra", "inspect", "torch", "rich", "yaml", "copy", "html", "types", "random"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name}.py in the current folder was run')\n")
    commands = [
        ["--help"], ["--version"], ["ls"], ["ls", "methods"], ["bench", "--help"], ["train", "--help"],
        ["bench", "--cfg", "job", "method=clay"], ["mine", "--help"], ["train-backbone", "--help"],
        ["leaderboard", "--help"], ["leaderboard"], ["cache", "--cache-dir", ".", "ls"],
    ]  # fmt: skip
    code = (
        f"import sys\nfrom condsim.harness.cli import main\nfor command in {commands!r}:\n"
        "    if main(command): sys.exit(f'{command} fails')\n"
        f"    if slow := set({SLOW!r}) & set(sys.modules): sys.exit(f'{{command}} imports {{slow}}')"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "_target_" in done.stdout


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
        (["ls", "benchmraks"], "'benchmark'"),
        (["search"], "usage: condsim search FOLDER [SETTING=VALUE ...] [options]; see `condsim search --help`"),
        (["search", "photos", "--conditon", "color"], "there is no option --conditon. Did you mean '--condition'"),
        (["plot", "--formats"], "expected one argument; see `condsim plot --help`"),
        (["ls", "-cd", "nowhere"], "no such folder"),
    ],
)
def test_a_mistyped_name_shows_the_nearest(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert expected in shown.err
    assert "Traceback" not in shown.err + shown.out


@pytest.mark.parametrize(
    ("command", "shown", "not_shown"),
    [
        ("train-backbone", "ramp_steps=150", "method"),
        ("check", "  benchmark ", "recipe"),
        ("download", "  benchmark ", "backbone "),
        ("report", "report.budget_mb=20", "benchmark  "),
        ("mine", "  captions ", "  recipe "),
        ("templates", "objects.count=2000", "recipe"),
        ("bench", "  experiment ", "  recipe "),
        ("train", "  recipe ", "  experiment "),
    ],
)
def test_help_of_a_command_shows_its_own_groups_and_settings(
    command: str, shown: str, not_shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    page = capsys.readouterr().out
    assert page.startswith(f"condsim {command}: ")
    assert shown in page
    assert not_shown not in page.split("\nOptions:")[0]
    assert "hydra" not in page


def test_help_shows_the_settings_of_what_is_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "method=clay", "method.rank=7", "--help"]) == 0
    assert "method.rank=7 " in capsys.readouterr().out
    assert main(["bench", "benchmark=clevr4", "--help"]) == 0
    assert "benchmark.queries=0.1" in capsys.readouterr().out


@pytest.mark.parametrize("group", ["method", "benchmark", "backbone", "experiment", "tracking", "recipe", "phrases"])
def test_ls_has_one_line_per_choice(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", group]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = choices_of("method/phrases" if group == "phrases" else group)
    assert [line.split()[0] for line in lines] == list(names)
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines), "every choice is described"


def test_ls_lists_the_users_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method/mine.yaml").write_text("# @package _global_\n# My method.\n# More.\n_target_: mine.Mine\n")
    assert main(["ls", "methods", "--config-dir", str(tmp_path)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1) for line in shown if "mine" in line] == [["mine", "My method."]]
    assert any(line.startswith("clay ") for line in shown)


@pytest.mark.slow
def test_a_folder_datasets_in_the_current_folder_shadows_nothing(tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets/__init__.py").write_text("raise SystemExit('the folder datasets was imported')\n")
    code = (
        "import sys\nfrom condsim.harness.configs import make\n"
        "sys.path.pop(0)\n"  # python -c puts the current folder first
        "for target in ('condsim.harness.engine.local.LocalEngine', 'own_module.Own'): make({'_target_': target})\n"
        "import datasets\nprint(datasets.Dataset.from_dict({'a': [1]})[0], sys.path[-1])"
    )
    (tmp_path / "own_module.py").write_text("class Own: pass\n")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == f"{{'a': 1}} {tmp_path}", done.stderr


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [CONDSIM, "ls", "methods"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 0
    process.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_output_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [CONDSIM, "ls", "methods"], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr == "condsim ls: the output: No space left on device\n"


def test_what_the_output_cannot_encode_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method/mine.yaml").write_text("# größe\n_target_: mine.Mine\n", encoding="utf-8")
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    calls = ["ls", "methods", "-cd", "."], ["bench", "method=größe"]
    shown = condsim_calls(*calls, cwd=tmp_path, status=[2, 2], environment=ascii_only).stderr
    assert "set PYTHONIOENCODING=utf-8" in shown
    assert "no method" in shown


def test_an_interrupt_says_that_finished_runs_are_saved(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(argv: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("condsim.harness.commands.ls.main", interrupt)
    assert main(["ls"]) == 130
    assert "Finished runs are saved; run the same command again to resume" in capsys.readouterr().err
