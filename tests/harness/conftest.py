"""What the tests of the harness share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from builders import make_results

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--window-size=1280,900",
)  # fmt: skip


@pytest.fixture(scope="session")
def results_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only: shared by the session."""
    return make_results(tmp_path_factory.mktemp("toy") / "results", pictures=True)


@pytest.fixture
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without their drawings, which take most of the time."""
    monkeypatch.setattr("condsim.harness.results.report.page.chart", lambda *_: "")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium, driven by selenium. Skips where one of them is missing."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="the page tests need selenium (pip install selenium)")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if not (chromium and chromedriver):
        pytest.skip("the page tests need chromium and chromedriver on the PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=chromedriver))
    yield driver
    driver.quit()


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
