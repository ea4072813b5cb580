"""Hydra overrides checked before anything runs: a mistyped choice or setting names the nearest valid ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, OverrideType, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from condsim.harness.errors import CondsimError, did_you_mean

CONFIG_MODULE = "condsim.conf"
REFUSALS = (HydraException, OmegaConfBaseException, ValueError)
"""What compose() raises for a config that cannot be; ValueError where a group is overridden by null."""
WITHOUT = ("recipe", "triplets", "experiment")
"""Groups of which nothing need be chosen."""
INFORMATION = frozenset({"--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i"})
"""Flags with which Hydra shows something and runs no job."""


def split_arguments(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """(flags with their values, overrides) of a Hydra command line, in which Hydra itself wants them kept apart."""
    flags: list[str] = []
    overrides: list[str] = []
    for previous, argument in pairwise(["", *argv]):
        takes_value = previous.startswith("-") and previous not in ("-m", "--multirun", "-r", "--run")
        if argument.startswith("-") or (takes_value and "=" not in argument and argument[0] not in "~+"):
            flags.append(argument)
        else:
            overrides.append(argument)
    return flags, overrides


def search_path(flags: Sequence[str]) -> list[str]:
    """The override that makes `--config-dir DIR` known to compose()."""
    folders = [b for a, b in pairwise(flags) if a in ("--config-dir", "-cd")]
    folders += [flag.split("=", 1)[1] for flag in flags if flag.startswith("--config-dir=")]
    for folder in folders:
        if not Path(folder).is_dir():
            raise CondsimError(f"--config-dir {folder}: there is no such folder")
    paths = [f"file://{Path(folder).resolve()}" for folder in folders]
    return [f"hydra.searchpath=[{','.join(paths)}]"] if paths else []


def compose_config(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """The composed config, outside of a Hydra job (inside one, call ``hydra.compose``)."""
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        return compose(config_name, list(overrides))


def checked_arguments(config_name: str, argv: Sequence[str]) -> list[str]:
    """``argv`` as Hydra wants it. Raises CondsimError where Hydra would refuse it, with the nearest valid names."""
    flags, overrides = split_arguments(argv)
    overrides = _as_hydra_writes(config_name, search_path(flags), overrides)
    if not INFORMATION & set(flags):
        check_overrides(config_name, flags, overrides)
    return [*overrides, *flags]


def _as_hydra_writes(config_name: str, base: list[str], overrides: list[str]) -> list[str]:
    """A choice may be named by its place, as its settings are: method.base=clay is method@method.base=clay to Hydra.

    And recipe=null, which Hydra cannot read, is ~recipe.
    """
    parsed = dict(zip(overrides, _parse(overrides), strict=True))
    for text, override in parsed.items():
        if override.value() is None and override.key_or_group in WITHOUT and override.type == OverrideType.CHANGE:
            return _as_hydra_writes(config_name, base, [f"~{o.split('=')[0]}" if o == text else o for o in overrides])
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        groups = _groups(GlobalHydra.instance().config_loader())
    named = {text: o for text, o in parsed.items() if _may_name_a_part(o) and not _is_group(o, groups)}
    chosen = [text for text in next(_each_swept_value_once(overrides)) if _is_group(_parse([text])[0], groups)]
    places = _places(config_name, base + chosen) if named else {}
    for text, override in named.items():
        if override.key_or_group in places:
            written = f"{places[override.key_or_group]}={text.split('=', 1)[1]}"
            # Once more: what was chosen may have parts of its own, such as method.base.phrases=llm.
            return _as_hydra_writes(config_name, base, [written if o == text else o for o in overrides])
    return overrides


def _may_name_a_part(override: Override) -> bool:
    """Whether it gives a word, or several to sweep over, to a plain key."""
    if override.type != OverrideType.CHANGE or override.package is not None:
        return False
    value = override.value()
    words = value.list if isinstance(value, ChoiceSweep) else [value]
    return any(isinstance(word, (str, QuotedString)) for word in words)


def _places(config_name: str, chosen: list[str]) -> dict[str, str]:
    """Where the method's parts are ("method.base", and for short "base") -> the config groups that fill them."""
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        try:
            choices = compose(config_name, chosen, return_hydra_config=True).hydra.runtime.choices
        except REFUSALS:
            return {}  # what is wrong is told by check_overrides
    parts = [str(group) for group in choices if str(group).startswith(("method@", "method/"))]
    places = {group.rsplit("@", 1)[-1].replace("/", "."): group for group in parts}
    return {place.removeprefix("method."): group for place, group in places.items()} | places


