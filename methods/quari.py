"""QuARI as its authors released it: their ``config.yml`` and ``weights.pt``, scored as their code scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml  # type: ignore[import-untyped]

from condsim.harness.errors import CondsimError, did_you_mean
from condsim.harness.files.json_files import read_text
from condsim.harness.files.paths import resolve
from condsim.harness.method import Gallery, Method, Scorer
from condsim.harness.one_vector import unit
from condsim.harness.task import Task
from condsim.methods.query_adaptive import Adapted
from condsim.methods.shared.quari_network import ReleasedQuariNetwork, ReleasedSettings
from condsim.methods.training.checkpoints import fit_names, read_checkpoint

PUBLISHED = "https://huggingface.co/EricX003"
_EXPECTED = "the config.yml of a released QuARI model: hparams, feature_extractor"


class Quari(Method):
    """(q', W) = H(q); score = q' . unit(d W), W = I + s U V^T (Xing et al., released code).

    q = unit(unit(ref) + unit(text)); a missing one counts as zero, so an image or a text alone is itself the query, as
    in the released code. The sum of both is ours.
    """

    needs_reference = False
    needs_condition = False
    reads_conditions = False
    sharded = True

    def __init__(self, checkpoint: str | None = None, config: str | None = None) -> None:
        self.checkpoint, self.config = checkpoint, config

    def check(self, task: Task) -> None:
        super().check(task)
        self._files()  # before anything is encoded

    def _files(self) -> tuple[str, str]:
        """The checkpoint and its config."""
        if self.checkpoint is None or self.config is None:
            raise CondsimError(
                "the method has no weights of its own: download config.yml and weights.pt of your backbone, "
                f"{PUBLISHED}/QuARI-..., and set method.checkpoint=DIR/weights.pt method.config=DIR/config.yml"
            )
        return self.checkpoint, self.config

    def prepare(self, gallery: Gallery) -> Scorer:
        checkpoint, config = self._files()
        settings, encoder = read_config(resolve(config))
        width = gallery.features.shape[1]
        if settings.embedding_dim != width:
            raise CondsimError(
                f"{config} is for features of width {settings.embedding_dim} (feature_extractor: {encoder}), this "
                f"backbone's have width {width}: choose that encoder as the backbone"
            )
        network = load_released(checkpoint, settings)
        return Adapted(network.to(gallery.features.device), unit(gallery.features))


def read_config(path: Path) -> tuple[ReleasedSettings, str]:
    """The network's settings and the encoder's name. Raises CondsimError naming the file and the entry."""
    try:
        content = yaml.safe_load(read_text(path, _EXPECTED))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise CondsimError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())[:300]}") from None
    entries: Any = content.get("hparams") if isinstance(content, Mapping) else None
    if not isinstance(entries, Mapping):
        raise CondsimError(f"{path}: has no entry hparams with the network's settings (expected {_EXPECTED})")
    known = [field.name for field in dataclasses.fields(ReleasedSettings)]
    for name in entries:
        if name not in known:
            raise CondsimError(f"{path}: hparams: {name!r} is no setting of QuARI. {did_you_mean(str(name), known)}")
    if "embedding_dim" not in entries:
        raise CondsimError(f"{path}: hparams has no embedding_dim, the width of the features")
    try:
        return ReleasedSettings(**entries), str(content.get("feature_extractor", "not named"))
    except CondsimError as error:
        raise CondsimError(f"{path}: hparams: {error}") from None


def load_released(checkpoint: str | Path, settings: ReleasedSettings) -> ReleasedQuariNetwork:
    """The network with the weights in ``checkpoint``, in evaluation mode, float32, on the CPU.

    Raises CondsimError where the file holds other tensors than a network of these settings has.
    """
    with torch.device("meta"):  # no memory is taken before the file is known to fit
        network = ReleasedQuariNetwork(settings)
    expected = network.state_dict()
    read = read_checkpoint(checkpoint)
    state = fit_names(read, {name: tensor.ndim for name, tensor in expected.items()}, "released QuARI network")
    for name, tensor in expected.items():
        if state[name].shape != tensor.shape:
            raise CondsimError(
                f"checkpoint {read.path}: {name} has shape {tuple(state[name].shape)}, but config.yml says "
                f"{tuple(tensor.shape)}: the two files are not of the same model"
            )
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
    return network.eval().requires_grad_(False)
