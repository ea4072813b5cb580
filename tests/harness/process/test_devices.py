"""The device that a setting names, and what is said where it is not in this machine."""

from __future__ import annotations

import pytest
import torch

from condsim.harness.errors import CondsimError
from condsim.harness.process.devices import device_of


@pytest.mark.parametrize(
    ("gpus", "apple", "expected"), [(2, False, "cuda"), (0, True, "mps"), (0, False, "cpu"), (1, True, "cuda")]
)
def test_auto_is_the_quickest_device_there_is(
    gpus: int, apple: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)
    assert device_of("auto") == torch.device(expected)


@pytest.mark.parametrize(
    ("name", "gpus", "message"),
    [
        ("cudaa", 1, r"training.device=cudaa: PyTorch has no such device; choose cpu, cuda, cuda:1, mps or auto$"),
        ("gpu", 1, r"training.device=gpu: PyTorch has no such device"),
        ("cuda", 0, r"training.device=cuda: PyTorch finds no such GPU here. Set training.device=cpu, or check"),
        ("cuda:0", 0, r"finds no such GPU here"),
        ("cuda:2", 2, r"training.device=cuda:2: there is no GPU with this number; this machine has cuda:0 to cuda:1"),
        ("cuda:1", 1, r"this machine has cuda:0$"),
    ],
)
def test_a_device_that_is_not_there_is_one_message(
    name: str, gpus: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(CondsimError, match=message):
        device_of(name, "training.device")


def test_a_device_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [device_of(name) for name in ("cpu", "cuda", "cuda:1", "meta")] == [
        torch.device("cpu"), torch.device("cuda"), torch.device("cuda", 1), torch.device("meta"),
    ]  # fmt: skip
