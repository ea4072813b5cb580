"""The base method of a method that wraps another."""

from __future__ import annotations

from condsim.harness.errors import CondsimError
from condsim.harness.method import Method
from condsim.methods.inner_product import ImagePlusText


def base_method(base: Method | None) -> Method:
    """``base``, or image + text if None. Raises CondsimError for the name of a method instead of a method."""
    if base is None:
        return ImagePlusText()
    if not isinstance(base, Method):
        raise CondsimError(
            f"base={base!r} is a name, not a method: choose the base method with method.base={base} on the command "
            "line, or with a defaults list in YAML"
        )
    return base
