"""How a measurement is printed: the one place where fractions become percent."""

from __future__ import annotations

from condsim.harness.run.record import Measurement


def percent(fraction: float) -> float:
    """In percent, rounded to four digits."""
    return round(100 * fraction, 4)


def difference(measurement: Measurement) -> float | None:
    """The value minus the reported one, in percentage points; None where nothing was reported."""
    if measurement.reported is None:
        return None
    return round(percent(measurement.value) - percent(measurement.reported), 4)


def interval_text(measurement: Measurement) -> str:
    """``±2.1``, half the interval; its ends ``[47.8, 100.0]`` where one is much farther off; "" without interval."""
    if measurement.low is None or measurement.high is None:
        return ""
    value, low, high = (percent(number) for number in (measurement.value, measurement.low, measurement.high))
    below, above = value - low, high - value
    if max(below, above) > 1.5 * min(below, above) + 0.5:
        return f"[{low:.1f}, {high:.1f}]"
    return f"±{(high - low) / 2:.1f}"


def ends_text(low: float, high: float) -> str:
    """The ends of an interval of fractions: ``[47.8, 100.0]``."""
    return f"[{100 * low:.1f}, {100 * high:.1f}]"
