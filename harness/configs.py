"""From a config to the object that it describes: the class named by ``_target_``, with its settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, OmegaConf

from condsim.harness.errors import CondsimError
from condsim.harness.run.record import flat
from condsim.harness.targets import raised, require_kind, require_settings


def make(config: Mapping[str, Any], name: str = "") -> Any:
    """Instantiate the ``_target_`` of ``config``, which is the setting ``name`` ("method") of the whole config.

    Raises CondsimError for a setting without a value or that the class does not have, for what the class refuses, and
    for what is no method, benchmark or backbone where ``name`` says so; UserCodeError for any other exception.
    """
    target = config.get("_target_")
    if not target or target == MISSING:
        raise CondsimError("this choice names no class: set its _target_, as in method._target_=my_module.MyMethod")
    if unset := [key for key, value in flat(config).items() if value == MISSING]:
        setting = f"{name}.{unset[0]}" if name else unset[0]
        raise CondsimError(f"{setting} is not set: add {setting}=VALUE")
    require_settings(config, name)
    try:
        made = instantiate(OmegaConf.create(dict(config)), _convert_="all")
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None and isinstance(cause, InstantiationException):
            cause = cause.__cause__
        if isinstance(cause, CondsimError):
            raise cause from None
        if cause is None:
            raise CondsimError(f"cannot make {target}: {error}") from error
        raise raised(cause, str(target)) from cause
    require_kind(made, str(target), name.rpartition(".")[2])
    return made


@cache
def _make_from_json(config: str, name: str) -> Any:
    return make(json.loads(config), name)


def make_once(config: Mapping[str, Any], name: str = "") -> Any:
    """As `make`, but equal configs give the same object: the jobs of a sweep share benchmarks and backbones."""
    return _make_from_json(json.dumps(config, sort_keys=True), name)


def forget() -> None:
    """Let `make_once` make its objects again."""
    _make_from_json.cache_clear()


def plain(node: DictConfig) -> dict[str, Any]:
    """A config as dictionaries and lists, interpolations resolved."""
    container = OmegaConf.to_container(node, resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}
