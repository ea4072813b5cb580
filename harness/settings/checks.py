"""Settings are checked by type and range when a command starts, before anything slow is imported.

What a setting may be is declared once: for a command's own settings in ``OWN``, for those of a method, backbone or
benchmark in the annotations of its constructor, and where there are none by the value in the YAML.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard

from hydra.core.override_parser.types import Override, OverrideType, ValueType
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from condsim.harness.errors import CondsimError
from condsim.harness.run.record import typed
from condsim.harness.settings.arguments import Setting
from condsim.harness.settings.kinds import (
    MismatchError,
    NotEmpty,
    Range,
    convert,
    describe,
    element_of,
    inside,
    is_list,
    is_mapping,
    is_text,
    members,
)
from condsim.harness.settings.signatures import parameters

Count = Annotated[int, Range(least=1)]
CountOrNone = Annotated[int, Range(least=0)]
Seed = Annotated[int, Range(least=0)]
Share = Annotated[float, Range(0, 1)]
Positive = Annotated[float, Range(above=0)]
NotNegative = Annotated[float, Range(least=0)]
Names = Annotated[Sequence[str], NotEmpty()] | None
Folder = Path | None

_DATA = {"tasks": Names, "queries_from": Folder, "cache_dir": Folder}
_SAME = {
    "queries_from": Folder, "cache_dir": Folder,
    "statistics.resamples": Annotated[int, Range(least=100)], "statistics.seed": Seed,
}  # fmt: skip
_RUN = _SAME | {"tasks": Names, "wording": str | None, "results": Path, "top": Count, "force": bool}
_CHOICE = {
    "choose": Mapping[str, Any], "validation.split": str, "validation.tasks": Names, "validation.metric": str | None,
}  # fmt: skip

OWN: dict[str, dict[str, Any]] = {
    "bench": _RUN | _CHOICE,
    "encode": _DATA | {"segment": Count},
    "train": _RUN
    | {
        "dry": bool, "checkpoints": Path, "evaluate": bool,
        "training.steps": Count, "training.batch_size": Count, "training.learning_rate": Positive,
        "training.optimizer": Literal["adamw", "adam"], "training.weight_decay": NotNegative,
        "training.warmup": CountOrNone, "training.clip": Positive | None, "training.precision": Literal["fp32", "bf16"],
        "training.seed": Seed, "training.validate_every": Count, "training.patience": CountOrNone,
        "training.checkpoint_every": Count, "training.hard_targets": CountOrNone, "training.backbone": bool,
        "training.device": str, "validation.share": Share, "validation.most": Count, "validation.metric": str,
        "validation.tasks": Names,
    },
    "export": _SAME
    | _CHOICE
    | {
        "tasks": Names, "wording": str | None, "output": Path, "format": Literal["trec", "jsonl"],
        "depth": Count | None,
    },
    "import": _SAME | {"task": str, "name": str, "backbone": str, "results": Path, "top": Count},
    "queries": _DATA
    | {
        "queries": Path, "images": Path, "pairs": Folder, "crops": Folder, "wording": str | None, "width": Count,
        "texts": Path,
    },
    "captions": _DATA
    | {
        "output": Path, "prompts": Annotated[Sequence[str], NotEmpty()], "references": bool, "side": Count,
        "workers": Count, "limit": Count | None,
    },
    "edits": _DATA
    | {"caption_table": Path, "output": Path, "prompt": str, "workers": Count, "limit": Count | None},
    "check": {"tasks": Names, "cache_dir": Folder, "decode": bool, "workers": Count, "output": Folder},
    "download": {"folder": Path, "parts": Names, "tasks": Names, "cache_dir": Folder},
    "mine": {
        "output": Path, "concreteness": Annotated[float, Range(0, 5)], "count": Count, "seed": Seed,
        "limit": Count | None, "shard": Count, "cache_dir": Folder, "recipe": Literal["paper", "released"],
    },
    "search": {"cache_dir": Folder},
    "explore": _DATA,
    "report": {
        "results": Path, "report.path": Path, "report.title": str, "report.benchmarks": Names,
        "report.budget_mb": Positive, "report.queries": CountOrNone, "report.top": Count, "report.thumbnail": Count,
    },
    "templates": {
        "output": Path, "seed": Seed, "instances": Folder, "attribute_types": Folder, "panoptic": Folder,
        "per_condition.focus": Count, "per_condition.change": Count, "objects.count": Count,
        "objects.min_share": Share, "objects.min_categories": CountOrNone, "objects.min_shared": CountOrNone,
        "objects.max_far": CountOrNone, "objects.close": CountOrNone, "objects.far": CountOrNone,
    },
    "train_backbone": {
        "seed": Seed, "output": Path, "checkpoint": Path, "checkpoint_every": Count, "batch_size": Count,
        "warmup_samples": CountOrNone, "single_samples": CountOrNone, "scene_samples": CountOrNone,
        "head_weight": NotNegative, "resemble": Share, "group": Count, "learning_rate": Positive,
        "weight_decay": NotNegative, "ramp_steps": Count, "bfloat16": bool | Literal["auto"],
        "compile": bool | Literal["auto"], "device": str, "log_every": Count,
    },
}  # fmt: skip
"""Command -> setting -> what it may be. A test compares them with conf/<command>.yaml."""


def as_typed(setting: Setting, config: DictConfig, command: str) -> Override:
    """The override for a setting, read by the type that ``config`` expects of it.

    Text and paths are taken as typed, so ``results=2024_05`` and ``benchmark.images=my photos (1)`` need no quotes for
    Hydra. Raises CondsimError where the value cannot be read; the message has the line to type.
    """
    expected, override = expected_of(setting.name, config, command), setting.override
    parent = setting.name.rpartition(".")[0]
    if is_mapping(expected_of(parent, config, command)) and _select(config, setting.name) is None:
        setting = replace(setting, argument=f"++{setting.argument.lstrip('+')}")  # a new entry
        override = Setting.read(setting.argument).override
    if override is not None and override.is_delete():
        return override
    if is_text(expected) and (override is None or setting.names_a_path or _is_no_text(override)):
        return _override(setting, setting.text)
    items = _items(setting.text) if is_list(expected) else None
    if override is None or override.is_sweep_override():
        if override is None and setting.names_a_path:
            return _override(setting, setting.text)
        if items is None:
            raise CondsimError(_unreadable(setting, expected))
        return _override(setting, items)
    if items is not None and str in members(element_of(expected)) and _is_no_text(override):
        return _override(setting, items)  # [2017,2024_05] as typed
    if expected is Any and "${" not in setting.text:
        _check(setting.name, override.value(), _by_default(setting.name, config))
    return override


def _is_no_text(override: Override) -> bool:
    """Whether Hydra reads the value as something else than text: a number, a list, several values, true."""
    return override.is_sweep_override() or not (override.value() is None or isinstance(override.value(), str))


def check_settings(config: DictConfig, command: str) -> None:
    """Check every setting of a composed config, and put a list where one word was given for a list.

    Raises CondsimError that names the setting, its value and what was expected.
    """
    for name, expected in _all_expected(config, command):
        try:
            value = OmegaConf.select(config, name, throw_on_missing=True)
            raw = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            if isinstance(raw, dict) and "_target_" in raw:
                continue  # an object that `make` makes
        except OmegaConfBaseException:
            continue  # not set, which `make` reports; or it refers to something that is not set
        converted = _check(name, raw, expected)
        if converted != raw or type(converted) is not type(raw):
            OmegaConf.update(config, name, converted, merge=False)


def require_set(config: DictConfig, command: str) -> None:
    """Raises CondsimError that lists the command's own settings without a value (``???``)."""
    unset = []
    for name in OWN.get(command, {}):
        parent, _, key = name.rpartition(".")
        node = _select(config, parent) if parent else config
        if OmegaConf.is_dict(node) and OmegaConf.is_missing(node, key):
            unset.append(name)
    if unset:
        example, command = " ".join(f"{name}=VALUE" for name in unset), command.replace("_", "-")
        raise CondsimError(
            f"no value for {' and '.join(unset)}: add {example}; `condsim {command} --help` describes every setting"
        )


