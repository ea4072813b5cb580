"""Commands whose settings Hydra composes: `condsim <command> setting=value ...`, with `-m` for sweeps."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import hydra
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf

from condsim.harness.commands.overrides import checked_arguments
from condsim.harness.errors import CondsimError


def main(command: str, argv: Sequence[str]) -> int:
    """A command that is one function of one config: ``_target_`` of `conf/<command>.yaml`, given plain dictionaries."""
    statuses: list[int] = []

    def job(config: DictConfig) -> None:
        settings = OmegaConf.to_container(config, resolve=True)
        assert isinstance(settings, dict)
        status = get_method(settings.pop("_target_"))(settings)
        statuses.append(status if isinstance(status, int) else 0)

    run_jobs(command, argv, job)
    return max(statuses, default=0)


def run_jobs(command: str, argv: Sequence[str], job: Callable[[DictConfig], None]) -> None:
    """Call ``job`` with each config that `conf/<command>.yaml` and the overrides ``argv`` make.

    Raises CondsimError before the first job where an override names nothing that exists, and after the last one where
    a job raised it: Hydra itself would print a traceback.
    """
    raised: list[CondsimError] = []

    def told(config: DictConfig) -> None:
        try:
            job(config)
        except CondsimError as error:
            raised.append(error)

    config_name = command.replace("-", "_")
    sys.argv = [f"condsim {command}", *checked_arguments(config_name, argv)]
    hydra.main(version_base="1.3", config_path="pkg://condsim.conf", config_name=config_name)(told)()
    if raised:
        raise raised[0] if len(raised) == 1 else CondsimError("; ".join(map(str, raised)))
