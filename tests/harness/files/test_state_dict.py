"""Weights files as trainers write them, and what is refused instead of being loaded silently."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from condsim.harness.errors import CondsimError
from condsim.harness.files.state_dict import read_state_dict, without_prefix, write_state_dict

STATE = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.ones(2), "steps": torch.tensor(3)}


def prefixed(prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in STATE.items()}


FORMS: dict[str, Callable[[], Any]] = {
    "bare": lambda: STATE,
    "DataParallel": lambda: {"state_dict": prefixed("module."), "epoch": 3, "optimizer": {}},
    "compiled": lambda: prefixed("_orig_mod."),
    "compiled DataParallel": lambda: {"state_dict": prefixed("module._orig_mod.")},
    "model_state_dict": lambda: {"model_state_dict": STATE, "epoch": 1},
    "Lightning": lambda: {"state_dict": prefixed("model.") | {"loss.weight": torch.ones(1)}, "hyper_parameters": {}},
    "two levels": lambda: {"state_dict": {"model": prefixed("network.")}, "ema": {"layer.bias": torch.zeros(2)}},
    "of its authors": lambda: {"Combiner": STATE},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("legacy", [False, True])
def test_weights_are_found_in_what_trainers_write_around_them(tmp_path: Path, form: str, legacy: bool) -> None:
    torch.save(FORMS[form](), tmp_path / "w.pt", _use_new_zipfile_serialization=not legacy)
    state = without_prefix(read_state_dict(tmp_path / "w.pt", ("Combiner",)).state, STATE)
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in STATE.items())


@pytest.mark.parametrize("name", ["w.bin", "w.SAFETENSORS", "w.pt"])
def test_the_format_is_that_of_the_content_whatever_the_suffix(tmp_path: Path, name: str) -> None:
    save_file(STATE, tmp_path / name)
    assert read_state_dict(tmp_path / name).state.keys() == STATE.keys()


def test_torch_weights_may_be_called_safetensors(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "w.safetensors")
    assert torch.equal(read_state_dict(tmp_path / "w.safetensors").state["layer.bias"], torch.ones(2))


def holds_itself() -> dict[str, Any]:
    content: dict[str, Any] = {"epoch": 1}
    content["state_dict"] = content
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>Sign in</html>", "a web page"),
        (b"not weights at all", "neither a safetensors file nor"),
        (b"PK\3\4 cut off", "damaged or cut off"),
        ((1 << 60).to_bytes(8, "little") + b"{", "damaged, or not a safetensors file"),
        (holds_itself(), "holds itself"),
        ({"epoch": 3, "optimizer": {}}, "no weights at all, only 'epoch', 'optimizer'"),
        ({}, "no weights at all, only nothing"),
        ([1, 2], "holds a list"),
        ({"state_dict": STATE, "args": argparse.Namespace(a=1)}, r"Python object \(argparse.Namespace\).*Only tensors"),
    ],
)
def test_other_files_are_refused_with_what_is_in_them(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "w.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(CondsimError, match=message) as error:
        read_state_dict(path)
    assert str(path) in str(error.value)
    assert "weights_only" not in str(error.value)


def test_a_torchscript_archive_and_a_file_without_tensors_are_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "jit.pt")  # type: ignore[no-untyped-call]
    with pytest.raises(CondsimError, match="TorchScript archive"):
        read_state_dict(tmp_path / "jit.pt")
    save_file({}, tmp_path / "none.safetensors")
    with pytest.raises(CondsimError, match="no weights at all"):
        read_state_dict(tmp_path / "none.safetensors")


def test_what_is_written_is_read_again_and_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_state_dict(tmp_path / name, STATE, {"step": 5, "history": [0.1, None]})
    read = read_state_dict(tmp_path / "a")
    assert read.settings == {"step": 5, "history": [0.1, None]}
    assert all(torch.equal(read.state[name], tensor) for name, tensor in STATE.items())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a", "b"]


def unchanged(path: Path) -> bool:
    """Whether the file is read, and then as it was written."""
    try:
        read = read_state_dict(path)
    except CondsimError:
        return True
    same = read.state.keys() == STATE.keys() and all(torch.equal(read.state[k], t) for k, t in STATE.items())
    return same and read.settings in ({"step": 5}, {})


@pytest.mark.parametrize("form", ["safetensors", pytest.param("torch", marks=pytest.mark.slow)])
def test_no_damage_to_a_file_changes_a_weight_silently(tmp_path: Path, form: str) -> None:
    path = tmp_path / "w"
    if form == "safetensors":
        write_state_dict(path, STATE, {"step": 5})
    else:
        torch.save(STATE, path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 1 if form == "safetensors" else 4):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        assert unchanged(path), f"bit {place % 8} of byte {place}"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(CondsimError, match=str(path)):
            read_state_dict(path)


def test_a_file_of_ours_without_a_digest_is_not_trusted(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "old", {"condsim": '{"step": 5}'})
    with pytest.raises(CondsimError, match="no digest"):
        read_state_dict(tmp_path / "old")
    save_file(STATE, tmp_path / "deep", {"condsim": "[" * 100_000})
    with pytest.raises(CondsimError, match="deep: damaged"):
        read_state_dict(tmp_path / "deep")
