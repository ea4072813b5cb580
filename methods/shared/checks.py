"""Checks of a method's settings. Each raises CondsimError that names the setting, what is expected and its value."""

from __future__ import annotations

from collections.abc import Collection

from condsim.harness.errors import CondsimError, require_one_of


def at_least(least: float, **settings: float | None) -> None:
    """None is not checked."""
    for name, value in settings.items():
        if value is not None and value < least:
            raise CondsimError(f"method.{name} must be at least {least:g}, not {value}")


def above_zero(**settings: float) -> None:
    for name, value in settings.items():
        if value <= 0:
            raise CondsimError(f"method.{name} must be above 0, not {value}")


def share(**settings: float) -> None:
    """In [0, 1]."""
    for name, value in settings.items():
        if not 0 <= value <= 1:
            raise CondsimError(f"method.{name} must be in [0, 1], not {value}")


def one_of(known: Collection[str], **settings: str) -> None:
    for name, value in settings.items():
        require_one_of(f"method.{name}", value, known)


def has_slot(**templates: str) -> None:
    """A template has {} where the text goes."""
    for name, template in templates.items():
        if "{}" not in template:
            raise CondsimError(f"method.{name} must contain {{}}, not {template!r}")