def check_overrides(config_name: str, flags: Sequence[str], overrides: Sequence[str]) -> None:
    """Compose the config with each swept value once; raise CondsimError with the nearest valid names where it fails."""
    base = search_path(flags)
    for combination in _each_swept_value_once(overrides):
        with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            try:
                compose(config_name, base + combination)
            except REFUSALS as error:
                raise CondsimError(_explain(config_name, base, combination, error)) from None


def _parse(overrides: Sequence[str]) -> list[Override]:
    parser = OverridesParser.create()
    parsed = []
    for override in overrides:
        try:
            parsed.append(parser.parse_override(override))
        except HydraException as error:
            reason = str(error).splitlines()[0]
            raise CondsimError(f"cannot read {override!r} (expected name=value): {reason}") from None
    return parsed


def _each_swept_value_once(overrides: Sequence[str]) -> Iterator[list[str]]:
    """Override lists without sweeps which together use every swept choice once (not their product), and of a setting
    that is swept the first value: a setting takes any."""
    choices = []
    for text, override in zip(overrides, _parse(overrides), strict=True):
        if override.is_sweep_override() and override.is_discrete_sweep():
            name = text.split("=", 1)[0]
            values = [f"{name}={value}" for value in override.sweep_string_iterator()]
            choices.append(values[:1] if "." in override.key_or_group else values)
        elif override.is_sweep_override():
            choices.append([])  # an interval: the sweeper picks the values
        else:
            choices.append([text])
    longest = max((len(values) for values in choices), default=1)
    for i in range(max(1, longest)):
        yield [values[min(i, len(values) - 1)] for values in choices if values]


def _explain(config_name: str, base: list[str], overrides: list[str], error: Exception) -> str:
    """What is wrong with the first offending override, found by adding them one by one: groups first, then keys."""
    loader = GlobalHydra.instance().config_loader()
    groups = _groups(loader)
    accepted = list(base)
    parsed = _parse(overrides)
    for text, override in sorted(zip(overrides, parsed, strict=True), key=lambda pair: not _is_group(pair[1], groups)):
        try:
            compose(config_name, [*accepted, text])
            accepted.append(text)
        except REFUSALS as found:
            if _is_group(override, groups):
                group = override.key_or_group
                asked = "null" if override.value() is None else str(override.value())
                return f"there is no {group} {asked!r}. {did_you_mean(asked, _options(loader, group))}"
            return _explain_key(config_name, accepted, override, groups, found)
    return str(error)


def _groups(loader: Any) -> set[str]:
    return {group.split("@")[0] for group in loader.list_groups("")} - {"hydra"}


def _is_group(override: Override, groups: Iterable[str]) -> bool:
    return override.key_or_group.split("/")[0] in groups and "." not in override.key_or_group


def _options(loader: Any, group: str, prefix: str = "") -> list[str]:
    """The choices of a group, those of its folders as "folder/choice"."""
    own = [prefix + name for name in loader.get_group_options(group)]
    nested = [] if group == "method" else loader.list_groups(group)  # there, parts of a method that are no methods
    return own + [option for folder in nested for option in _options(loader, f"{group}/{folder}", f"{prefix}{folder}/")]


def _explain_key(config_name: str, accepted: list[str], override: Override, groups: set[str], error: Exception) -> str:
    key = override.key_or_group
    node: Any = compose(config_name, accepted)
    walked: list[str] = []
    for part in key.split("."):
        if not OmegaConf.is_dict(node) or part not in node:
            names = {str(name) for name in node} if OmegaConf.is_dict(node) else set()
            names |= groups if not walked else set()
            names -= {"_target_", "hydra"}
            place = f"{'.'.join(walked)} has no setting" if walked else "there is no setting"
            return f"{place} {part!r}, asked for by {override.input_line!r}. {did_you_mean(part, names)}"
        node = node[part]
        walked.append(part)
    return f"{override.input_line!r}: {str(error).splitlines()[0]}"
