"""Every command in README.md and docs/*.md is run, or as much of it as a machine without data and network can.

A fenced ``bash`` block holds commands. A block after a line "`NAME`:" is a file of the user's: it is written, and the
commands are run beside it. The embedded benchmark is a small stand-in of the same name, and a backbone that would be
downloaded is the embedded one. What happens to a command is said by ``RULES``, the first that fits.
"""

from __future__ import annotations

import csv
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from condsim.datasets.shapes import benchmark as shapes
from condsim.harness import cli, configs
from condsim.harness.errors import CondsimError
from condsim.harness.results import plots
from condsim.harness.results.figures import figures
from condsim.harness.settings.composition import jobs
from condsim.harness.task import Benchmark, ImageTable, Ragged, Task
from running import as_new_process, call_condsim

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
COMPOSED = {name for name in cli.COMMANDS if (ROOT / f"conf/{name.replace('-', '_')}.yaml").is_file()}
FENCE = re.compile(r"^(?:`(?P<name>[\w./-]+)`[^\n]*:\n\n)?```(?P<language>\w*)\n(?P<body>.*?)^```$", re.S | re.M)
MISSING = re.compile(r"is not a folder|does not exist|is incomplete|is not set")
COLORS, KINDS = ("red", "green", "blue", "yellow"), ("circle", "square")


def blocks() -> Iterator[tuple[Path, str | None, str, str]]:
    """(page, name of the file or None, language, text) of every fenced block."""
    for page in PAGES:
        for found in FENCE.finditer(page.read_text(encoding="utf-8")):
            yield page, found["name"], found["language"], found["body"]


def commands() -> Iterator[tuple[str, str]]:
    """(page, command) of the fenced blocks, without comments, and of what is quoted within sentences."""
    for page, _, language, body in blocks():
        if language == "bash":
            lines = body.replace("\\\n", " ").splitlines()
            yield from ((page.name, " ".join(line.split())) for line in lines if shlex.split(line, comments=True))
    for page in PAGES:
        prose = FENCE.sub("", page.read_text(encoding="utf-8"))
        for found in re.findall(r"`((?:condsim|make) [a-z][^`]*)`", prose):
            yield page.name, f"{' '.join(found.split())} # in a sentence"
        for found in re.findall(r"`((?:method|backbone|benchmark|tracking)=[^`]*)`", prose):
            yield page.name, f"condsim bench {' '.join(found.split())} # in a sentence"


def distinct_commands() -> list[tuple[str, str]]:
    """(page, command) of each command once, from a block where there is one: those in sentences are only composed."""
    first: dict[tuple[str, ...], tuple[str, str]] = {}
    for page, command in sorted(set(commands()), key=lambda found: (found[1].endswith(" # in a sentence"), found)):
        first.setdefault(tuple(shlex.split(command, comments=True)), (page, command))
    return sorted(first.values())


def files() -> dict[str, str]:
    return {name: body for _, name, _, body in blocks() if name is not None}


# --- what is done with a command -----------------------------------------------------------------------------------


def make_knows_it(words: list[str], line: str) -> None:
    subprocess.run([*words, "-n"], cwd=ROOT, check=True, capture_output=True)


def the_makefile_makes_it(words: list[str], line: str) -> None:
    assert words[1:] == [".venv/bin/activate"]
    assert "VENV := .venv\n" in (ROOT / "Makefile").read_text()


def pyproject_has_the_extra(words: list[str], line: str) -> None:
    assert words[1] == "install"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert words[2] == "." or re.fullmatch(r"condsim\[(\w+)\]", words[2])[1] in extras  # type: ignore[index]


def it_composes(words: list[str], line: str) -> None:
    """Every choice and setting exists; "method=..." and "benchmark=NAME" stand for any."""
    if words[1] in COMPOSED - {"search"}:
        known = [word for word in words[2:] if not word.endswith(("=...", "=NAME"))]
        if words[1] == "import":
            known = [
                "task=focus_attribute",
                "name=theirs",
                *(word for word in known if "=" in word and not word.startswith("task=")),
            ]
        if words[1] == "explore":
            known = [word for word in known if "=" in word]  # without the folder and the options
        list(jobs(words[1], [word for word in known if word != "--dry"]))
    else:
        assert words[1] in cli.COMMANDS or words[1].startswith("--")


