"""The two halves of a transform together are open_clip's own, to the last bit; TargetPad is CLIP4Cir's by hand."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from condsim.harness.errors import CondsimError
from condsim.harness.features.open_clip.transforms import make_transform, target_pad

pytestmark = pytest.mark.slow

CONFIGS = {
    "CLIP": PreprocessCfg(size=32),
    "not square": PreprocessCfg(size=(24, 32)),
    "SigLIP": PreprocessCfg(size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), resize_mode="squash"),
    "longest": PreprocessCfg(size=32, resize_mode="longest"),
    "bilinear": PreprocessCfg(size=32, interpolation="bilinear"),
}


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(width * height).integers(0, 256, (height, width, 4), dtype=np.uint8)
    return Image.fromarray(pixels, "RGBA").convert(mode)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK"])
def test_the_stock_transform_is_open_clips_own(config: str, mode: str) -> None:
    stock = image_transform_v2(CONFIGS[config], is_train=False)
    transform = make_transform(stock, "stock")
    images = [picture(w, h, mode) for w, h in ((32, 32), (50, 37), (37, 50), (9, 80))]
    ours = transform.normalise(torch.from_numpy(np.stack([transform.pixels(image) for image in images])))
    theirs = torch.stack([stock(image) for image in images])
    assert ours.shape == theirs.shape
    assert ours.dtype == torch.float32
    assert torch.equal(ours, theirs)


def test_targetpad_comes_before_the_stock_transform() -> None:
    stock = image_transform_v2(CONFIGS["CLIP"], is_train=False)
    ours = make_transform(stock, "targetpad")
    for size in ((100, 20), (20, 100), (40, 40)):
        image = picture(*size)
        pixels = torch.tensor(ours.pixels(image))[None]
        assert torch.equal(ours.normalise(pixels)[0], stock(target_pad(image)))
    assert (ours.pixels(picture(100, 20)) != make_transform(stock, "stock").pixels(picture(100, 20))).any()


@pytest.mark.parametrize(
    ("size", "padded"),
    [
        ((100, 40), (100, 80)),  # 100 / 1.25 = 80: 20 above, 20 below
        ((40, 100), (80, 100)),
        ((100, 80), (100, 80)),  # exactly 1.25: nothing is missing
        ((100, 81), (100, 81)),  # below the ratio
        ((100, 41), (100, 79)),  # (80 - 41) / 2 = 19.5: 19 on each side
        ((7, 2), (7, 4)),  # 5.6 wanted: (5.6 - 2) / 2 = 1.8: 1 on each side
    ],
)
def test_target_pad_by_hand(size: tuple[int, int], padded: tuple[int, int]) -> None:
    image = picture(*size)
    result = target_pad(image)
    assert result.size == padded
    left, top = (padded[0] - size[0]) // 2, (padded[1] - size[1]) // 2
    inner = np.asarray(result)[top : top + size[1], left : left + size[0]]
    assert (inner == np.asarray(image)).all()
    assert np.asarray(result, dtype=np.int64).sum() == np.asarray(image, dtype=np.int64).sum(), "the padding is black"


@settings(max_examples=60)
@given(st.integers(1, 300), st.integers(1, 300))
def test_target_pad_never_shrinks_and_leaves_the_longer_side(width: int, height: int) -> None:
    padded = target_pad(Image.new("L", (width, height)))
    longer, shorter = max(width, height), min(width, height)
    assert max(padded.size) == longer
    assert min(padded.size) >= shorter
    assert min(padded.size) > longer / 1.25 - 2, "each side may miss less than a pixel"


def test_an_unknown_transform_is_named() -> None:
    with pytest.raises(CondsimError, match="'targetpad'"):
        make_transform(image_transform_v2(CONFIGS["CLIP"], is_train=False), "target_pad")


def test_a_transform_of_another_shape_is_refused_rather_than_cut_wrongly() -> None:
    train = image_transform_v2(PreprocessCfg(size=32), is_train=False)
    train.transforms.pop()
    with pytest.raises(CondsimError, match=r"open_clip"):
        make_transform(train, "stock")


def test_every_built_in_model_has_a_transform_that_is_understood() -> None:
    configs = [open_clip.get_pretrained_cfg(model, tag) for model, tag in open_clip.list_pretrained()]
    for interpolation, resize_mode in {(config.get("interpolation"), config.get("resize_mode")) for config in configs}:
        config = PreprocessCfg(size=32, interpolation=interpolation or "bicubic", resize_mode=resize_mode or "shortest")
        stock = image_transform_v2(config, is_train=False)
        assert make_transform(stock, "stock").pixels(picture(40, 30)).shape == (32, 32, 3)
