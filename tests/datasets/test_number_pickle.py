"""Pickles of numbers are read, whatever wrote them, and no code in a pickle runs."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from condsim.datasets import number_pickle
from condsim.datasets.number_pickle import read_number_pickle
from condsim.harness.errors import CondsimError


def read(folder: Path, content: bytes) -> Any:
    path = folder / "x.pkl"
    path.write_bytes(content)
    return read_number_pickle(path, "numbers")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_lists_dicts_and_arrays_of_numbers(tmp_path: Path, protocol: int) -> None:
    value = {
        "names": ["a", "b"],
        "gnd": [
            {"bbx": [136.5, 34.1, 648.5, 955.7], "easy": np.array([3, 1]), "hard": np.zeros(0), "one": np.int64(7)},
            {"bbx": np.array([[1, 2], [3, 4]], dtype=">f4"), "easy": (5,), "f": np.asfortranarray(np.eye(2))},
        ],
    }
    assert read(tmp_path, pickle.dumps(value, protocol)) == {
        "names": ["a", "b"],
        "gnd": [
            {"bbx": [136.5, 34.1, 648.5, 955.7], "easy": [3, 1], "hard": [], "one": 7},
            {"bbx": [[1.0, 2.0], [3.0, 4.0]], "easy": [5], "f": [[1.0, 0.0], [0.0, 1.0]]},
        ],
    }


def test_a_pickle_of_python_2(tmp_path: Path) -> None:
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\ntcnumpy\ndtype\n(S'i8'\nI0\nI1\n"
        b"tR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'\\x05\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\xff\\x00\\x00\\x00\\x00\\x00\\x00\\x00'\ntb."
    )
    assert read(tmp_path, array) == [5, 255]


class Hostile:
    def __reduce__(self) -> Any:
        return open, ("ran", "w")


class HostileArray:
    def __reduce__(self) -> Any:
        return np.load, ("x",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({"imlist": [Hostile()]}),
        pickle.dumps(HostileArray()),
        pickle.dumps(np.array([{"a": 1}, None], dtype=object)),
        pickle.dumps(np.array(["text"])),
        pickle.dumps({1: 2}),
        pickle.dumps({"a": {1, 2}}),
        pickle.dumps(b"bytes"),
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\ndtype\n}S'_call'\nNsb.",
        b"(dp0\nS'a'\ng0\ns.",
        pickle.dumps([1, 2])[:-3],
        b"",
        b"PK\x03\x04",
    ],
)
def test_anything_else_is_refused_without_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CondsimError, match=r"x\.pkl.*expected numbers"):
        read(tmp_path, content)
    assert not (tmp_path / "ran").exists()
    assert read(tmp_path, pickle.dumps(np.arange(3))) == [0, 1, 2], "what was refused changed nothing"


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    laughs: Any = [0] * 10
    for _ in range(7):
        laughs = [laughs] * 10
    monkeypatch.setattr(number_pickle, "_MAX_VALUES", 10**5)  # the 10**7 of real files take 10 s
    with pytest.raises(CondsimError, match="more or deeper values"):
        read(tmp_path, pickle.dumps(laughs))
    monkeypatch.setattr(number_pickle, "MAX_BYTES", 10)
    with pytest.raises(CondsimError, match="more than any such file"):
        read(tmp_path, pickle.dumps(list(range(100))))
    with pytest.raises(CondsimError, match="does not exist"):
        read_number_pickle(tmp_path / "none.pkl", "numbers")
