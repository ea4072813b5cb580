"""`condsim bench` and `check` on pictures that change, and on pictures that are not read as they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from running import run_condsim

COLORS = {"red": (200, 40, 40), "blue": (40, 60, 200)}
WORDS = "the color of the thing that somebody has put in the very middle of this picture " * 8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table of 20 pictures in two colors, and its pictures."""
    rows = ["image,color"]
    for i in range(20):
        color = ("red", "blue")[i % 2]
        draw(tmp_path / "pictures" / f"{i}.png", COLORS[color], i)
        rows.append(f"{i}.png,{color}")
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def draw(path: Path, color: tuple[int, int, int], seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 40, (48, 48, 3))
    Image.fromarray((np.array(color) + noise).astype(np.uint8)).save(path)


def condsim(folder: Path, *arguments: str) -> str:
    options = ["benchmark=labelled", "benchmark.table=table.csv", "benchmark.images=pictures"]
    return run_condsim(
        arguments[0], *options, *arguments[1:], folder=folder, environment={"CONDSIM_CACHE": str(folder / "cache")}
    )


def leaderboard(folder: Path) -> str:
    return run_condsim("leaderboard", folder=folder)


@pytest.mark.slow
def test_pictures_that_change_and_keep_their_names_are_another_run(folder: Path) -> None:
    bench = ("bench", "method=image_only", "benchmark.queries=0.3")
    first = condsim(folder, *bench)
    assert "1 run finished, 0 already done" in first
    before = {path: path.read_bytes() for path in (folder / "pictures").iterdir()}
    for i, path in enumerate(sorted(before)):
        draw(path, (120, 120, 120), i)
    second = condsim(folder, *bench)
    assert "1 run finished, 0 already done" in second
    titles = [line for line in leaderboard(folder).splitlines() if line.startswith("**labelled/color")]
    newest, older = titles
    assert newest.startswith("**labelled/color, question set ")
    assert older.startswith("**labelled/color, other question set ")
    assert all(" pictures " in title for title in titles)
    for path, content in before.items():
        path.write_bytes(content)
    again = condsim(folder, *bench)
    assert "0 runs finished, 1 already done" in again
    value, other = (text.partition(" map ")[2].split()[0] for text in (first, second))
    assert value in again
    assert value != other


@pytest.mark.slow
def test_inputs_that_are_not_read_as_they_are_are_noted_in_the_record(folder: Path) -> None:
    pictures = folder / "pictures"
    with Image.open(pictures / "0.png") as picture:
        picture.putalpha(90)
        picture.save(pictures / "0.png")
    grey = np.full((48, 48), 40_000, dtype=np.uint16)
    Image.fromarray(grey).save(pictures / "1.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    for i in (2, 3):
        with Image.open(pictures / f"{i}.png") as picture:
            picture.save(pictures / f"{i}.png", exif=turned)
    checked = " ".join(condsim(folder, "check").split())
    output = condsim(
        folder, "bench", "-m", "method=text_only,image_plus_text", f"benchmark.conditions={{color: {WORDS.strip()}}}"
    )
    records = [json.loads(path.read_text()) for path in folder.glob("results/runs/*/*/*/record.json")]
    assert len(records) == 2
    for what in ("2 of 20 images have an EXIF rotation", "1 of 20 images have transparent pixels",
                 "1 of 20 images have more than 8 bits"):  # fmt: skip
        assert what in checked
        assert output.count(what) == 1, "once per command"
        assert all(any(note.startswith(what) for note in record["notes"]) for record in records)
    assert "1 of 1 texts have more tokens than the model reads" in output
