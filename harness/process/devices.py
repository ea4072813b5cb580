"""The device that a setting names."""

from __future__ import annotations

from typing import Final

import torch

from condsim.harness.errors import CondsimError

AUTO: Final = "auto"


def device_of(name: str, setting: str = "backbone.device") -> torch.device:
    """The device ``name``: any of PyTorch's, or "auto", which is the first GPU, else Apple's, else the processor.

    Raises CondsimError, naming ``setting``, for a device that does not exist or is not in this machine.
    """
    if name == AUTO:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        known = "cpu, cuda, cuda:1, mps or auto"
        raise CondsimError(f"{setting}={name}: PyTorch has no such device; choose {known}") from None
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if not count or (device.type == "mps" and not torch.backends.mps.is_available()):
        raise CondsimError(
            f"{setting}={name}: PyTorch finds no such GPU here. Set {setting}=cpu, or check the driver (nvidia-smi) "
            "and that this PyTorch was built for it (python -m torch.utils.collect_env)"
        )
    if device.type == "cuda" and (device.index or 0) >= count:
        last = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise CondsimError(f"{setting}={name}: there is no GPU with this number; this machine has {last}")
    return device
