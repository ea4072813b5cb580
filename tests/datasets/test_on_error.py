"""Images that are there and do not decode: one message, or with on_error=skip a run without them, through `condsim`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from builders import make_cirr
from condsim.datasets import mit_states
from condsim.harness.variants.without_images import without_images
from running import run_condsim

pytestmark = pytest.mark.slow


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., str]:
    def run(*overrides: str, status: int = 0) -> str:
        command = ("bench", "backbone=shapes-clip", f"cache_dir={tmp_path / 'cache'}", *overrides)
        return run_condsim(*command, folder=tmp_path, status=status)

    return run


def records(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(tmp_path.glob("results/runs/*/*/*/record.json"))]


def test_cirr(bench: Callable[..., str], tmp_path: Path) -> None:
    world = make_cirr(tmp_path / "cirr", "val")
    images = world.root / "images" / "dev"
    for i in range(14):  # different pictures: equal ones share their features
        Image.new("RGB", (40, 30), (10 * i, 200, 30)).save(images / f"dev-{i}-0-img0.png")
    (images / "dev-12-0-img0.png").write_bytes(b"")  # in no query
    (images / "dev-13-0-img0.png").write_bytes(b"")  # equal to the one before
    (images / "dev-7-0-img0.png").write_bytes((images / "dev-7-0-img0.png").read_bytes()[:60])  # in one image set
    options = ["benchmark=cirr", *(f"benchmark.{key}={value}" for key, value in world.arguments.items())]
    output = bench(*options, "method=image_only", status=1)
    assert "3 of 14 rows cannot be encoded" in output
    assert "dev-7-0-img0.png: does not decode" in output
    assert "encoding images" not in output, "it is reported before anything is encoded"
    assert "condsim check benchmark=cirr" in output
    assert "benchmark.on_error=skip" in output
    assert not records(tmp_path)

    output = bench(*options, "method=image_only", "benchmark.on_error=skip")
    assert "1 run" in output
    (record,) = records(tmp_path)
    left_out = [f"{images / f'dev-{i}-0-img0.png'}: does not decode" for i in (7, 12, 13)]
    assert [message.split(" (")[0] for message in record["skipped"][:3]] == left_out
    assert [message[:10] for message in record["skipped"][3:]] == [f"query {100 + i}:" for i in (1, 3, 5, 7)]
    assert record["queries"] == 4
    assert "0 runs finished, 1 already done" in bench(*options, "method=image_only", "benchmark.on_error=skip")

    for name in ("7", "12", "13"):
        (images / f"dev-{name}-0-img0.png").unlink()
    output = bench(*options, "method=image_only", "benchmark.on_error=skip")
    assert "0 runs finished, 1 already done" in output, "a missing image is left out as one that does not decode is"


def test_a_positive_lost_of_several_loses_no_query(tmp_path: Path) -> None:
    for adjective in ("old", "new", "red"):
        for noun in ("horse", "gate"):
            for i in range(2):
                path = tmp_path / f"{adjective} {noun}" / f"{i}.jpg"
                path.parent.mkdir(exist_ok=True)
                Image.new("RGB", (20, 30)).save(path)
    benchmark = mit_states.load(str(tmp_path), tasks=["test"], on_error="skip")
    assert benchmark.on_error == "skip"
    (task,) = benchmark.tasks
    row = task.images.names.index("old horse/0.jpg")
    (tmp_path / "old horse" / "0.jpg").unlink()
    left = without_images(task, {row: "there is no such file"})
    assert (len(task), len(left)) == (12 * 2, 12 * 2 - 2)
    assert left.fingerprint == mit_states.load(str(tmp_path), tasks=["test"]).tasks[0].fingerprint, "as if never there"
