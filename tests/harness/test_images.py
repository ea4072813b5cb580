"""Pictures as the protocols want them: the crop table is computed by hand from the rule, the padding pixel by pixel."""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from condsim.harness.errors import CondsimError, UnusableRowsError
from condsim.harness.images import (
    ImageNote,
    crop_box,
    crop_by_rule,
    crop_plainly,
    crop_to_square,
    decode,
    pad_to_square,
    picture_of,
    pictures_of,
)
from condsim.harness.task import ImageTable

# (box, (width, height)) -> edges with d = 0.7, worked out on paper.
HAND_TABLE: dict[str, Any] = {
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
    "outside on the right: its dilation reaches into the image": ([100, 10, 30, 30], (100, 100), (79, 0, 100, 51)),
    "outside below: likewise": ([10, 101, 30, 30], (100, 100), (0, 80, 51, 100)),
    "outside on the left: measured from the clamped corner": ([-12, 20, 10, 10], (100, 100), (0, 13, 17, 30)),
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
        ([647, 0, 10, 10], "outside its image of 640 x 480"),
        ([0, 487, 10, 10], "outside its image"),
        ([5, 5, 0, 10], "no area"),
        ([5, 5, 10, -1], "no area"),
        ([5, 5, float("nan"), 1], "not a number"),
        ([5, 5, float("inf"), 1], "not a number"),
    ],
)
def test_boxes_without_a_picture_in_them_are_refused(box: list[float], reason: str) -> None:
    with pytest.raises(CondsimError, match=reason):
        crop_box(box, 640, 480)


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
        assert x - 0.7 * w >= width - 1e-9 or y - 0.7 * h >= height - 1e-9, "nothing of the dilated box is left"
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


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((2, 3, 7, 9), (3, 9), (2, 7)),
        ((0, 0, 12, 10), (0, 10), (0, 12)),
        ((1.4, 2.6, 6.5, 7.5), (3, 8), (1, 6)),  # Pillow rounds halves to even: 6.5 is 6, 7.5 is 8
    ],
)
def test_a_plain_crop_is_that_part_of_the_picture(
    box: tuple[float, ...], rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    picture = numbered(12, 10)
    expected = np.asarray(picture)[slice(*rows), slice(*columns)]
    np.testing.assert_array_equal(np.asarray(crop_plainly(picture, box)), expected)
    table = ImageTable(Path(), ("x",), np.array([box], dtype=np.float64), crop="plain")
    np.testing.assert_array_equal(np.asarray(crop_by_rule(picture, box, table)), expected)
    dilated = crop_by_rule(picture, box, replace(table, crop="genecis", dilation=0.3))
    np.testing.assert_array_equal(np.asarray(dilated), np.asarray(crop_to_square(picture, box, 0.3)))


def test_the_picture_of_a_row_is_cropped_where_the_row_has_a_box(tmp_path: Path) -> None:
    picture = numbered(12, 10)
    picture.save(tmp_path / "x.png")
    boxes = np.array([[2, 3, 7, 9], [np.nan] * 4, [0, 0, 2, 2]])
    table = ImageTable(tmp_path, ("x.png", "x.png", "absent.png"), boxes, crop="plain")
    np.testing.assert_array_equal(np.asarray(picture_of(table, 0)), np.asarray(crop_plainly(picture, boxes[0])))
    np.testing.assert_array_equal(np.asarray(picture_of(table, 1)), np.asarray(picture))
    with pytest.raises(CondsimError, match=r"absent\.png: No such file"):
        picture_of(table, 2)
    pictures = pictures_of(table)
    assert [next(pictures).size for _ in range(2)] == [(5, 6), (12, 10)]
    with pytest.raises(UnusableRowsError, match=r"1 of 3 rows .*\n.*absent\.png: No such file"):
        next(pictures)


def test_a_plain_crop_is_black_outside_the_picture() -> None:
    cropped = np.asarray(crop_plainly(numbered(12, 10), (-1, 8, 3, 12)))
    assert cropped.shape == (4, 4)
    assert (cropped[2:] == 0).all()
    assert (cropped[:, 0] == 0).all()
    assert (cropped[:2, 1:] > 0).all()


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((5, 5, 5.4, 9), "no area"),
        ((5, 5, 4, 9), "no area"),
        ((12, 0, 15, 5), "outside its image of 12 x 10"),
        ((-3, 0, 0, 5), "outside its image"),
        ((0, float("nan"), 5, 5), "not a number"),
    ],
)
def test_plain_crops_without_a_picture_in_them_are_refused(box: tuple[float, ...], reason: str) -> None:
    with pytest.raises(CondsimError, match=reason):
        crop_plainly(numbered(12, 10), box)


