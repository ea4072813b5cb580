"""Encoding in segments: the same features as in one process, each stored once, whatever is lost on the way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from condsim.harness.engine.engine import Item, Lost, Result
from condsim.harness.engine.local import LocalEngine
from condsim.harness.errors import CondsimError, UnusableRowsError
from condsim.harness.features.open_clip import backbone as backbone_module
from condsim.harness.features.open_clip.backbone import OpenClip
from condsim.harness.features.open_clip.model import ClipModel
from condsim.harness.features.segments import SegmentImages, StoresImages, encode_in_segments, segment_size
from condsim.harness.task import ImageTable

COUNT, SIZE = 300, 64


class Linear(torch.nn.Linear):
    """A model of one matrix product, whose last bits depend on the rows of a batch as those of a large one do."""

    def encode_image(self, images: Tensor) -> Tensor:
        return self(images.flatten(1))


class LinearClip(ClipModel):
    def transform(self, kind: str) -> Any:
        return SimpleNamespace(pixels=np.asarray, normalise=Tensor.float)


@pytest.fixture(autouse=True)
def no_open_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """``Linear`` in place of a model of open_clip, whose import takes longer than all tests of this file."""
    torch.manual_seed(0)
    model = LinearClip(Linear(1200, 12), torch.tensor, None, (20, 20), torch.device("cpu"))
    monkeypatch.setattr(backbone_module, "load_model", lambda *_: model)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 pictures of noise, an architecture and two files of weights. Read only."""
    folder = tmp_path_factory.mktemp("segments")
    for i in range(COUNT):
        noise = np.random.default_rng(i).integers(0, 255, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png", compress_level=0)
    architecture = {"embed_dim": 12, "vision_cfg": {"image_size": 20}, "text_cfg": {}}
    (folder / "tiny-segments.json").write_text(json.dumps(architecture))
    for i, name in enumerate(("weights", "other")):
        save_file({"weights": torch.tensor([i])}, folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def table(pictures: Path) -> ImageTable:
    return ImageTable(pictures, tuple(f"{i}.png" for i in range(COUNT)))


def backbone(pictures: Path, cache: Path, weights: str = "weights.safetensors") -> OpenClip:
    config = str(pictures / "tiny-segments.json")
    return OpenClip("tiny-segments", model_config=config, weights=str(pictures / weights), cache_dir=cache, workers=1)


class Faulty(LocalEngine):
    """An engine that loses the segment ``lost``, and is interrupted after ``most`` segments."""

    def __init__(self, lost: int = -1, most: int = COUNT) -> None:
        self.lost, self.most, self.done = lost, most, 0

    def work(
        self, make: Callable[[], Callable[[Item], Result]], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result | Lost]]:
        do = make()
        for number, item in enumerate(items):
            if number == self.most:
                raise KeyboardInterrupt
            self.done += 1
            yield item, Lost("its process ended unexpectedly") if number == self.lost else do(item)


def encode(engine: LocalEngine, pictures: Path, cache: Path, table: ImageTable) -> int:
    make = partial(backbone, pictures, cache)
    return encode_in_segments(engine, make, make(), table, most=SIZE)


def segments(cache: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in cache.glob("features/*/image/*.safetensors")}


def test_segments_have_the_bits_of_one_process_and_are_stored_once(
    pictures: Path, table: ImageTable, tmp_path: Path
) -> None:
    assert encode(LocalEngine(), pictures, tmp_path / "segments", table) == COUNT
    one = backbone(pictures, tmp_path / "one").encode_images(table)
    assert backbone(pictures, tmp_path / "segments").encode_images(table).equal(one)
    before = segments(tmp_path / "segments")
    assert len(before) == 5
    assert encode(Faulty(most=0), pictures, tmp_path / "segments", table) == 0, "nothing is missing"
    assert segments(tmp_path / "segments") == before


def test_after_an_interrupt_only_the_missing_segments_are_encoded(
    pictures: Path, table: ImageTable, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        encode(Faulty(most=2), pictures, tmp_path, table)
    before = segments(tmp_path)
    assert encode(again := Faulty(), pictures, tmp_path, table) == COUNT - 2 * SIZE
    assert again.done == 3
    assert before.items() <= segments(tmp_path).items(), "what was stored is not written again"


def test_a_segment_that_is_done_twice_is_one_file(pictures: Path, table: ImageTable, tmp_path: Path) -> None:
    class Twice(LocalEngine):
        def work(
            self, make: Callable[[], Callable[[Item], Result]], items: Iterable[Item]
        ) -> Iterator[tuple[Item, Result | Lost]]:
            for item in items:
                for _ in range(2):  # as if the first worker had died before it could answer
                    result = make()(item)
                    times.append(segments(tmp_path))
                yield item, result

    times: list[dict[str, int]] = []
    encode(Twice(), pictures, tmp_path, table)
    assert times[0] == times[1], "the second worker finds the file, and writes nothing"
    assert len(segments(tmp_path)) == 5


def test_images_of_lost_segments_are_named_and_the_others_are_stored(
    pictures: Path, table: ImageTable, tmp_path: Path
) -> None:
    with pytest.raises(UnusableRowsError, match=r"64 of 300 rows.*\n  row 64, .*workers that encoded it died") as lost:
        encode(Faulty(lost=1), pictures, tmp_path, table)
    assert not lost.value.skippable, "a run must not leave them out"
    assert sorted(lost.value.faults) == list(range(64, 128))
    assert encode(LocalEngine(), pictures, tmp_path, table) == SIZE


def test_a_file_that_a_worker_does_not_see_is_named(pictures: Path, tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(20)]
    for name in names:
        (tmp_path / name).write_bytes((pictures / name).read_bytes())

    class Unshared(LocalEngine):
        def work(
            self, make: Callable[[], Callable[[Item], Result]], items: Iterable[Item]
        ) -> Iterator[tuple[Item, Result | Lost]]:
            (tmp_path / "3.png").unlink()
            (tmp_path / "4.png").write_bytes(b"changed")
            return super().work(make, items)

    with pytest.raises(UnusableRowsError, match="2 of 20 rows") as error:
        encode(Unshared(), pictures, tmp_path / "cache", ImageTable(tmp_path, tuple(names)))
    assert error.value.faults == {3: "there is no such file", 4: "the file changed while it was being encoded"}


def test_workers_with_other_weights_are_refused(pictures: Path, table: ImageTable, tmp_path: Path) -> None:
    make: Callable[[], StoresImages] = partial(backbone, pictures, tmp_path, "other.safetensors")
    with pytest.raises(CondsimError, match="give all machines the same weights"):
        encode_in_segments(LocalEngine(), make, backbone(pictures, tmp_path), table)


@pytest.mark.parametrize(
    ("missing", "workers", "rows_at_once", "expected"),
    [(600, 2, 64, 128), (1_000_000, 8, 64, 4096), (10, 4, 64, 64), (1_000_000, 8, 100, 4000), (9000, 1, 5000, 5000)],
)
def test_segments_are_multiples_of_the_models_batch_and_several_per_worker(
    missing: int, workers: int, rows_at_once: int, expected: int
) -> None:
    assert segment_size(missing, workers, rows_at_once) == expected


def test_a_segment_names_only_its_own_files(pictures: Path, tmp_path: Path) -> None:
    files = {f"{i}.jpg": f"{i}.png" for i in range(100)}
    segments: list[SegmentImages] = []

    class Seen(LocalEngine):
        def work(
            self, make: Callable[[], Callable[[Item], Result]], items: Iterable[Item]
        ) -> Iterator[tuple[Item, Result | Lost]]:
            for item, result in super().work(make, items):
                assert isinstance(item, SegmentImages)
                segments.append(item)
                yield item, result

    encode(Seen(), pictures, tmp_path, ImageTable(pictures, tuple(files), files=files))
    assert [len(segment.table.files) for segment in segments] == [64, 36]
