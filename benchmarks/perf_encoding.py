"""Images per second through the feature store (digest, read, decode, transform, model, write) against the bare model.

The bare model is open_clip's, as it makes it, on tensors that are in memory and normalised already, in the same batches
(on a processor in a process of its own, without condsim); on a processor a second time as the backbone
runs it: channels last in memory, a piece of the batch per core. Weights are random; the
pictures are like the embedded benchmark's (64 x 64 PNG) and like COCO's (500 x 375 JPEG).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import worker
from measuring import SCALE, Row, cost, gain, in_turn, scaled, timed
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from condsim.harness.features.cache.request import Encoded
from condsim.harness.features.cache.store import FeatureStore
from condsim.harness.features.open_clip.backbone import OpenClip
from condsim.harness.features.open_clip.batches import InPieces
from condsim.harness.features.open_clip.model import load_model
from condsim.harness.files.hashing import RACY_NS
from condsim.harness.files.paths import resolve
from condsim.harness.images import picture_of
from condsim.harness.task import ImageTable

SHAPES = "pkg://condsim.datasets.shapes.backbone/shapes-clip.json"
AIM = 0.95
USUAL = "the bare model on tensors in memory"
REPEATS = 5 if SCALE == 1 else 1
GENECIS = scaled(34_083)
"""Distinct pictures of GeneCIS's four tasks."""


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = draw(folder / "png", scaled(1024, 128), (64, 64), "png")
        large = draw(folder / "jpg", scaled(256, 64), (500, 375), "jpg")
        return [
            stored(folder),
            *compare(folder, "shapes-clip", resolve(SHAPES), small, "cpu", "fp32"),
            *compare(folder, "ViT-B-32", None, large, "cpu", "fp32"),
        ]