def test_decoding_leaves_the_mode_of_the_file() -> None:
    assert decode(file_bytes(Image.new("L", (3, 2))))[0].mode == "L"
    assert decode(file_bytes(Image.new("P", (3, 2))))[0].mode == "P"
    assert decode(file_bytes(Image.new("CMYK", (3, 2)), "JPEG"))[0].mode == "CMYK"


def test_what_does_not_decode_is_refused() -> None:
    whole = file_bytes(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)))
    for broken in (b"", b"no image", whole[: len(whole) // 2], whole[:30]):
        with pytest.raises(CondsimError, match="does not decode"):
            decode(broken)


@given(st.binary(max_size=200), st.integers(0, 199))
def test_decoding_garbage_never_ends_in_anything_else(noise: bytes, at: int) -> None:
    whole = bytearray(file_bytes(numbered(8, 8)))
    whole[at % len(whole) : at % len(whole) + len(noise)] = noise
    with suppress(CondsimError):
        decode(bytes(whole))


def gradient() -> Image.Image:
    """8-bit grey with all 256 values."""
    return Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))


def in_mode(mode: str, kind: str) -> bytes:
    """``gradient`` as a file of 16-bit grey, 32-bit integers or floats."""
    values = np.asarray(gradient())
    if mode == "I;16":
        wide = Image.fromarray(values.astype(np.uint16) * 257)
    elif mode == "I;16B":
        wide = Image.frombytes("I;16B", (16, 16), (values.astype(">u2") * 257).astype(">u2").tobytes())
    elif mode == "I":
        wide = Image.fromarray(values.astype(np.int32))
    else:
        wide = Image.fromarray(values.astype(np.float32) / 255)
    assert wide.mode == mode
    return file_bytes(wide, kind)


@pytest.mark.parametrize(
    ("mode", "kind"), [("I;16", "PNG"), ("I;16", "TIFF"), ("I;16B", "TIFF"), ("I", "TIFF"), ("F", "TIFF")]
)
def test_pictures_of_more_than_8_bits_are_the_same_picture_in_8_bits(mode: str, kind: str) -> None:
    image, notes = decode(in_mode(mode, kind))
    assert image.mode == "L"
    assert np.array_equal(np.asarray(image), np.asarray(gradient()))
    assert notes == ImageNote.SCALED
    assert np.array_equal(
        np.asarray(crop_to_square(image, [2, 3, 5, 5])), np.asarray(crop_to_square(gradient(), [2, 3, 5, 5]))
    )


def test_16_bits_are_rounded_to_the_nearest_of_8() -> None:
    values = np.array([[0, 128, 129, 257, 65535, 65406, 65407]], dtype=np.uint16)
    assert np.asarray(decode(file_bytes(Image.fromarray(values)))[0]).tolist() == [[0, 0, 1, 1, 255, 254, 255]]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (np.array([[0, 4095]], dtype=np.int32), "32-bit integers with values from 0 to 4095"),
        (np.array([[-1, 200]], dtype=np.int32), "from -1 to 200"),
        (np.array([[0.0, 1.5]], dtype=np.float32), "floats with values from 0 to 1.5"),
        (np.array([[0.0, np.nan]], dtype=np.float32), "floats"),
    ],
)
def test_pictures_whose_white_is_not_known_are_refused(values: np.ndarray, shown: str) -> None:
    with pytest.raises(CondsimError, match=shown) as caught:
        decode(file_bytes(Image.fromarray(values), "TIFF"))
    assert "convert it to 8 bits" in str(caught.value)


def test_notes_say_what_the_pixels_do_not_show() -> None:
    plain = Image.new("RGB", (4, 3))
    turned = Image.Exif()
    turned[0x0112] = 6
    upright = Image.Exif()
    upright[0x0112] = 1
    see_through = Image.new("RGBA", (4, 3), (255, 0, 0, 128))
    for image, options, expected in (
        (plain, {}, ImageNote.NONE),
        (plain, {"exif": turned}, ImageNote.ROTATED),
        (plain, {"exif": upright}, ImageNote.NONE),
        (see_through, {}, ImageNote.TRANSPARENT),
        (Image.new("RGBA", (4, 3), (255, 0, 0, 255)), {}, ImageNote.NONE),
        (see_through, {"exif": turned}, ImageNote.TRANSPARENT | ImageNote.ROTATED),
    ):
        buffer = io.BytesIO()
        image.save(buffer, "PNG", **options)
        decoded, notes = decode(buffer.getvalue())
        assert (decoded.size, notes) == ((4, 3), expected)
