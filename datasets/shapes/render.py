"""Scenes to pixels: vectorised over the batch, anti-aliased, at any canvas size, and through any crop.

Outlines are signed distance fields, tabulated once per shape and looked up bilinearly, so each of the ten shapes costs
one lookup. The four filled textures are one trigonometric formula with coefficients per texture.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch

from condsim.datasets.shapes.world import SHAPES, Scenes

_RGB = [
    (220, 35, 40), (250, 135, 15), (250, 225, 40), (35, 145, 60), (60, 205, 225),
    (40, 75, 225), (130, 45, 175), (250, 145, 190), (125, 75, 35), (160, 235, 60),
]  # fmt: skip
_GROUND_RGB = [(20, 20, 20), (128, 128, 128), (240, 240, 240), (222, 200, 160), (25, 30, 80)]
# Coefficients (a, b, c, threshold) of a*s1 + b*s1*s2 + c*(s1+s2) - threshold > 0, s1 and s2 the two waves of a texture.
_TEXTURE = [(0, 0, 0, 1.0), (1, 0, 0, 0.0), (0, 0, 1, 0.75), (0, 1, 0, 0.0), (0, 0, 0, 1.0)]
_OUTLINED = 4
_EXTENT = 1.25  # half the side of a distance table, in object radii
_NOISE_SIDE = 512


@dataclass(frozen=True)
class Views:
    """The part of the canvas that each picture shows: a square window, in fractions of the canvas side.

    left, top, side [n]: the window. keep [n, 4]: x0, y0, x1, y1; outside of it the picture is black padding.
    """

    left: np.ndarray
    top: np.ndarray
    side: np.ndarray
    keep: np.ndarray


def whole(n: int) -> Views:
    """The views that show the whole canvas."""
    return Views(np.zeros(n), np.zeros(n), np.ones(n), np.tile([0.0, 0.0, 1.0, 1.0], (n, 1)))


def choose_views(which: np.ndarray, first: Views, second: Views) -> Views:
    """`first` where `which` [n] is true, `second` elsewhere."""
    pairs = ((getattr(first, f), getattr(second, f)) for f in ("left", "top", "side", "keep"))
    return Views(*(np.where(which if a.ndim == 1 else which[:, None], a, b) for a, b in pairs))


def instance_boxes(scenes: Scenes) -> np.ndarray:
    """Boxes [n, 4 objects, (x, y, w, h)] around the objects, in fractions of the canvas side, inside the canvas."""
    x0, y0 = np.maximum(scenes.x - scenes.radius, 0), np.maximum(scenes.y - scenes.radius, 0)
    x1, y1 = np.minimum(scenes.x + scenes.radius, 1), np.minimum(scenes.y + scenes.radius, 1)
    return np.stack([x0, y0, x1 - x0, y1 - y0], axis=-1)


def crop_views(boxes: np.ndarray, dilate: float = 0.7) -> Views:
    """GeneCIS's crop of boxes [n, 4] (x, y, w, h), padded to a square. Right and bottom are computed from the clamped
    left and top.
    """
    x, y, w, h = boxes.T
    left, top = np.maximum(x - dilate * w, 0), np.maximum(y - dilate * h, 0)
    right, bottom = np.minimum(left + (1 + dilate) * w, 1), np.minimum(top + (1 + dilate) * h, 1)
    side = np.maximum(right - left, bottom - top)
    return Views((left + right - side) / 2, (top + bottom - side) / 2, side, np.stack([left, top, right, bottom], -1))


def render(
    scenes: Scenes,
    size: int = 64,
    views: Views | None = None,
    light: float = 0.0,
    grain: float = 1.0,
    chunk: int = 64,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Pictures [n, 3, size, size], uint8, of scenes through views (default: the whole canvas).

    light: largest deviation of a scene's light from white, as a share of each channel. grain: factor of the noise.
    """
    views = views or whole(len(scenes))
    # Small chunks keep the working arrays in the processor's cache: twice as fast.
    step = chunk if torch.device(device).type == "cpu" else len(scenes)
    with torch.no_grad():
        parts = [_render_chunk(scenes, views, slice(i, i + step), size, light, grain, torch.device(device))
                 for i in range(0, len(scenes), step)]  # fmt: skip
    return torch.cat(parts)


def _channels(colors: list[tuple[int, int, int]], device: torch.device) -> torch.Tensor:
    """[len(colors), 3] in [0, 1]; the same bits on every device."""
    return (torch.tensor(colors) / 255.0).to(device)


