"""Checkpoints of trained methods: files of ours, and released ones as their authors wrote them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from condsim.harness.errors import CondsimError, first_of
from condsim.harness.files.paths import resolve
from condsim.harness.files.state_dict import Checkpoint, read_state_dict, without_prefix
from condsim.harness.process.tensors import Tensor, nn


def read_checkpoint(name: str | Path, wrappers: Sequence[str] = ()) -> Checkpoint:
    """The weights in a file, on the CPU; ``name`` as ``harness.files.paths.resolve`` takes it.

    ``wrappers``: keys under which the method's released files store them. Raises CondsimError where the file is
    missing, damaged or holds no weights (``harness.files.state_dict.read_state_dict``).
    """
    path = resolve(name)
    if not path.is_file():
        raise CondsimError(f"checkpoint {path} does not exist: `condsim train` makes one and prints its path")
    return read_state_dict(path, wrappers)


def fit_names(checkpoint: Checkpoint, expected: Mapping[str, int], what: str) -> dict[str, Tensor]:
    """The checkpoint's tensors under the names ``expected``, without what a trainer put before them.

    ``expected``: name -> number of dimensions. Raises CondsimError unless the file holds exactly these.
    """
    state = without_prefix(checkpoint.state, expected)
    missing, unexpected = expected.keys() - state.keys(), state.keys() - expected.keys()
    if missing or unexpected:
        problems = [f"missing {first_of(sorted(missing))}"] if missing else []
        problems += [f"unexpected {first_of(sorted(unexpected))}"] if unexpected else []
        raise CondsimError(f"checkpoint {checkpoint.path} is not a {what}: {'; '.join(problems)}")
    for name, dimensions in expected.items():
        if state[name].ndim != dimensions:
            raise CondsimError(
                f"checkpoint {checkpoint.path} is not a {what}: {name} has shape {tuple(state[name].shape)}, expected "
                f"{dimensions} dimensions"
            )
    return state


def load_weights(network: nn.Module, state: Mapping[str, Tensor], checkpoint: Checkpoint, contradiction: str) -> None:
    """Load ``state`` as float32. Raises CondsimError that gives the ``contradiction`` where a shape does not fit."""
    try:
        network.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise CondsimError(f"checkpoint {checkpoint.path}: {contradiction}: {reason}") from None
