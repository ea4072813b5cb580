"""Charts as inline SVG. Colours come from the page's style sheet (`s0` ... `s9`), so light and dark are one drawing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 400, 260
LEFT, RIGHT, TOP, BOTTOM = 40, 12, 12, 42
SERIES = 10
"""Distinct colours of the style sheet."""
LABEL_WIDTH, LABEL_HEIGHT = 5.9, 12
"""Pixels of one letter and of one line at the charts' font size."""


@dataclass(frozen=True)
class Point:
    x: float
    y: float
    low: float | None = None
    high: float | None = None
    label: str = ""
    """Shown when pointed at, and beside the point in a scatter plot."""


@dataclass(frozen=True)
class Line:
    name: str
    points: tuple[Point, ...]


def line_chart(lines: Sequence[Line], x_name: str, y_name: str) -> Markup:
    """Curves with their 95 % bands; x on a logarithmic axis where it spans more than a factor of eight."""
    xs = sorted({point.x for line in lines for point in line.points})
    x = _axis(xs, LEFT, WIDTH - RIGHT, log=xs[0] > 0 and xs[-1] / xs[0] > 8)
    y = _y_axis(lines)
    parts = [*_frame(x_name, y_name, y)]
    last = -math.inf
    for value in xs:
        if x(value) - last >= 26:
            parts.append(_text(x(value), HEIGHT - BOTTOM + 15, f"{value:g}", "middle"))
            parts.append(_svg("line", "tick", x1=x(value), x2=x(value), y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM + 4))
            last = x(value)
    for i, line in enumerate(lines):
        ends = [(point.x, point.low, point.high) for point in line.points]
        band = [(x(px), y(high)) for px, _, high in ends if high is not None]
        band += [(x(px), y(low)) for px, low, _ in reversed(ends) if low is not None]
        if band:
            parts.append(_svg("polygon", f"band s{i % SERIES}", points=_points(band)))
    for i, line in enumerate(lines):
        places = [(x(point.x), y(point.y)) for point in line.points]
        parts.append(_svg("polyline", f"curve s{i % SERIES}", points=_points(places)))
        parts += (_dot(px, py, i, p) for (px, py), p in zip(places, line.points, strict=True))
    return _chart(parts, f"{y_name} against {x_name}")


def scatter(series: Sequence[Line], x_name: str, y_name: str) -> Markup:
    """Points with intervals and names; x logarithmic. Points of one line (a swept method) are joined."""
    xs = [point.x for line in series for point in line.points]
    log = max(xs) > 10 * min(xs)
    x = _axis(xs, LEFT + 14, WIDTH - RIGHT - 30, log)
    y = _y_axis(series)
    parts = [*_frame(x_name, y_name, y)]
    for value in _log_ticks(min(xs), max(xs)) if log else _linear_ticks(min(xs), max(xs)):
        if LEFT <= x(value) <= WIDTH - RIGHT:
            parts.append(_text(x(value), HEIGHT - BOTTOM + 15, f"{value:g}", "middle"))
            parts.append(_svg("line", "tick", x1=x(value), x2=x(value), y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM + 4))
    placed = [(x(p.x), y(p.y), i, p) for i, line in enumerate(series) for p in line.points]
    for i, line in enumerate(series):
        if len(line.points) > 1:
            joined = [(x(p.x), y(p.y)) for p in line.points]
            parts.append(_svg("polyline", f"thread s{i % SERIES}", points=_points(joined)))
    for px, _, i, point in placed:
        if point.low is not None and point.high is not None:
            parts.append(_svg("line", f"whisker s{i % SERIES}", x1=px, x2=px, y1=y(point.low), y2=y(point.high)))
    parts += (_dot(px, py, i, point) for px, py, i, point in placed)
    parts += _names([(px, py, point.label) for px, py, _, point in placed])
    return _chart(parts, f"{y_name} against {x_name}")


class _Scale:
    def __init__(self, low: float, high: float, start: float, end: float, log: bool = False) -> None:
        self.low, self.start, self.log = low, start, log
        span = (math.log(high) - math.log(low)) if log else high - low
        self.slope = (end - start) / span if span else 0.0
        self.middle = (start + end) / 2 if not span else None

    def __call__(self, value: float) -> float:
        if self.middle is not None:
            return self.middle
        gone = math.log(max(value, 1e-12)) - math.log(self.low) if self.log else value - self.low
        return self.start + self.slope * gone


