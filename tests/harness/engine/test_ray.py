"""Workers of Ray on this machine: what they answer, and what happens when one of them is killed."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from condsim.datasets.instance import load
from condsim.harness.configs import make_once
from condsim.harness.engine.engine import Held, Item, Lost, Result
from condsim.harness.engine.local import LocalEngine
from condsim.harness.engine.ray import RayEngine
from condsim.harness.errors import CondsimError
from condsim.harness.features.published.backbone import Precomputed
from condsim.harness.features.segments import encode_in_segments
from condsim.harness.files.gallery_parts import GRAIN
from condsim.harness.run.run import rank
from condsim.harness.task import ImageTable
from condsim.methods.clay import Clay
from encoders import Space, make_gallery_in_parts
from running import run_condsim

ray = pytest.importorskip("ray", reason="these tests need Ray (pip install 'condsim[ray]')")
pytestmark = pytest.mark.slow

TOY = Path(__file__).parents[2] / "user_folder"


@pytest.fixture(scope="module", autouse=True)
def one_ray() -> Iterator[None]:
    """Ray with room for two workers, which the engines of this file share."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"):
            patch.setenv(name, "0")
        before = dict(os.environ)
        engine = RayEngine(workers=2)
        assert engine.workers == 2
        for name in os.environ.keys() - before.keys():
            patch.delenv(name)
        yield
        engine.close()
    assert not ray.is_initialized()


@pytest.fixture(scope="module")
def engine(one_ray: None) -> Iterator[RayEngine]:
    engine = RayEngine(workers=2, retries=2)
    yield engine
    engine.close()


