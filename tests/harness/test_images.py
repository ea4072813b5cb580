"""Pictures as the protocols want them: the crop table is computed by hand from the rule, the padding pixel by pixel."""

from __future__ import annotations

import io
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from condsim.harness.errors import CondsimError
from condsim.harness.images import crop_box, crop_to_square, decode, pad_to_square

# (box, (width, height)) -> edges with d = 0.7, worked out on paper.
HAND_TABLE = {
    "inside on every side: grows to the left and top only": ([100, 80, 40, 20], (640, 480), (72, 66, 140, 100)),
    "clamped left: the right edge follows the clamped one": ([10, 80, 40, 20], (640, 480), (0, 66, 68, 100)),
    "clamped top": ([100, 7, 40, 20], (640, 480), (72, 0, 140, 34)),
    "reaches the right edge exactly": ([600, 80, 40, 20], (640, 480), (572, 66, 640, 100)),
    "clamped right: the box sticks out of the image": ([620, 80, 40, 20], (640, 480), (592, 66, 640, 100)),
    "clamped on both sides: larger than the image": ([5, 3, 700, 500], (640, 480), (0, 0, 640, 480)),
    "clamped left, and the dilated width reaches the right": ([20, 10, 100, 50], (150, 60), (0, 0, 150, 60)),
    "negative corner": ([-6, -4, 40, 20], (640, 480), (0, 0, 68, 34)),
    "tiny": ([300, 200, 2, 3], (640, 480), (298.6, 197.9, 302, 203)),
    "floats": ([10.5, 20.25, 10.0, 10.0], (640, 480), (3.5, 13.25, 20.5, 30.25)),
    "the whole image": ([0, 0, 640, 480], (640, 480), (0, 0, 640, 480)),
}


@pytest.mark.parametrize("case", HAND_TABLE)
def test_crop_boxes_equal_the_table_by_hand(case: str) -> None:
    box, size, expected = HAND_TABLE[case]
    assert crop_box(box, *size) == pytest.approx(expected, abs=1e-9)


def test_dilation_is_a_parameter() -> None:
    assert crop_box([100, 80, 40, 20], 640, 480, dilation=0.0) == (100, 80, 140, 100)
    assert crop_box([100, 80, 40, 20], 640, 480, dilation=1.0) == (60, 60, 140, 100)


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ([640, 0, 10, 10], "wholly outside"),
        ([0, 480, 10, 10], "wholly outside"),
        ([-10, 5, 10, 10], "wholly outside"),
        ([5, -12, 10, 11], "wholly outside"),
        ([5, 5, 0, 10], "no area"),
        ([5, 5, 10, -1], "no area"),
        ([5, 5, float("nan"), 1], "not a number"),
        ([5, 5, float("inf"), 1], "not a number"),
    ],
)
def test_boxes_without_a_picture_in_them_are_refused(box: list[float], reason: str) -> None:
    with pytest.raises(CondsimError, match=reason):
        crop_box(box, 640, 480)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.floats(-50, 150), st.floats(-50, 150), st.floats(0.01, 300), st.floats(0.01, 300)),
    st.integers(1, 120),
    st.integers(1, 120),
)
def test_crops_lie_inside_the_image_and_are_never_larger_than_dilated(
    box: tuple[float, ...], width: int, height: int
) -> None:
    try:
        left, top, right, bottom = crop_box(box, width, height)
    except CondsimError:
        x, y, w, h = box
        assert x >= width or y >= height or x + w <= 0 or y + h <= 0
        return
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert right - left <= 1.7 * box[2] + 1e-9
    assert bottom - top <= 1.7 * box[3] + 1e-9


def numbered(width: int, height: int) -> Image.Image:
    """A grey picture whose pixels are 1, 2, 3, ..."""
    return Image.fromarray(np.arange(1, width * height + 1, dtype=np.uint8).reshape(height, width))


def test_padding_is_centred_with_the_odd_pixel_after() -> None:
    wide = np.asarray(pad_to_square(numbered(4, 1)))
    assert wide.tolist() == [[0] * 4, [1, 2, 3, 4], [0] * 4, [0] * 4]
    tall = np.asarray(pad_to_square(numbered(1, 3)))
    assert tall.tolist() == [[0, 1, 0], [0, 2, 0], [0, 3, 0]]
    square = numbered(2, 2)
    assert pad_to_square(square) is square


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "1", "P", "LA"])
def test_padding_is_black_in_every_mode_and_the_picture_stays_as_it_is(mode: str) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (3, 6, 3), dtype=np.uint8)).convert(mode)
    square = np.asarray(pad_to_square(image).convert("RGB"))
    assert square.shape == (6, 6, 3)
    assert (square[1:4] == np.asarray(image.convert("RGB"))).all()
    assert (square[[0, 4, 5]] == 0).all()


def test_the_picture_keeps_its_mode_until_the_transform() -> None:
    assert crop_to_square(numbered(20, 10), [2, 3, 5, 4]).mode == "L"
    assert crop_to_square(Image.new("CMYK", (20, 10)), [2, 3, 5, 4]).mode == "CMYK"


def test_crop_then_pad_by_hand() -> None:
    # x: left = max(0, 2 - 2.1) = 0, right = 5.1 -> 5; y: top = 3 - 0.7 = 2.3 -> 2, bottom = 2.3 + 1.7 = 4.
    square = np.asarray(crop_to_square(numbered(10, 8), [2, 3, 3, 1]))
    assert square.tolist() == [[0] * 5, [21, 22, 23, 24, 25], [31, 32, 33, 34, 35], [0] * 5, [0] * 5]


def test_a_crop_of_less_than_a_pixel_is_refused() -> None:
    with pytest.raises(CondsimError, match="less than a pixel"):
        crop_to_square(numbered(10, 8), [2.1, 3, 0.1, 1])


def file_bytes(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def test_decoding_leaves_the_mode_of_the_file() -> None:
    assert decode(file_bytes(Image.new("L", (3, 2)))).mode == "L"
    assert decode(file_bytes(Image.new("P", (3, 2)))).mode == "P"
    assert decode(file_bytes(Image.new("CMYK", (3, 2)), "JPEG")).mode == "CMYK"


def test_what_does_not_decode_is_refused() -> None:
    whole = file_bytes(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)))
    for broken in (b"", b"no image", whole[: len(whole) // 2], whole[:30]):
        with pytest.raises(CondsimError, match="does not decode"):
            decode(broken)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 199))
def test_decoding_garbage_never_ends_in_anything_else(noise: bytes, at: int) -> None:
    whole = bytearray(file_bytes(numbered(8, 8)))
    whole[at % len(whole) : at % len(whole) + len(noise)] = noise
    with suppress(CondsimError):
        decode(bytes(whole))