def _check(name: str, value: Any, expected: Any) -> Any:
    try:
        return convert(value, expected)
    except MismatchError as mismatch:
        raise CondsimError(f"{name}={typed(value)} should be {mismatch}") from None


def _by_default(name: str, config: DictConfig) -> Any:
    """What a setting of a class without annotations may be: a number where its YAML has one, and so on."""
    return {bool: bool | None, float: float | None, int: float | None}.get(type(_select(config, name)), Any)


def _items(text: str) -> list[str] | None:
    """The words of ``a`` or ``[a,b]`` as they were typed; None where quotes or brackets are inside."""
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if set(inner) & set("[]{}'\"$") or (inner is text and "," in text):
        return None
    return [word.strip() for word in inner.split(",")] if inner.strip() else []


def _override(setting: Setting, value: str | list[str]) -> Override:
    sign = setting.argument[: len(setting.argument) - len(setting.argument.lstrip("+"))]
    kind = {"": OverrideType.CHANGE, "+": OverrideType.ADD, "++": OverrideType.FORCE_ADD}[sign]
    return Override(kind, setting.name, ValueType.ELEMENT, value, input_line=setting.argument)  # type: ignore[arg-type]


def _unreadable(setting: Setting, expected: Any) -> str:
    if setting.is_sweep:
        return f"{setting.argument} has several values: add -m to run once per value, or type {setting.quoted}"
    if expected is not Any:
        return f"{setting.argument} should be {describe(expected)}"
    return f"cannot read the value of {setting.argument}: as text, type {setting.quoted}"


def expected_of(name: str, config: DictConfig, command: str) -> Any:
    """What a setting may be; Any where nothing says so."""
    own = OWN.get(command, {})
    if name in own:
        return own[name]
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        node = _select(config, ".".join(parts[:length]))
        if OmegaConf.is_dict(node) and "_target_" in node:
            known = parameters(str(node._get_node("_target_")))
            if known is not None and parts[length] in known:
                return inside(known[parts[length]], len(parts) - length - 1)
            break
    return Any


def _select(config: DictConfig, name: str) -> Any:
    """The value of a setting; None where it has none or does not exist."""
    return OmegaConf.select(config, name, throw_on_missing=False, throw_on_resolution_failure=False)


def _all_expected(config: DictConfig, command: str) -> Iterator[tuple[str, Any]]:
    yield from OWN.get(command, {}).items()
    for name in _targets(config, ""):
        node = OmegaConf.select(config, name)
        known = parameters(str(node._get_node("_target_"))) or {}
        yield from ((f"{name}.{key}", known[key]) for key in map(str, node) if key in known)


def _targets(config: DictConfig, prefix: str) -> Iterator[str]:
    """Where the config describes an object: the names of the nodes with a ``_target_``."""
    for key in map(str, config):
        node = config._get_node(key)
        if not is_filled(node):
            continue
        name = f"{prefix}{key}"
        if "_target_" in node:
            yield name
        yield from _targets(node, f"{name}.")


def is_filled(node: Any) -> TypeGuard[DictConfig]:
    """Whether a node of a config has entries of its own: it is neither null nor ??? nor a reference."""
    return isinstance(node, DictConfig) and not (node._is_none() or node._is_missing() or node._is_interpolation())
