"""`condsim reproduce` as a user runs it: a table of published numbers, one of which is known to be right."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from condsim.harness.commands.reproduce import Lack, read_experiment
from condsim.harness.results.published import find_published, read_published
from condsim.harness.results.reproduction import published_cells
from condsim.harness.settings.config_files import choices_of
from running import run_condsim

EXPERIMENT = """\
# A table of a toy paper.
paper: Paper
tables: [Table 1]
benchmarks: [toy]
settings: [benchmark=toy, backbone=toy]
needs: {files: none}
notes: [a known difference]
rows:
  - {method: constant, backbone: toy, settings: [method=constant]}
  - {method: other, backbone: toy, not_run: it needs weights}
"""
PUBLISHED = """\
paper,table,benchmark,task,method,backbone,metric,value,source,note
Paper,Table 1,toy,few,constant,toy,recall@1,16.7,,
Paper,Table 1,toy,few,constant,toy,recall@2,30.0,,
Paper,Table 1,toy,mean,constant,toy,mean,13.4,,
Paper,Table 1,toy,few,other,toy,recall@1,16.7,,
"""
OWN = """
from pathlib import Path
import numpy as np
from condsim.harness.task import ImageTable
from condsim.harness.triplets import Triplets

def load(n):
    images = ImageTable(Path("nowhere"), tuple(f"{i}.png" for i in range(30)))
    reference, text, target = np.random.default_rng(0).integers(2, size=(3, n))
    return Triplets("own", images, ("color", "shape"), reference, text, target)
"""
FIGURE = """\
# A figure of a toy paper.
paper: Paper
tables: [Figure 1]
benchmarks: [toy]
headline: [mean, mean]
axis: triplets
command: train
settings: [benchmark=toy, backbone=toy, method=combiner, triplets=own, method.projection=8, method.hidden=8,
           training.steps=4, validation.share=0]
needs: {files: none}
rows:
  - {method: combiner, backbone: toy, x: 30, settings: [triplets.own.n=30]}
  - {method: combiner, backbone: toy, x: 60, settings: [triplets.own.n=60]}
  - {method: combiner, backbone: toy, x: none, not_run: not mined}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    own = tmp_path / "own"
    shutil.copytree(Path(__file__).parents[2] / "user_folder", own)
    (own / "reproduce/paper").mkdir(parents=True)
    (own / "reproduce/paper/table-1.yaml").write_text(EXPERIMENT)
    (own / "results/reference").mkdir(parents=True)
    (own / "results/reference/published.csv").write_text(PUBLISHED)
    return own


@pytest.mark.slow
def test_a_table_with_a_right_a_wrong_and_a_missing_number(folder: Path) -> None:
    row = ("--row", "other", "method=constant method.value=2")
    shown = run_condsim("reproduce", "paper/table-1", "--config-dir", ".", "--output", "out.csv", *row, folder=folder)
    assert "3 agree within 0.1 points, 1 differ, 0 not run." in shown
    assert "note: a known difference" in shown
    assert (folder / "out.csv").read_text().count("agrees") == 3
    assert "agrees,\n" in (folder / "out.csv").read_text()


@pytest.mark.slow
def test_a_figure_without_numbers_trains_its_points(folder: Path) -> None:
    (folder / "own.py").write_text(OWN)
    (folder / "triplets").mkdir()
    (folder / "triplets/own.yaml").write_text("own: {_target_: own.load, n: 80}\n")
    (folder / "reproduce/paper/figure-1.yaml").write_text(FIGURE)
    shown = run_condsim("reproduce", "paper/figure-1", "--config-dir", ".", folder=folder)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown.splitlines() if "not in num" in line]
    assert [row[0] for row in rows] == ["30", "60", "none"]
    assert all(0 <= float(row[2]) <= 100 and row[4] == "" for row in rows[:2])
    assert rows[2][2:] == ["", "", "not mined"]
    assert "prints no numbers, so there is no verdict" in shown
    assert len(list((folder / "results/checkpoints").glob("*.safetensors"))) == 2


@pytest.mark.parametrize("name", sorted(choices_of("reproduce")))
def test_every_table_has_published_cells_and_a_row_for_each(name: str) -> None:
    experiment = read_experiment(name)
    path = find_published(Path("nowhere"))
    cells = published_cells(read_published(path), experiment.paper, experiment.tables, experiment.benchmarks)
    rows = {row.name for row in experiment.rows}
    if not (experiment.against or experiment.axis):
        assert cells
        assert {cell.row for cell in cells} == rows
    for row in experiment.rows:
        assert bool(row.settings) != bool(row.not_run)
        for setting in row.settings:
            group, _, choice = setting.partition("=")
            if group in ("method", "backbone", "benchmark"):
                assert choice in choices_of(group)
    assert set(experiment.needs) == {"files", "time", "licence"}


def test_what_a_benchmark_lacks_is_listed_as_far_as_wanted() -> None:
    lack = Lack("toy", tuple(f"{i}.png is missing" for i in range(12)))
    assert lack.text() == (
        "toy is incomplete: 0.png is missing\n  and 11 more; `condsim reproduce ... --check` shows them"
    )
    assert lack.text(10).splitlines()[-2:] == ["  9.png is missing", "  and 2 more; `condsim check` shows them"]
    assert Lack("toy", ("no images",)).text(10) == "toy is incomplete: no images"