def only_the_data_is_missing(words: list[str], line: str) -> None:
    it_composes(words, line)
    status, output = call_condsim(words[1:])
    assert status in (1, 2), output
    assert MISSING.search(output), output
    assert re.search(r"[1-9]\d* FAILED", output) or "bench" not in words, output


def it_runs(words: list[str], line: str) -> None:
    arguments = [re.sub(r"^backbone=(RN|ViT).*", "backbone=shapes-clip", word) for word in words[1:]]
    if words[1] == "search":
        arguments += ["--backbone", "shapes-clip"]
    if words[1] == "bench" and not {"--help", "--cfg"} & set(words):
        arguments += ["statistics.resamples=100", "force=true"]
    status, output = call_condsim(arguments)
    assert status == 0, output
    assert "Traceback" not in output
    if words[1] == "bench" and "force=true" in arguments:
        assert re.search(r"[1-9]\d* runs? finished, 0 already done", output), output


def the_file_runs(words: list[str], line: str) -> None:
    file = Path(words[1])
    file.write_text(re.sub(r'backbone="(RN|ViT)[^"]*"', 'backbone="shapes-clip"', file.read_text()))
    runpy.run_path(words[1])


def its_help_knows_the_options(words: list[str], line: str) -> None:
    shown = subprocess.run([sys.executable, ROOT / words[1], "--help"], check=True, capture_output=True, text=True)
    assert all(word in shown.stdout for word in words[2:] if word.startswith("--")), shown.stdout


RULES: tuple[tuple[str, Callable[[list[str], str], None]], ...] = (
    (r"make ", make_knows_it),
    (r"source ", the_makefile_makes_it),
    (r"pip ", pyproject_has_the_extra),
    (r"condsim \S+.* # in a sentence", it_composes),
    (r"condsim (train|mine|download|train-backbone|captions|edits)", it_composes),  # long, or from the network
    (r"condsim .*engine=(ray|slurm)", it_composes),  # tests/harness/engine runs them
    (r"condsim explore ", it_composes),  # does not end by itself
    (r"condsim .*(tracking=wandb|experiment=)", it_composes),  # tests/harness/tracking runs W&B
    (r"condsim (import|merge|reproduce|submission|bundle --verify)", it_composes),  # files of others
    (r"python \S+\.py", the_file_runs),
    (r"\.venv/bin/python ", its_help_knows_the_options),
    (r"condsim templates ", only_the_data_is_missing),
    (r"condsim check .*benchmark=(?!shapes|labelled)", only_the_data_is_missing),
    (r"condsim bench .*benchmark=(?!shapes|labelled|pairs|instance benchmark.name=cups)", only_the_data_is_missing),
    (r"condsim ", it_runs),
)


@pytest.mark.parametrize(("page", "command"), distinct_commands())
def test_a_command_does_what_the_page_says(page: str, command: str, prepared: Path, tmp_path: Path) -> None:
    bare = re.sub(r"^([A-Z_]+=\S+ )+", "", command)  # variables of the environment before it
    rule = next((rule for pattern, rule in RULES if re.match(pattern, bare)), None)
    assert rule is not None, f"say in RULES how {command!r} of {page} is tested"
    folder = prepared
    if rule is not it_composes:  # what runs gets a copy of its own
        folder = Path(shutil.copytree(prepared, tmp_path / "own", dirs_exist_ok=True))
    with as_new_process(folder):
        rule(shlex.split(bare, comments=True), bare)


def test_every_block_says_what_it_is() -> None:
    """A block of commands without a language would not be run."""
    assert {language for _, _, language, _ in blocks()} <= {"bash", "python", "yaml", "text"}
    unnamed = [(page.name, body) for page, name, language, body in blocks() if language == "python" and name is None]
    assert unnamed == []  # code that no command runs