def stored(folder: Path) -> Row:
    """Seconds of a new process to read features that are all stored, against reading the bare matrix."""
    (folder / "files").mkdir()
    names = tuple(f"{i:05d}.bin" for i in range(GENECIS))
    for name in names:
        (folder / "files" / name).write_text(name)
    time.sleep(2 * RACY_NS / 1e9)
    table = ImageTable(folder / "files", names, np.random.default_rng(0).random((GENECIS, 4)) + 1)
    features = np.random.default_rng(0).normal(size=(GENECIS, 512)).astype(np.float32)
    np.save(folder / "features.npy", features)

    def encode(rows: NDArray[np.int64]) -> Generator[Encoded, None, None]:
        for part in np.array_split(rows, -(-len(rows) // 512)):
            yield Encoded(part, features[part])

    def fetch() -> None:
        store = FeatureStore(folder / "stored")
        keys = store.image_keys(table).keys
        store.table({"model": "any"}, "image", 512).fetch(keys, encode, str)

    fetch()
    times = in_turn(fetch, lambda: np.load(folder / "features.npy"))
    what = f"{GENECIS:,} stored features of crops, 512 wide: files, keys and checksums checked"
    return cost(what, "np.load of the matrix", *times)


def compare(
    folder: Path, model_name: str, config: Path | None, table: ImageTable, device: str, precision: str
) -> list[Row]:
    """One model at one precision on one device."""
    weights = folder / f"{model_name}.safetensors"
    if not weights.exists():
        save_file(random_state(model_name, config), weights)

    def make(cache: Path) -> OpenClip:
        return OpenClip(
            model_name, model_config=config, weights=weights, quick_gelu=False, device=device, precision=precision,
            cache_dir=cache,
        )  # fmt: skip

    backbone = make(folder / "warm")
    clip, size = backbone.loaded, backbone.batch_size
    transform = clip.transform("stock")
    held = min(len(table), 8 * size if device == "cpu" else 2 * size)
    pixels = torch.from_numpy(np.stack([transform.pixels(picture_of(table, row)) for row in range(held)]))
    normalised = transform.normalise(pixels.to(clip.device))
    starts = [start % held for start in range(0, len(table), size)]
    dtype = {"fp32": None, "bf16": torch.bfloat16}[precision]
    repeats = REPEATS if device == "cpu" else min(3, REPEATS)
    fresh = [make(folder / f"{model_name}-{precision}-{repeat}") for repeat in range(repeats)]
    for other in fresh:
        assert other.identity  # digests the weights file, once a cache and not once an encoding

    def run(model: Any, batch: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(), torch.autocast(device, dtype, enabled=dtype is not None):
            return model.encode_image(batch)  # type: ignore[no-any-return]

    def bare_on_gpu() -> float:
        def whole() -> None:
            for start in starts:
                run(stock, tensors[start : start + size])
            torch.cuda.synchronize()

        return timed(whole)

    def reading() -> float:
        def load(row: int) -> None:
            transform.pixels(picture_of(table, row))

        def whole() -> None:
            with ThreadPoolExecutor(backbone.workers) as pool:
                list(pool.map(load, range(len(table))))

        return timed(whole)

    def bare() -> float:
        arguments = {"model": model_name, "config": config and str(config), "count": len(table), "batch": size}
        return worker.run("bare_model", **arguments)["seconds"]

    def bare_as_ours() -> float:
        def whole() -> None:
            with InPieces(-(-size // torch.get_num_threads()), torch.get_num_threads()) as pieces:
                for start in starts:
                    pieces(lambda batch: run(clip.model, batch), normalised[start : start + size])

        return timed(whole)

    make(folder / f"warm-{model_name}-{precision}").encode_images(table.take(np.arange(8)))
    baselines = {
        USUAL: bare,
        f"{USUAL}, as the backbone runs it: channels last, one piece of the batch per core": bare_as_ours,
    }
    if device == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # as the backbone has it: both sides do the same arithmetic
        stock = make_model(model_name, config).to(clip.device)
        tensors = normalised.contiguous()
        baselines = {USUAL: bare_on_gpu, f"reading, decoding and resizing alone, {backbone.workers} threads": reading}
        bare_on_gpu()
    ours: list[float] = []
    theirs: list[list[float]] = [[] for _ in baselines]
    for encode in fresh:
        ours.append(timed(lambda encode=encode: encode.encode_images(table)))
        for times, baseline in zip(theirs, baselines.values(), strict=True):
            times.append(baseline())
    where = torch.cuda.get_device_name() if device == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    what = f"{model_name} {precision} through the feature store, {where}: {len(table) / np.median(ours):,.0f} images/s"
    against = [
        f"{name}: {len(table) / np.median(base):,.0f} images/s" for name, base in zip(baselines, theirs, strict=True)
    ]
    if device == "cuda":  # reading and the model run at the same time, so the slower of the two is the limit
        against.append("the slower of the two")
        theirs.append([max(times) for times in zip(*theirs, strict=True)])
    aimed = len(theirs) - 1 if device == "cuda" else 0
    return [
        gain(what, name, ours, base, AIM if i == aimed else None)
        for i, (name, base) in enumerate(zip(against, theirs, strict=True))
    ]


def make_model(model: str, config: Path | None) -> torch.nn.Module:
    """The model as open_clip makes it, with random weights."""
    import open_clip

    if config is not None:
        open_clip.add_model_config(config)
    torch.manual_seed(0)
    made: torch.nn.Module = open_clip.create_model(model).eval()
    return made


def random_state(model: str, config: Path | None) -> dict[str, torch.Tensor]:
    load_model.cache_clear()
    return {name: value.contiguous() for name, value in make_model(model, config).state_dict().items()}


def draw(folder: Path, count: int, size: tuple[int, int], suffix: str) -> ImageTable:
    """Pictures of some shapes on noise, all different."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    names = tuple(f"{i:05d}.{suffix}" for i in range(count))
    noise = rng.integers(0, 24, (size[1], size[0], 3), dtype=np.uint8)
    for name in names:
        if (folder / name).exists():
            continue
        picture = Image.fromarray(noise + rng.integers(0, 200, 3, dtype=np.uint8))
        pen = ImageDraw.Draw(picture)
        for _ in range(4):
            x, y = rng.random(2) * size * np.array([0.7, 0.7])
            w, h = rng.random(2) * size * np.array([0.5, 0.5])
            pen.ellipse((x, y, x + w + 2, y + h + 2), tuple(map(int, rng.integers(0, 256, 3))))
        picture.save(folder / name)
    time.sleep(2 * RACY_NS / 1e9)
    return ImageTable(folder, names)
