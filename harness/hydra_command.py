"""Commands that are one function of one config: `conf/<command>.yaml` names the function in its ``_target_``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import hydra
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf

from condsim.harness.overrides import check_overrides

INFORMATION = frozenset({"--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i"})
"""Flags with which Hydra shows something and runs no job."""


def main(command: str, argv: Sequence[str]) -> int:
    """Compose the command's config with the overrides ``argv``, and give it, as plain dictionaries, to its function."""
    config_name = command.replace("-", "_")
    if not INFORMATION & set(argv):
        check_overrides(config_name, argv)
    statuses: list[int] = []

    def job(config: DictConfig) -> None:
        settings = OmegaConf.to_container(config, resolve=True)
        assert isinstance(settings, dict)
        statuses.append(int(get_method(settings.pop("_target_"))(settings) or 0))

    sys.argv = [f"condsim {command}", *argv]
    hydra.main(version_base="1.3", config_path="pkg://condsim.conf", config_name=config_name)(job)()
    return max(statuses, default=0)