@pytest.fixture
def labour(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the user's that only the import path of this process finds."""
    monkeypatch.syspath_prepend(str(TOY))
    return importlib.import_module("labour")


def test_items_of_a_killed_worker_are_done_again(
    engine: RayEngine, labour: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    results: dict[int, Any] = dict(engine.work(partial(labour.squares, tmp_path / "died"), range(12)))
    assert {number: result[0] for number, result in results.items()} == {i: i * i for i in range(12)}
    assert os.getpid() not in {pid for _, pid in results.values()}
    shown = "".join(capfd.readouterr())
    assert shown.count("Ray: lost a worker on") == 1
    assert "three comes through" in shown
    assert "raylet" not in shown, "Ray's own reports stay in its log files"


def test_an_item_that_kills_every_worker_is_given_up_and_the_others_are_done(
    engine: RayEngine, labour: Any, tmp_path: Path
) -> None:
    (tmp_path / "died").touch()
    results: dict[int, Any] = dict(engine.work(partial(labour.squares, tmp_path / "died"), [1, 99, 2, 3]))
    assert results[99] == Lost("its process ended unexpectedly")
    assert [results[number][0] for number in (1, 2, 3)] == [1, 4, 9]
    with pytest.raises(ValueError, match="-1 is negative") as raised:
        list(engine.work(partial(labour.squares, tmp_path / "died"), [1, -1]))
    assert "labour.py" in raised.value.__notes__[0], "where it was raised on the worker"


def test_a_part_whose_worker_is_killed_repeats_the_calls_before(engine: RayEngine, labour: Any, tmp_path: Path) -> None:
    held = engine.hold([partial(labour.Part, number, tmp_path / "died") for number in range(4)])
    pids = held.all("pid")
    assert pids[:2] == pids[2:], "four parts on two workers"
    assert len(set(pids)) == 2
    assert held.all("add", 10) == [0, 10, 20, 30]
    with held.batch():
        assert held.all("add", 5) == [0, 15, 30, 45]
        assert held.all("deadly_total") == [15, 15, 15, 15]
    assert len(set(held.all("pid")) & set(pids)) == 1
    held.release()


def test_workers_for_which_there_is_no_room_are_one_line_at_once_and_one_message(
    one_ray: None, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condsim.harness.engine.ray._SETTLED", 0)
    engine = RayEngine(workers=1, cpus=999, patience=1)
    results = engine.work(partial(attrgetter, "real"), [1])
    with pytest.raises(
        CondsimError, match=r"no worker of Ray was up after engine\.patience=1 seconds.* needs 999 CPUs"
    ):
        list(results)
    engine.close()
    shown = " ".join("".join(capfd.readouterr()).split())
    assert shown.count("engine.address=local waits: a worker needs 999 CPUs, and") == 1


def test_what_pickle_cannot_send_is_a_message_that_says_what_to_change(
    engine: RayEngine, labour: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for makes, items in ((lambda: str, [1]), (partial(labour.squares, Path()), [lambda: 1])):
        with pytest.raises(CondsimError, match=r"pickle cannot send them this: .*lambda.*top level of a module"):
            list(engine.work(makes, items))
    with pytest.raises(CondsimError, match=r"pickle cannot send them this: .*top level of a module"):
        list(engine.work(partial(attrgetter, "__dict__"), [labour.Part]))
    here = ModuleType("of_this_process")
    monkeypatch.setitem(sys.modules, here.__name__, here)
    exec("class Mine: ...", here.__dict__)
    with pytest.raises(CondsimError, match="a worker cannot import what it received: No module named 'of_this_proc"):
        list(engine.work(here.Mine, [1]))


def test_without_ray_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(CondsimError, match=r"engine=ray needs Ray: pip install 'condsim\[ray\]'"):
        list(RayEngine().work(lambda: str, [1]))


class KillsOne(LocalEngine):
    """The workers of another engine, one of which is killed after the first result."""

    def __init__(self, engine: RayEngine, labour: Any) -> None:
        self.engine, self.labour, self.workers = engine, labour, engine.workers
        self.encoded: list[Any] = []

    def work(
        self, make: Callable[[], Callable[[Item], Result]], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result | Lost]]:
        held = self.engine.hold([partial(self.labour.Part, number, Path()) for number in range(2)])
        pid = held.all("pid")[0]
        for item, result in self.engine.work(make, items):
            self.encoded.append((item, result))
            if len(self.encoded) == 1:
                os.kill(pid, signal.SIGKILL)
            yield item, result


def test_images_encoded_on_workers_have_the_bits_of_one_process(engine: RayEngine, labour: Any, tmp_path: Path) -> None:
    names = []
    for i in range(600):
        names.append(f"{i}.png")
        noise = np.random.default_rng(i).integers(0, 255, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / names[-1])
    (tmp_path / "7.png").write_bytes(b"not a picture")
    table = ImageTable(tmp_path, tuple(names))

    def backbone(cache: str) -> tuple[Callable[[], Any], Any]:
        make = partial(make_once, {"_target_": "toy.Stored", "cache_dir": str(tmp_path / cache)}, "backbone")
        return make, make()

    _, alone = backbone("alone")
    with pytest.raises(CondsimError, match=r"1 of 600 rows cannot be encoded:\n  row 7, .*\n.* 599 are encoded") as one:
        alone.encode_images(table)
    make, shared = backbone("shared")
    killing = KillsOne(engine, labour)
    with pytest.raises(CondsimError) as other:
        encode_in_segments(killing, make, shared, table, most=64)
    assert str(other.value) == str(one.value), "reported as in one process"
    rows = np.delete(np.arange(600), 7)
    assert shared.encode_images(table.take(rows)).equal(alone.encode_images(table.take(rows)))
    segments = list(tmp_path.glob("shared/features/*/image/*.safetensors"))
    assert {path.name for path in segments} == {encoded.name for _, encoded in killing.encoded}
    assert len(segments) == 10, "600 images in segments of 64, each stored once"
    stored, _ = shared.stored_images(table)
    assert len(stored) == 599


def test_a_gallery_in_parts_has_the_bits_of_one_process_where_a_worker_is_killed_between_the_rounds(
    engine: RayEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_gallery_in_parts(tmp_path, 2 * GRAIN + 5000, queries=12, width=16)
    benchmark = load(str(root / "queries.csv"), str(root / "gallery"), metrics=("map", "recall@10"))
    backbone = Precomputed([root / "gallery", root / "others.npy"], name="parts", cache_dir=root)
    backbone.encode_texts = Space(16).encode_texts  # type: ignore[method-assign]
    hold = engine.hold
    killed: list[Any] = []

    def hold_and_kill(makes: Sequence[Callable[[], object]]) -> Held:
        held: Any = hold(makes)
        call = held.all

        def all_of(name: str, *arguments: Any) -> list[Any]:
            if name == "scan" and not killed:
                killed.append(held._on[0])
                ray.kill(killed[0].actor)
            answers: list[Any] = call(name, *arguments)
            return answers

        held.all = all_of
        return held

    monkeypatch.setattr(engine, "hold", hold_and_kill)
    found, expected = (
        rank(benchmark, benchmark.tasks[0], Clay(rank=5), backbone, 20, engine=other)[0]
        for other in (engine, LocalEngine())
    )
    assert killed
    for name in ("offsets", "above", "relevant", "irrelevant", "total", "candidates"):
        np.testing.assert_array_equal(getattr(found.ranks, name), getattr(expected.ranks, name))
    np.testing.assert_array_equal(found.top, expected.top)
    np.testing.assert_array_equal(found.top_scores, expected.top_scores)


def test_a_sweep_with_a_killed_worker_leaves_the_records_of_one_process(engine: RayEngine, tmp_path: Path) -> None:
    engine.close()  # the command needs the room
    alone, shared = (shutil.copytree(TOY, tmp_path / name) for name in ("alone", "shared"))
    (alone / "died").touch()
    own = ("benchmark=toy", "backbone=toy", "method=custom", "method._target_=deadly.Deadly", "+method.value=1,2,3,4")
    sweep = ("bench", "--config-dir", ".", "-m", *own)
    assert "8 runs finished, 0 already done" in run_condsim(*sweep, folder=alone)
    shown = run_condsim(*sweep, "engine=ray", "engine.workers=2", folder=shared)
    assert "8 runs finished, 0 already done" in shown
    assert shown.count("Ray: lost a worker on") == 1
    assert shown.count("recall@1") >= 4, "each run has its line"
    assert records(shared) == records(alone)
    assert (shared / "died").exists()
    again = run_condsim(*sweep, "engine=ray", folder=shared)
    assert "0 runs finished, 8 already done" in again
    assert "Ray" not in again, "finished runs start no worker"


def records(folder: Path) -> dict[str, Any]:
    """Run -> all that does not depend on when it was made."""
    found: dict[str, Any] = {}
    for path in folder.glob("results/runs/*/*/*/record.json"):
        record = json.loads(path.read_text())
        for of_this_time in ("seconds", "created", "digest"):
            del record[of_this_time]
        ranks = {file.name: file.read_bytes() for file in path.parent.glob("*.np*")}
        found[str(path.parent.relative_to(folder))] = record, ranks
    assert len(found) == 8
    return found
