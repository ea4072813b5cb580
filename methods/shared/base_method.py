"""The base of a method that wraps another."""

from __future__ import annotations

from condsim.harness.errors import CondsimError
from condsim.harness.method import Method
from condsim.methods.inner_product import ImagePlusText


def base_method(base: Method | None) -> Method:
    """``base``, or image + text if None. Raises CondsimError where a name was given instead of a method."""
    if base is None:
        return ImagePlusText()
    if not isinstance(base, Method):
        raise CondsimError(f"method.base={base} is no method: name one on the command line, as in method.base=clay")
    return base