def _axis(values: Sequence[float], start: float, end: float, log: bool) -> _Scale:
    low, high = (max(min(values), 1e-4), max(*values, 1e-4)) if log else (min(values), max(values))
    return _Scale(low, high, start + 8, end - 8, log)


def _y_axis(lines: Sequence[Line]) -> _Scale:
    reach = [min(v, 100.0) for line in lines for p in line.points for v in (p.y, p.high) if v is not None]
    step = _step(max(reach, default=1.0))
    top = step * math.ceil(max(reach, default=1.0) / step - 1e-9)
    return _Scale(0.0, max(top, step), HEIGHT - BOTTOM, TOP)


def _step(reach: float) -> float:
    rough = max(reach, 1e-6) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)


def _log_ticks(low: float, high: float) -> Iterator[float]:
    low, high = max(low, 1e-4), max(high, 1e-4)
    steps = (1, 2, 5) if high / low < 100 else (1,)
    for power in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1):
        yield from (m * 10.0**power for m in steps if low * 0.7 <= m * 10.0**power <= high * 1.4)


def _linear_ticks(low: float, high: float) -> Iterator[float]:
    step = _step(high - low if high > low else high)
    yield from (i * step for i in range(math.floor(low / step), math.ceil(high / step) + 1))


def _frame(x_name: str, y_name: str, y: _Scale) -> Iterator[Markup]:
    top = (HEIGHT - BOTTOM - TOP) / -y.slope
    step = _step(top)
    for i in range(round(top / step) + 1):
        yield _svg("line", "grid", x1=LEFT, x2=WIDTH - RIGHT, y1=y(i * step), y2=y(i * step))
        yield _text(LEFT - 6, y(i * step) + 4, f"{i * step:g}", "end")
    yield _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_name, "middle")
    middle = (TOP + HEIGHT - BOTTOM) / 2
    yield Markup(
        '<text class="axis" text-anchor="middle" transform="translate(11 {:.1f}) rotate(-90)">{}</text>'
    ).format(middle, y_name)


def _names(points: Sequence[tuple[float, float, str]]) -> Iterator[Markup]:
    """Names beside their points where there is room; a name that fits nowhere is left to the tooltip."""
    taken = [(px - 4, py - 4, px + 4, py + 4) for px, py, _ in points]
    for px, py, label in sorted(points, key=lambda p: p[1]):
        width = len(label) * LABEL_WIDTH
        for x, y, anchor in (
            (px + 7, py + 4, "start"), (px - 7, py + 4, "end"), (px, py - 8, "middle"), (px, py + 16, "middle"),
            (px + 6, py - 7, "start"), (px + 6, py + 15, "start"), (px - 6, py - 7, "end"), (px - 6, py + 15, "end"),
        ):  # fmt: skip
            left = x - {"start": 0.0, "end": width, "middle": width / 2}[anchor]
            box = (left, y - LABEL_HEIGHT + 2, left + width, y + 2)
            inside = box[0] >= LEFT and box[2] <= WIDTH and box[1] >= 0 and box[3] <= HEIGHT - BOTTOM
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                yield _text(x, y, label, anchor, "name")
                break


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _dot(px: float, py: float, series: int, point: Point) -> Markup:
    return Markup('<circle class="dot s{}" cx="{:.1f}" cy="{:.1f}" r="3.5"><title>{}</title></circle>').format(
        series % SERIES, px, py, point.label
    )


def _text(x: float, y: float, text: str, anchor: str, kind: str = "axis") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(kind, x, y, anchor, text)


def _svg(tag: str, kind: str, **attributes: float | str) -> Markup:
    shown = " ".join(f'{k}="{v:.1f}"' if isinstance(v, float) else f'{k}="{escape(v)}"' for k, v in attributes.items())
    return Markup(f'<{tag} class="{kind}" {shown}/>')


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _chart(parts: Sequence[Markup], name: str) -> Markup:
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, name, Markup("").join(parts)
    )
