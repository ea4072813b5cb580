"""A trial, not a measurement: what is left when a worker, a node of Ray and the command are killed in turn.

    python benchmarks/trial_lost.py

Two nodes of Ray on this machine, with one worker each, encode 600 pictures. All features must be as in one process, bit
for bit, and no picture may be stored twice. It takes some minutes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "user_folder")]

from condsim.harness.configs import make_once  # noqa: E402
from condsim.harness.engine.local import LocalEngine  # noqa: E402
from condsim.harness.engine.ray import RayEngine  # noqa: E402
from condsim.harness.features.open_clip.backbone import OpenClip  # noqa: E402
from condsim.harness.features.segments import encode_in_segments  # noqa: E402
from condsim.harness.task import ImageTable  # noqa: E402

PICTURES, SEGMENT = 600, 64
TABLE = tuple(f"{i}.png" for i in range(PICTURES))


def main() -> None:
    if sys.argv[1:2] == ["encode"]:
        encode(RayEngine(workers=2), Path(sys.argv[2]), sys.argv[3])
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        expected = backbone(folder, "alone").encode_images(ImageTable(folder, TABLE))
        for cache, trial in (("worker", on_two_nodes), ("node", on_two_nodes), ("command", command_killed)):
            started = time.monotonic()
            trial(folder, cache)
            segments = list((folder / cache).glob("features/*/image/*.safetensors"))
            features = backbone(folder, cache).encode_images(ImageTable(folder, TABLE))
            rows = sum(stored(path) for path in segments)
            print(
                f"{cache} killed: {int((features != expected).any(dim=1).sum())} of {PICTURES} rows differ, "
                f"{len(segments)} segments with {rows} rows, {time.monotonic() - started:.0f} s",
                flush=True,
            )


def write(folder: Path) -> None:
    """Pictures of noise, and a model with random weights."""
    from encoders import tiny_clip

    for i, name in enumerate(TABLE):
        noise = np.random.default_rng(i).integers(0, 255, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / name)
    tiny_clip(folder, "tiny-trial")


def settings(folder: Path, cache: str) -> dict[str, Any]:
    return {
        "_target_": "condsim.harness.features.open_clip.backbone.OpenClip",
        "model": "tiny-trial",
        "model_config": str(folder / "tiny-trial.json"),
        "weights": str(folder / "weights.safetensors"),
        "cache_dir": str(folder / cache),
    }


def backbone(folder: Path, cache: str) -> OpenClip:
    made: OpenClip = make_once(settings(folder, cache), "backbone")
    return made


def stored(path: Path) -> int:
    """Pictures in a segment."""
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        return int(file.get_slice("features").get_shape()[0])


def encode(engine: Any, folder: Path, cache: str) -> None:
    make = partial(make_once, settings(folder, cache), "backbone")
    encode_in_segments(engine, make, make(), ImageTable(folder, TABLE), most=SEGMENT)


class After(LocalEngine):
    """Another engine; ``kill`` is called once ``results`` of them are there."""

    def __init__(self, engine: RayEngine, results: int, kill: Callable[[], None]) -> None:
        self.engine, self.results, self.kill, self.workers = engine, results, kill, engine.workers

    def work(self, make: Any, items: Iterable[Any]) -> Iterator[Any]:
        for number, pair in enumerate(self.engine.work(make, items), 1):
            yield pair
            if number == self.results:
                self.kill()


def on_two_nodes(folder: Path, lost: str) -> None:
    from labour import Part
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    engine = RayEngine(cluster.address, workers=2)
    try:
        pids = engine.hold([partial(Part, number, folder) for number in range(2)]).all("pid")

        def kill() -> None:
            if lost == "worker":
                os.kill(pids[0], signal.SIGKILL)
            else:
                cluster.remove_node(nodes[0], allow_graceful=False)

        encode(After(engine, 3, kill), folder, lost)
    finally:
        engine.close()
        cluster.shutdown()


def command_killed(folder: Path, cache: str) -> None:
    """A command of its own that encodes is killed after two segments, and repeated."""
    command = [sys.executable, __file__, "encode", str(folder), cache]
    running = subprocess.Popen(command)
    segments = partial((folder / cache).glob, "features/*/image/*.safetensors")
    while len(list(segments())) < 2 and running.poll() is None:
        time.sleep(0.01)
    running.kill()
    running.wait()
    print(f"the command was killed after {len(list(segments()))} segments")
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
