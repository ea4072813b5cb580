"""From a config to the object that it describes: the class named by ``_target_``, with its settings."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, OmegaConf

from condsim.harness.errors import CondsimError
from condsim.harness.run.record import flat


def make(config: Mapping[str, Any], name: str = "") -> Any:
    """Instantiate the ``_target_`` of ``config``, which is the setting ``name`` ("method") of the whole config.

    Raises CondsimError for a setting without a value, and for what the class refuses.
    """
    target = config.get("_target_")
    if not target or target == MISSING:
        raise CondsimError("this choice names no class: set its _target_, as in method._target_=my_module.MyMethod")
    if unset := [key for key, value in flat(config).items() if value == MISSING]:
        setting = f"{name}.{unset[0]}" if name else unset[0]
        raise CondsimError(f"{setting} is not set: {target} needs it, as in {setting}=VALUE")
    search_current_folder(str(target))
    try:
        return instantiate(OmegaConf.create(dict(config)), _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        while cause is not None and not isinstance(cause, CondsimError) and cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, CondsimError):
            raise cause from None
        raise CondsimError(f"cannot make {target}: {cause or error}") from error


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


def search_current_folder(target: str) -> None:
    """Let a user's module in the current folder be found, after all that is installed: `datasets/` shadows nothing."""
    package = target.split(".")[0]
    folder = os.getcwd()
    if folder not in sys.path and package and package not in sys.modules and importlib.util.find_spec(package) is None:
        sys.path.append(folder)
