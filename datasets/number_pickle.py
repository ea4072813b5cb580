"""Read a pickle of lists, dicts, texts and arrays of numbers without running any code that it names."""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from condsim.harness.errors import CondsimError, reading

MAX_BYTES = 64 << 20
"""The ground truths of ROxford and RParis have less than one megabyte."""
_MAX_VALUES = 10**7
_MAX_DEPTH = 8


def read_number_pickle(path: Path, what: str) -> Any:
    """The content of a pickle as plain Python: dicts with text keys, lists, texts, numbers; arrays become lists.

    A pickle names functions that the reader calls. Here the few names that numpy's arrays need are
    functions of this module that only collect numbers, and any other name is refused. Raises CondsimError naming the
    file and ``what`` was expected.
    """
    with reading(path, what):
        size = path.stat().st_size
        data = path.read_bytes() if size <= MAX_BYTES else b""
    if size > MAX_BYTES:
        raise CondsimError(f"{path} has {size:,} bytes, more than any such file (expected {what})")
    try:
        return _Plain().of(_Reader(io.BytesIO(data), encoding="latin1").load())
    except CondsimError as error:
        raise CondsimError(f"{path}: {error} (expected {what})") from None
    except Exception as error:  # damage can raise nearly anything in an unpickler
        raise CondsimError(
            f"{path}: not a readable pickle ({type(error).__name__}: {error}; expected {what})"
        ) from None


class _Array:
    """What a pickled numpy array says of itself."""

    __slots__ = ("values",)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.values = _array(data, dtype, shape, "F" if fortran else "C")


class _Dtype:
    __slots__ = ("code",)

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = code.decode("latin1") if isinstance(code, bytes) else str(code)
        if not re.fullmatch(r"[<>=|]?([iuf][248]|[iu]1)", self.code):
            raise CondsimError(f"it holds an array of {ascii(self.code)[:40]}, and only numbers are read")

    def __setstate__(self, state: Any) -> None:
        order = state[1].decode("latin1") if isinstance(state[1], bytes) else str(state[1])
        if order in ("<", ">"):
            self.code = order + self.code.lstrip("<>=|")


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> Any:
    if isinstance(data, str):  # a pickle of Python 2
        data = data.encode("latin1")
    if not isinstance(data, (bytes, bytearray)) or not isinstance(dtype, _Dtype) or order not in ("C", "F"):
        raise CondsimError("it holds an array of objects, and only numbers are read")
    return np.frombuffer(data, dtype=np.dtype(dtype.code)).reshape(shape, order=order).tolist()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.values = _array(data, dtype, shape, order)
    return array


def _scalar(dtype: Any, data: Any) -> Any:
    (value,) = _array(data, dtype, (1,), "C")
    return value


def _encode(text: Any, encoding: Any) -> bytes:
    if encoding != "latin1" or not isinstance(text, str):
        raise CondsimError("it encodes text otherwise than numpy does")
    return text.encode("latin1")


class _Stand:
    """A replacement for a name in a pickle. Nothing can be set on it, so a pickle cannot change this module."""

    __slots__ = ("_call",)
    _call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_call", call)

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setattr__(self, name: str, value: object) -> None:
        raise CondsimError("it sets attributes of a function")

    def __setstate__(self, state: object) -> None:
        raise CondsimError("it sets attributes of a function")


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): lambda *_: _Array(),
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    **{(module, "bytes"): lambda: b"" for module in ("__builtin__", "builtins")},  # the data of an empty array
    **{(f"numpy.{core}.multiarray", "_reconstruct"): lambda *_: _Array() for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _Stand(_ALLOWED[module, name])
        except KeyError:
            raise CondsimError(f"it names {ascii(f'{module}.{name}')[:80]}, which is not called") from None

    def persistent_load(self, pid: Any) -> Any:
        raise CondsimError("it refers to objects that are not in the file")


class _Plain:
    """Turns what was read into plain values, and stops where there are more than any such file holds."""

    def __init__(self) -> None:
        self._left = _MAX_VALUES

    def of(self, value: Any, depth: int = 0) -> Any:
        self._left -= 1
        if self._left < 0 or depth > _MAX_DEPTH:
            raise CondsimError("it holds more or deeper values than any such file")
        if isinstance(value, _Array):
            return self.of(value.values, depth)
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise CondsimError("it has a dict with keys that are no text")
            return {key: self.of(item, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.of(item, depth + 1) for item in value]
        if value is None or isinstance(value, (str, int, float)):
            return value
        raise CondsimError(f"it holds a {type(value).__name__}")
