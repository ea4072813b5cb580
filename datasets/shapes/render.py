"""Scenes to pixels: vectorised over the batch, anti-aliased, at any canvas size, and through any crop.

Outlines are signed distance fields, tabulated once per shape and looked up bilinearly, so each of the ten shapes costs
one lookup. The four filled textures are one trigonometric formula with coefficients per texture.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

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
_REACH = 1.08  # no outline is farther from the centre, in object radii: the corners of the cross are at 1.06
_OF_OBJECTS = ("shape", "color", "texture", "x", "y", "radius", "angle", "nuisance")
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
    views, on = views or whole(len(scenes)), torch.device(device)
    arrays = {part.name: getattr(of, part.name) for of in (scenes, views) for part in fields(of)}
    values = {
        name: torch.as_tensor(a, dtype=torch.float32 if a.dtype.kind == "f" else torch.int64, device=on)
        for name, a in arrays.items()
    }
    # Small chunks keep the working arrays in the processor's cache: twice as fast.
    step = chunk if on.type == "cpu" else len(scenes)
    with torch.no_grad():
        parts = [
            _render_chunk({name: value[i : i + step] for name, value in values.items()}, size, light, grain)
            for i in range(0, len(scenes), step)
        ]
    return torch.cat(parts)


def _channels(colors: list[tuple[int, int, int]], device: torch.device) -> torch.Tensor:
    """[len(colors), 3] in [0, 1]; the same bits on every device."""
    return (torch.tensor(colors) / 255.0).to(device)


def _render_chunk(of: Mapping[str, torch.Tensor], size: int, light: float, grain: float) -> torch.Tensor:
    """Pictures of scenes through views: ``of`` has the arrays of both by name."""
    device, ground = of["ground"].device, of["ground"]
    left, top, side = (of[name][:, None] for name in ("left", "top", "side"))
    centres = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size
    px, py = left + side * centres, top + side * centres  # [n, size] canvas coordinates of columns and of rows
    pixel = side / size
    image = _background(of["background"], of["pattern"], ground, px, py)
    for k in range(int(of["count"].max())):
        # An object is drawn into a window around it. Two widths of windows: most objects are small.
        reach = _REACH * of["radius"][:, k] / pixel[:, 0] + 2  # in pixels of the picture
        drawn, wide = of["count"] > k, reach > 0.3 * size
        for which in _rows(drawn & wide, drawn & ~wide):
            which = which[of["shape"][which, k].argsort()]
            one = {name: of[name][which, k] for name in _OF_OBJECTS}
            # A multiple of 4: the ends of arrays that fill no vector of the processor round differently.
            width = min(size, 4 * int(reach[which].max() / 2 + 1))
            x, y = (
                ((one[axis] - start[which, 0]) / pixel[which, 0] - width / 2).long().clamp_(0, size - width)
                for axis, start in (("x", left), ("y", top))
            )
            around = {axis: at.unfold(1, width, 1)[which, start] for axis, at, start in (("px", px, x), ("py", py, y))}
            alpha, rgb = _object(**one, **around, pixel=pixel[which])
            windows = image.unfold(2, width, 1).unfold(3, width, 1)
            windows[which, :, y, x] = torch.lerp(windows[which, :, y, x], rgb, alpha[:, None])
    if light:
        image *= 1 + light * (2 * _later_digits(ground[:, :3]) - 1)[:, :, None, None]
    image += _noise(ground, size, device) * grain * (0.02 + 0.04 * ground[:, 7])[:, None, None, None]
    keep = of["keep"]
    inside_x = (px >= keep[:, :1]) & (px <= keep[:, 2:3])
    inside_y = (py >= keep[:, 1:2]) & (py <= keep[:, 3:])
    image *= (inside_y[:, None, :, None] & inside_x[:, None, None, :]).float()
    return image.mul_(255).round_().clamp_(0, 255).to(torch.uint8)


def _rows(*masks: torch.Tensor) -> Iterator[torch.Tensor]:
    """The places of the true values of each mask that has some."""
    return (mask.nonzero()[:, 0] for mask in masks if mask.any())


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
    """Coverage [m, H, W] and colour [m, 3, H, W] of one object per scene, sorted by shape; px [m, W], py [m, H]."""

    def wide(v: torch.Tensor) -> torch.Tensor:
        return v[:, None, None]

    cos, sin = torch.cos(angle) / radius, torch.sin(angle) / radius
    dx, dy = (px - x[:, None])[:, None, :], (py - y[:, None])[:, :, None]
    u, v = wide(cos) * dx + wide(sin) * dy, wide(cos) * dy - wide(sin) * dx  # object coordinates, radius 1
    grid = torch.empty((*u.shape, 2), device=px.device)
    torch.div(u, _EXTENT, out=grid[..., 0])
    torch.div(v, _EXTENT, out=grid[..., 1])
    distance = _distances(shape, grid)
    sharp = wide(radius / pixel[:, 0])  # object radii to output pixels
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


def _distances(shape: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Distances [m, H, W] from the outlines of sorted shapes [m] at the points [m, H, W, 2] of their tables."""
    parts = torch.split(grid, shape.bincount(minlength=len(SHAPES)).tolist())
    return torch.cat([
        torch.nn.functional.grid_sample(
            table.expand(len(part), 1, -1, -1), part, padding_mode="border", align_corners=True
        )[:, 0]
        for table, part in zip(_distance_tables().to(grid.device), parts, strict=True)
        if len(part)
    ])  # fmt: skip


def _background(
    color: torch.Tensor, pattern: torch.Tensor, ground: torch.Tensor, px: torch.Tensor, py: torch.Tensor
) -> torch.Tensor:
    """Background [n, 3, H, W]: plain, gridded, speckled or wavy; the marks are a shade of its own colour."""
    base = _channels(_GROUND_RGB, px.device)[color] + 0.06 * (ground[:, :3] - 0.5)
    frequency = 45 + 20 * ground[:, 3:4]
    ax, ay = px * frequency + 6.2832 * ground[:, 4:5], py * frequency + 6.2832 * ground[:, 5:6]
    sx, sy = torch.sin(ax), torch.sin(ay)
    mark = torch.zeros((len(base), py.shape[1], px.shape[1]), dtype=torch.bool, device=px.device)
    for which in _rows(pattern == 1):
        mark[which] = torch.maximum(sx[which, None, :].expand(-1, py.shape[1], -1), sy[which, :, None]) > 0.86
    for which in _rows(pattern == 2):
        mark[which] = (sx[which, None, :] + sy[which, :, None]) > 1.45
    for which in _rows(pattern == 3):
        shift = 1.6 * torch.sin(0.35 * ax[which])[:, None, :]
        mark[which] = torch.sin(0.8 * ay[which, :, None] + shift) > 0.55
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
