"""What a composed config describes: its objects, its method's name, and the settings that someone changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, OmegaConf

from condsim.harness.errors import CondsimError


def make(config: Mapping[str, Any], place: str = "") -> Any:
    """What a config's ``_target_`` names, made with its settings. ``place``: where in the whole config it stands."""
    if not config.get("_target_") or config["_target_"] == MISSING:
        raise CondsimError("this choice names no class: set its _target_, as in method._target_=my_module.MyMethod")
    if unset := [key for key, value in _flat(config).items() if value == MISSING]:
        name = f"{place}.{unset[0]}" if place else unset[0]
        raise CondsimError(f"{name} is not set: {config['_target_']} needs it, as in {name}=VALUE")
    try:
        return instantiate(OmegaConf.create(dict(config)), _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        while cause is not None and not isinstance(cause, CondsimError) and cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, CondsimError):
            raise cause from None
        raise CondsimError(f"cannot make {config['_target_']}: {cause or error}") from error


def method_name(config: DictConfig) -> str:
    """The name of the chosen YAML; the class's where another class was put in its place."""
    choices = HydraConfig.get().runtime.choices
    target = None if OmegaConf.is_missing(config.method, "_target_") else OmegaConf.select(config, "method._target_")
    if target is not None and target != _composed_method(_key(choices))[0].get("_target_"):
        return str(target).rsplit(".", 1)[-1]
    return str(choices["method"])


def changed_settings(method_config: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings of the method, flat, that are not as its YAML has them for this benchmark.

    A wrapped method that was exchanged is one setting ("base": "clay"), beside those that differ from its own YAML.
    """
    choices = HydraConfig.get().runtime.choices
    usual = _composed_method(_key(choices))[1]
    exchanged = {group: str(choice) for group, choice in choices.items() if usual.get(group, choice) != choice}
    parts = {group: choice for group, choice in exchanged.items() if _is_part(group)}
    defaults = _flat(_composed_method(_key(choices), tuple(sorted(parts.items())))[0])
    changed = {
        key: value
        for key, value in _flat(method_config).items()
        if not key.endswith("_target_") and (key not in defaults or defaults[key] != value)
    }
    return {_part_name(group): choice for group, choice in sorted(parts.items())} | changed


def _is_part(group: str) -> bool:
    """Whether a config group fills a part of the method: "method@method.base", "method/phrases@method.phrases"."""
    return group.startswith(("method@", "method/"))


def _part_name(group: str) -> str:
    return group.rsplit("@", 1)[-1].removeprefix("method.").removeprefix("method/")


def _key(choices: Mapping[str, Any]) -> tuple[str, ...]:
    """The overrides that choose what a method's own settings may depend on; a recipe is how `condsim train` trains."""
    groups = ("method", "benchmark", *(("recipe",) if "recipe" in choices else ()))
    return tuple(f"{group}={choices[group] or 'null'}" for group in groups)


@cache
def _composed_method(
    chosen: tuple[str, ...], parts: tuple[tuple[str, str], ...] = ()
) -> tuple[dict[str, Any], dict[str, str]]:
    """The method's config as its YAML has it, and what fills its parts; found where the job's own config was found."""
    overrides = [*chosen, *(f"{group}={choice}" for group, choice in parts)]
    config = compose(HydraConfig.get().job.config_name, overrides, return_hydra_config=True)
    usual = {group: str(choice) for group, choice in config.hydra.runtime.choices.items() if _is_part(group)}
    return plain(config.method), usual


def plain(node: DictConfig) -> dict[str, Any]:
    container = OmegaConf.to_container(node, resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def make_once(config: dict[str, Any]) -> Any:
    """The jobs of a sweep share benchmarks and backbones: the same config gives the same object."""
    return _make_cached(json.dumps(config, sort_keys=True))


@cache
def _make_cached(config: str) -> Any:
    return make(json.loads(config))
