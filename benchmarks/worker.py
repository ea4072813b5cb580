"""One job in a process of its own, so that its peak memory is its own: `python worker.py JOB '{"argument": 1}'`.

Prints one line of JSON: ``seconds`` of the job without imports, ``peak`` resident bytes of the whole process with
all of its imports and with mapped file pages, ``anonymous``: the highest seen without pages of files.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread
from typing import Any

from measuring import timed

STATUS = Path("/proc/self/status")


def run(job: str, **arguments: Any) -> dict[str, float]:
    """``job`` in a process of its own. Raises CalledProcessError where it fails."""
    command = [sys.executable, __file__, job, json.dumps(arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def mit_states(queries: int, metrics: list[str], top: int) -> float:
    """Ranking of MIT-States' size by a method that costs next to nothing."""
    import problems
    import torch

    from condsim.harness.ranking.engine import rank_task

    _, items, width = problems.MIT_STATES
    task = problems.mit_states(queries, items, tuple(metrics))
    features, texts = torch.randn(items, width), torch.randn(115, width)
    scorer = problems.Cosine(features)
    return timed(lambda: rank_task(task, scorer, features, texts, top=top))


def search(path: str, queries: int) -> float:
    """The ten best of a gallery in an .npy file for each query: the search itself, of items that have no names."""
    import problems
    import torch

    from condsim.harness.files.memory_map import map_npy
    from condsim.harness.ranking.engine import rank_task
    from condsim.methods.inner_product import ImageOnly

    features = map_npy(Path(path))
    gallery = problems.gallery_of(features)
    task = problems.search(gallery.table.names, queries)
    texts = torch.zeros(0, features.shape[1])
    return timed(lambda: rank_task(task, ImageOnly().prepare(gallery), features, texts, top=10))


def search_named(path: str, queries: int, method: str, in_memory: bool) -> float:
    """The same as `condsim bench` does it with a precomputed backbone: every item has a name, which is in memory."""
    import problems

    from condsim.harness.features.published.backbone import Precomputed
    from condsim.harness.run.run import rank
    from condsim.harness.task import Benchmark
    from condsim.methods.clay import Clay
    from condsim.methods.inner_product import ImageOnly

    chosen = {"image_only": ImageOnly, "clay": Clay}[method]()
    if in_memory:
        chosen.reads_mapped = False
    backbone = Precomputed(path)
    backbone.encode_texts = problems.Held({}, backbone.width).encode_texts  # type: ignore[method-assign]
    task = problems.search(backbone._images.files[0].names, queries, "color" if method == "clay" else "")
    return timed(lambda: rank(Benchmark("search", (task,)), task, chosen, backbone, 10))


def bare_model(model: str, config: str | None, count: int, batch: int) -> float:
    """``count`` pictures through open_clip's model, as it makes it, in batches of tensors that are in memory.

    The better of two passes after one to warm up.
    """
    import open_clip
    import torch

    if config is not None:
        open_clip.add_model_config(Path(config))
    made = open_clip.create_model(model).eval()
    size = made.visual.image_size
    held = torch.randn(min(count, 8 * batch), 3, *((size, size) if isinstance(size, int) else size))

    def work() -> None:
        with torch.inference_mode():
            for start in range(0, count, batch):
                made.encode_image(held[start % len(held) :][:batch])

    return min([timed(work) for _ in range(3)][1:])


def field(name: str) -> int:
    """Bytes of a line of /proc/self/status; 0 where there is none."""
    found = re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(), re.M) if STATUS.exists() else None
    return int(found[1]) * 1024 if found else 0


def main() -> None:
    done, anonymous = Event(), [0]

    def watch() -> None:
        while not done.wait(0.02):
            anonymous[0] = max(anonymous[0], field("RssAnon"))

    watcher = Thread(target=watch)
    watcher.start()
    try:
        jobs = {job.__name__: job for job in (mit_states, search, search_named, bare_model)}
        seconds = jobs[sys.argv[1]](**json.loads(sys.argv[2]))
    finally:
        done.set()
        watcher.join()
    unit = 1 if sys.platform == "darwin" else 1024
    peak = field("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    print(json.dumps({"seconds": seconds, "peak": peak, "anonymous": anonymous[0]}))


if __name__ == "__main__":
    main()
