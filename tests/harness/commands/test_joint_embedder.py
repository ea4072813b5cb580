"""The path of a user with an embedder of their own: from `condsim queries` to rows of the leaderboard."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from condsim.harness import cli

pytestmark = pytest.mark.slow

COLORS = {"red": (200, 20, 20), "green": (20, 180, 20), "blue": (20, 20, 220)}
LABELLED = ["benchmark=labelled", "benchmark.table=photos.csv", "benchmark.queries=0.4"]


def embed(path: str, text: str) -> NDArray[np.float64]:
    """A stand-in for the model: mean color and brightness by quarter, of which the text chooses one."""
    pixels = np.asarray(Image.open(path).convert("RGB").resize((8, 8)), dtype=np.float64) / 255 - 0.4
    color, quarters = pixels.mean(axis=(0, 1)), pixels.mean(axis=2).reshape(2, 4, 2, 4).mean(axis=(1, 3)).ravel()
    return np.concatenate([color * (text != "shape"), quarters * (text != "color")])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """30 photos of three colors and two shapes, with a table of their labels."""
    rng = np.random.default_rng(0)
    lines = ["image,color,shape"]
    for number in range(30):
        color, shape = list(COLORS)[number % 3], ("left", "right")[number // 3 % 2]
        pixels = rng.integers(0, 60, (32, 32, 3))
        pixels[:, :16] += np.array(COLORS[color]) if shape == "left" else 60
        pixels[:, 16:] += np.array(COLORS[color]) if shape == "right" else 60
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{color},{shape}")
    (tmp_path / "photos.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("CONDSIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def encode(table: str, name: str, file: str) -> dict[str, NDArray[np.float64]]:
    rows = pd.read_csv(table, keep_default_na=False).to_dict("records")
    features = {row[name]: embed(row["path"], row.get("text", "")) for row in rows}
    np.savez(file, names=np.array(list(features)), features=np.stack(list(features.values())))
    return features


def bench(*settings: str) -> dict[str, dict[str, Any]]:
    assert cli.main(["bench", *LABELLED, *settings, "statistics.resamples=100"]) == 0
    with Path("results/leaderboard.csv").open() as file:
        method = settings[0].removeprefix("method=")
        return {row["task"]: row for row in csv.DictReader(file) if row["method"] == method}


def recall_at_1(queries: Iterable[dict[str, Any]], scores: Any) -> float:
    """In percent, over ``queries``; ``scores``: query -> name of each database image -> score."""
    labels = pd.read_csv("photos.csv").set_index("image")
    right = []
    for query in queries:
        of_images = scores(query)
        best = max(of_images, key=of_images.get)
        right.append(labels[query["task"]][best] == labels[query["task"]][query["image"]])
    return 100 * float(np.mean(right))


def cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_from_the_list_of_queries_to_the_leaderboard(folder: Path) -> None:
    assert cli.main(["queries", *LABELLED, "pairs=pairs.csv"]) == 0
    of_query = encode("queries.csv", "query", "queries.npz")
    of_image = encode("images.csv", "image", "images.npz")
    of_pair = encode("pairs.csv", "name", "pairs.npz")
    queries: Any = pd.read_csv("queries.csv").to_dict("records")
    references = {query["image"] for query in queries}
    database = [name for name in of_image if name not in references]
    assert (len(queries), len(database)) == (24, 18)
    precomputed = ["backbone=precomputed", "backbone.images=images.npz"]

    joint = bench("method=joint", "method.features=queries.npz", *precomputed)
    conditional = bench("method=conditional", "method.features=pairs.npz", *precomputed)
    for task in ("color", "shape"):
        own = [query for query in queries if query["task"] == task]
        expected = recall_at_1(own, lambda q: {d: cosine(of_query[q["query"]], of_image[d]) for d in database})
        assert float(joint[task]["recall@1"]) == pytest.approx(expected, abs=1e-3)
        expected = recall_at_1(
            own,
            lambda q: {d: cosine(of_pair[f"{q['text']}/{q['image']}"], of_pair[f"{q['text']}/{d}"]) for d in database},
        )
        assert float(conditional[task]["recall@1"]) == pytest.approx(expected, abs=1e-3)

    def runs() -> int:
        return len(list(Path("results/runs").rglob("record.json")))

    before = runs()
    bench("method=joint", "method.features=queries.npz", *precomputed)
    assert runs() == before, "finished runs are not run again"
    names = np.array(list(of_query))
    np.savez("queries.npz", names=names, features=np.stack(list(of_query.values()))[::-1])
    bench("method=joint", "method.features=queries.npz", *precomputed)
    assert runs() == before + 2, "other features are another run"


def test_a_file_of_other_queries_ends_in_one_message(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["queries", *LABELLED]) == 0
    of_query = encode("queries.csv", "query", "queries.npz")
    encode("images.csv", "image", "images.npz")
    names = list(of_query)[1:]
    np.savez("queries.npz", names=np.array(names), features=np.stack([of_query[name] for name in names]))
    command = ["bench", *LABELLED, "method=joint", "method.features=queries.npz", "statistics.resamples=100"]
    assert cli.main([*command, "backbone=precomputed", "backbone.images=images.npz", "tasks=[color]"]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert f"queries.npz: no row for 1 of 12 queries of labelled/color, such as '{next(iter(of_query))}'" in shown
    assert json.dumps(shown).count("Traceback") == 0
