"""A folder of drawn pictures, ready to be explored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

COLORS = ("red", "green", "blue", "yellow")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen pictures, red-0.png to yellow-15.png: circles, then squares, in four colours. Read only."""
    folder = tmp_path_factory.mktemp("explore") / "my photos"
    folder.mkdir()
    for i in range(16):
        picture = Image.new("RGB", (64, 64), ("white", "black")[i // 4 % 2])
        pen = ImageDraw.Draw(picture)
        (pen.ellipse if i < 8 else pen.rectangle)((12, 12, 50, 50), COLORS[i % 4])
        picture.save(folder / f"{COLORS[i % 4]}-{i}.png")
    return folder


@pytest.fixture(scope="module")
def photo_cache(photos: Path) -> Iterator[None]:
    """The feature store of ``photos`` beside them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONDSIM_CACHE", str(photos.parent / "cache"))
        yield