def _render_chunk(
    scenes: Scenes, views: Views, rows: slice, size: int, light: float, grain: float, device: torch.device
) -> torch.Tensor:
    def tensor(a: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(a[rows], dtype=torch.float32 if a.dtype.kind == "f" else torch.int64, device=device)

    left, top, side = (tensor(a)[:, None] for a in (views.left, views.top, views.side))
    centres = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size
    px, py = left + side * centres, top + side * centres  # [n, size] canvas coordinates of columns and of rows
    pixel = side[:, :, None] / size
    image = _background(tensor(scenes.background), tensor(scenes.pattern), tensor(scenes.ground), px, py)
    for k in range(int(scenes.count[rows].max())):
        which = torch.as_tensor(np.flatnonzero(scenes.count[rows] > k), device=device)
        params = {f: tensor(getattr(scenes, f)[:, k])[which]
                  for f in ("shape", "color", "texture", "x", "y", "radius", "angle", "nuisance")}  # fmt: skip
        alpha, rgb = _object(**params, px=px[which], py=py[which], pixel=pixel[which])
        image[which] = torch.lerp(image[which], rgb, alpha[:, None])
    ground = tensor(scenes.ground)
    if light:
        image *= 1 + light * (2 * _later_digits(ground[:, :3]) - 1)[:, :, None, None]
    image += _noise(ground, size, device) * grain * (0.02 + 0.04 * ground[:, 7])[:, None, None, None]
    keep = tensor(views.keep)
    inside_x = (px >= keep[:, :1]) & (px <= keep[:, 2:3])
    inside_y = (py >= keep[:, 1:2]) & (py <= keep[:, 3:])
    image *= (inside_y[:, None, :, None] & inside_x[:, None, None, :]).float()
    return image.mul_(255).round_().clamp_(0, 255).to(torch.uint8)


def _object(
    shape: torch.Tensor,
    color: torch.Tensor,
    texture: torch.Tensor,
    x: torch.Tensor,
    y: torch.Tensor,
    radius: torch.Tensor,
    angle: torch.Tensor,
    nuisance: torch.Tensor,
    px: torch.Tensor,
    py: torch.Tensor,
    pixel: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Coverage [m, H, W] and colour [m, 3, H, W] of one object per scene."""

    def wide(v: torch.Tensor) -> torch.Tensor:
        return v[:, None, None]

    cos, sin = torch.cos(angle) / radius, torch.sin(angle) / radius
    dx, dy = (px - x[:, None])[:, None, :], (py - y[:, None])[:, :, None]
    u, v = wide(cos) * dx + wide(sin) * dy, wide(cos) * dy - wide(sin) * dx  # object coordinates, radius 1
    tables = _distance_tables().to(px.device)[shape][:, None]
    grid = torch.stack([u, v], dim=-1) / _EXTENT
    distance = torch.nn.functional.grid_sample(tables, grid, padding_mode="border", align_corners=True)[:, 0]
    sharp = wide(radius) / pixel  # object radii to output pixels
    alpha = (0.5 - distance * sharp).clamp_(0, 1)
    stroke = (0.5 - (distance + wide(0.2 + 0.06 * nuisance[:, 6])) * sharp).clamp_(0, 1)
    # `stroke` covers the inside of an outlined object: everything deeper than the width of the line.
    alpha = torch.where(wide(texture == _OUTLINED), alpha - stroke, alpha)

    a, b, c, threshold = torch.tensor(_TEXTURE, device=px.device)[texture].T
    frequency = 7.5 + 2.5 * nuisance[:, 0]  # radians per radius: 2.4 to 3.2 periods across an object
    turn = (nuisance[:, 1] - 0.5) * 2.0
    tc, ts = wide(torch.cos(turn) * frequency), wide(torch.sin(turn) * frequency)
    wave1 = torch.sin(tc * u + ts * v + wide(6.2832 * nuisance[:, 2]))
    wave2 = torch.sin(tc * v - ts * u + wide(6.2832 * nuisance[:, 3]))
    mark = wide(a + c) * wave1 + wide(b) * wave1 * wave2 + wide(c) * wave2 - wide(threshold)
    mark = (mark * wide(sharp[:, 0, 0] / frequency) + 0.5).clamp_(0, 1)

    base = _channels(_RGB, px.device)[color] * (0.9 + 0.2 * nuisance[:, 4:5]) + 0.06 * (nuisance[:, 5:8] - 0.5)
    dark = nuisance[:, 5:6] < 0.5
    second = torch.where(dark, 0.3 * base, 0.25 * base + 0.75)
    rgb = base[:, :, None, None] + mark[:, None] * (second - base)[:, :, None, None]
    return alpha, rgb


def _background(
    color: torch.Tensor, pattern: torch.Tensor, ground: torch.Tensor, px: torch.Tensor, py: torch.Tensor
) -> torch.Tensor:
    """Background [n, 3, H, W]: plain, gridded, speckled or wavy; the marks are a shade of its own colour."""
    base = _channels(_GROUND_RGB, px.device)[color] + 0.06 * (ground[:, :3] - 0.5)
    frequency = 45 + 20 * ground[:, 3:4]
    ax, ay = px * frequency + 6.2832 * ground[:, 4:5], py * frequency + 6.2832 * ground[:, 5:6]
    sx, sy = torch.sin(ax), torch.sin(ay)
    lines = torch.maximum(sx[:, None, :].expand(-1, py.shape[1], -1), sy[:, :, None]) > 0.86
    specks = (sx[:, None, :] + sy[:, :, None]) > 1.45
    waves = torch.sin(0.8 * ay[:, :, None] + 1.6 * torch.sin(0.35 * ax)[:, None, :]) > 0.55
    kind = pattern[:, None, None]
    mark = ((kind == 1) & lines) | ((kind == 2) & specks) | ((kind == 3) & waves)
    # Light backgrounds get darker marks, dark ones lighter marks.
    shade = torch.where(base.mean(1) > 0.4, -0.2, 0.2)[:, None, None, None]
    return base[:, :, None, None] + shade * mark[:, None].float()


def _later_digits(numbers: torch.Tensor) -> torch.Tensor:
    """New random numbers in [0, 1) from the later digits of others."""
    return numbers * 9973 % 1


def _noise(ground: torch.Tensor, size: int, device: torch.device) -> torch.Tensor:
    """Noise [n, 1, size, size] of unit deviation: windows of one fixed field, at an offset given by the scene."""
    field = _noise_field(size).to(device)
    offset = (_later_digits(ground[:, 3:5]) * (_NOISE_SIDE - 1)).long()
    steps = torch.arange(size, device=device)
    rows, columns = offset[:, :1] + steps, offset[:, 1:] + steps
    return field[rows[:, :, None], columns[:, None, :]][:, None]


@functools.cache
def _noise_field(size: int) -> torch.Tensor:
    side = _NOISE_SIDE + size
    return torch.from_numpy(np.random.default_rng(0).standard_normal((side, side), dtype=np.float32))


@functools.cache
def _distance_tables(side: int = 129) -> torch.Tensor:
    """Signed distances [10 shapes, side, side] over [-EXTENT, EXTENT]^2, in object radii, negative inside."""
    axis = np.linspace(-_EXTENT, _EXTENT, side)
    x, y = np.meshgrid(axis, axis)
    rho = np.hypot(x, y)

    def polygon(corners: np.ndarray) -> np.ndarray:
        """Exact signed distance to a closed polygon [m, 2]."""
        best, inside = np.full(x.shape, np.inf), np.zeros(x.shape, dtype=bool)
        for p, q in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            e, wx, wy = q - p, x - p[0], y - p[1]
            t = np.clip((wx * e[0] + wy * e[1]) / (e @ e), 0, 1)
            best = np.minimum(best, np.hypot(wx - t * e[0], wy - t * e[1]))
            straddles = (p[1] > y) != (q[1] > y)
            inside ^= straddles & (x < p[0] + (y - p[1]) * e[0] / (e[1] if e[1] else 1.0))
        return np.where(inside, -best, best)

    def regular(n: int, radii: tuple[float, ...] = (1.0,), turn: float = 0.0) -> np.ndarray:
        m = n * len(radii)
        phi = 2 * np.pi * np.arange(m) / m - np.pi / 2 + turn
        r = np.tile(radii, n)
        return polygon(np.stack([r * np.cos(phi), r * np.sin(phi)], axis=1))

    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    heart = np.stack([16 * np.sin(t) ** 3, 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)], 1)
    heart = np.stack([heart[:, 0], -heart[:, 1] - 2.5], axis=1) / 17.0
    arm = np.array([(0.34, 1), (0.34, 0.34), (1, 0.34), (1, -0.34), (0.34, -0.34), (0.34, -1)])
    cross = np.concatenate([arm, -arm])
    by_shape = {
        "circle": rho - 0.92,
        "square": regular(4, turn=np.pi / 4),
        "triangle": regular(3),
        "star": regular(5, (1.0, 0.45)),
        "pentagon": regular(5),
        "hexagon": regular(6),
        "cross": polygon(cross),
        "heart": polygon(heart),
        "ring": np.abs(rho - 0.7) - 0.28,
        "crescent": np.maximum(rho - 0.95, 0.75 - np.hypot(x - 0.5, y)),
    }
    return torch.from_numpy(np.stack([by_shape[s] for s in SHAPES]).astype(np.float32))