def test_every_link_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_a_wrong_command_would_be_noticed(prepared: Path, tmp_path: Path) -> None:
    for wrong in (
        "condsim bench methd=clay", "condsim bench method=clay tasks=[focus]", "condsim leaderboard --fromat csv",
        "condsim train method=combiner training.stesp=3", "condsim bench benchmark=cirr benchmark.anotations=x",
        "make benhc", "pip install 'condsim[mined]'",
    ):  # fmt: skip
        with pytest.raises((AssertionError, CondsimError, subprocess.CalledProcessError)):
            test_a_command_does_what_the_page_says("README.md", wrong, prepared, tmp_path)


# --- where it is run -----------------------------------------------------------------------------------------------


def draw(path: Path, color: str, kind: str, number: int) -> None:
    picture = Image.new("RGB", (48, 48), ("white", "lightgray")[number % 2])
    pen = ImageDraw.Draw(picture)
    (pen.ellipse if kind == "circle" else pen.rectangle)((8 + number, 10, 34 + number, 36), fill=color)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def stand_in(pictures: Path, seed: int = 0) -> Benchmark:
    """Benchmark "shapes" with one of its tasks: 24 pictures, each a query by color and by shape with six candidates."""
    looks = [(color, kind, 3 * seed + i) for color in COLORS for kind in KINDS for i in range(3)]
    for look in looks:
        draw(pictures / "{}-{}-{}.png".format(*look), *look)
    rng = np.random.default_rng(seed)
    rows = np.arange(2 * len(looks))
    reference, which = rows // 2, rows % 2
    label = np.array([[color, kind] for color, kind, _ in looks])
    lists = []
    for row, asked in zip(reference, which, strict=True):
        alike = label[:, asked] == label[row, asked]
        target = rng.choice(np.flatnonzero(alike & (np.arange(len(looks)) != row)))
        lists.append([target, *rng.choice(np.flatnonzero(~alike), 5, replace=False)])
    task = Task(
        "shapes", "focus_attribute", ImageTable(pictures, tuple("{}-{}-{}.png".format(*look) for look in looks)),
        (("color",), ("shape",)), which, reference, Ragged.of([one[0]] for one in lists), ("recall@1", "recall@2"),
        candidates=Ragged.of(lists), clusters=reference, cluster_name="reference",
    )  # fmt: skip
    return Benchmark("shapes", (task, replace(task, name="change_attribute")))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's files as the pages give them, the pictures that these name, and records of a few runs."""
    home = tmp_path_factory.mktemp("docs")
    own = home / "own"
    splits = {"test": stand_in(home / "pictures"), "val": stand_in(home / "validation", seed=1)}
    for name, text in files().items():
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_text(text, encoding="utf-8")
        if name.endswith(".csv"):
            cells = {cell for row in csv.reader(text.splitlines()) for cell in row}
            for number, cell in enumerate(sorted(cell for cell in cells if cell.endswith(".png"))):
                draw(own / "photos" / cell, COLORS[number % 4], KINDS[number % 2], number)
    configs.forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONDSIM_CACHE", str(home / "cache"))
        patch.setenv("NO_COLOR", "1")
        for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
            patch.setenv(name, str(home / "wandb"))
        # tests/harness/results draws them all
        patch.setattr(plots, "figures", lambda groups, notes: islice(figures(groups, notes), 1))
        patch.setattr(shapes, "load", lambda cache_dir=None, tasks=None, split="test": splits[split].select(tasks))
        patch.chdir(own)
        for runs in (["method=image_only,image_plus_text"], ["method=clay", "method.rank=2,5,10"]):
            status, output = call_condsim(["bench", "-m", *runs, "statistics.resamples=100"])
            assert status == 0, output
        status, output = call_condsim(["queries", "tasks=[focus_attribute]", "method=clay"])
        assert status == 0, output
        runpy.run_path("encode.py")
        yield own
    configs.forget()
