"""From a command line to one config per job: Hydra composes the chosen groups, the settings are set on top.

Hydra composes each combination of choices once, however many settings are swept, and reads each YAML once. Its own
settings (the node ``hydra``) are left out: they take most of the time of a composition, and no command reads them.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Any, TypeVar

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.defaults_list import create_defaults_list
from hydra._internal.utils import create_config_search_path
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from condsim.harness.configs import plain
from condsim.harness.errors import CondsimError
from condsim.harness.run.record import flat
from condsim.harness.settings.arguments import Arguments, Setting, read_arguments
from condsim.harness.settings.candidates import job_with_choice
from condsim.harness.settings.checks import OWN, as_typed, check_settings, require_set
from condsim.harness.settings.help import print_help
from condsim.harness.settings.mistakes import explain_choices, explain_setting

CONFIGS = "pkg://condsim.conf"
OPTIONAL = ("recipe", "triplets", "experiment")
"""Groups of which nothing must be chosen: ``recipe=null``."""
REFUSALS = (HydraException, OmegaConfBaseException, ValueError)
"""What Hydra raises for a config that cannot be composed."""


@dataclass(frozen=True)
class Composed:
    """One combination of choices, before any setting is set."""

    config: DictConfig
    groups: tuple[str, ...]
    """The overrides that chose it."""
    choices: Mapping[str, str | None]
    """Config group, such as "method" or "method@method.base" -> what is chosen."""
    multirun: bool
    """Whether an experiment sweeps by itself."""
    swept: Mapping[str, Any]
    """Setting -> the values, with commas, that an experiment sweeps."""

    @property
    def parts(self) -> dict[str, str]:
        """Where the method has exchangeable parts ("method.base") -> the config group that fills them."""
        groups = [group for group in self.choices if group.startswith(("method@", "method/"))]
        return {group.rsplit("@", 1)[-1].replace("/", "."): group for group in groups}


T = TypeVar("T")


def _copied(config: T) -> T:
    copied: T = pickle.loads(pickle.dumps(config))  # a quarter of the time of deepcopy
    return copied


class _Yamls(CachingConfigRepository):
    """Reads each YAML once. A composition gets copies, because it changes what it gets."""

    def load_config(self, config_path: str) -> ConfigResult | None:
        return _copied(super().load_config(config_path))

    def __deepcopy__(self, memo: object) -> _Yamls:
        return self  # compositions share it: CachingConfigRepository copies what it is made of


class Composer:
    """Composes the config of one command, with the user's own config folders first."""

    def __init__(self, command: str, folders: Sequence[str] = ()) -> None:
        self.name = command.replace("-", "_")
        search_path = create_config_search_path(CONFIGS)
        for folder in folders:
            search_path.prepend("command-line", f"file://{folder}")
        self.folders = tuple(folders)
        setup_globals()
        self._loader = ConfigLoaderImpl(search_path)
        self._yamls = _Yamls(self._loader.repository)
        groups = {group.split("@")[0] for group in self._loader.list_groups("")}
        self.groups = groups - {"hydra", *OWN.get(self.name, {})}  # a folder results/ of the user's is no group
        self.compose = cache(self._compose)

    def _compose(self, groups: tuple[str, ...]) -> Composed:
        """Raises what is in ``REFUSALS``."""
        yamls = CachingConfigRepository(self._yamls)
        overrides = OverridesParser.create().parse_overrides(list(groups))
        defaults = create_defaults_list(yamls, self.name, overrides, prepend_hydra=False, skip_missing=False)
        config = self._loader._compose_config_from_defaults_list(defaults.defaults, yamls)
        multirun = OmegaConf.select(config, "hydra.mode") == "MULTIRUN"
        params = OmegaConf.select(config, "hydra.sweeper.params")
        swept = {} if params is None else plain(params)
        config.pop("hydra", None)
        OmegaConf.set_struct(config, True)
        self._loader._apply_overrides_to_config(defaults.config_overrides, config)
        return Composed(config, groups, dict(defaults.overrides.known_choices), multirun, swept)

    def is_group(self, name: str) -> bool:
        """Whether an override of ``name`` chooses from a config group: "method", "method@method.base"."""
        group = name.split("@")[0]
        return "." not in group and group.split("/")[0] in self.groups

    def target_in_yaml(self, path: str) -> str | None:
        """The ``_target_`` that the YAML ``path`` ("method/clay") itself names; None: none, or it comes from another.

        Quicker than a composition, which reads every YAML.
        """
        try:
            yaml = self._yamls.load_config(path)
        except REFUSALS:
            return None
        if yaml is None or not OmegaConf.is_dict(yaml.config) or OmegaConf.is_missing(yaml.config, "_target_"):
            return None
        target = OmegaConf.to_container(yaml.config).get("_target_")  # type: ignore[union-attr, call-overload]
        return None if target is None else str(target)

    def chosen(self, settings: Sequence[Setting]) -> Composed:
        """What the groups among ``settings`` choose. Raises CondsimError with the nearest valid names."""
        groups = [
            f"~{setting.name}" if setting.text == "null" and setting.name in OPTIONAL else setting.argument
            for setting in settings
            if self.is_group(setting.name)
        ]
        try:
            return self.compose(tuple(groups))
        except REFUSALS as error:
            raise CondsimError(explain_choices(self, groups, error)) from None

    def job(self, settings: Sequence[Setting]) -> Job:
        """One job, checked. Raises CondsimError that names the setting at fault."""
        groups = [setting for setting in settings if self.is_group(setting.name)]
        values = [setting for setting in settings if not self.is_group(setting.name)]
        composed = self.chosen(groups)
        while part := next((setting for setting in values if setting.names_a_choice(composed.parts)), None):
            # Once more after each: a part that was chosen may have parts of its own, such as method.base.phrases=llm.
            values.remove(part)
            groups.append(Setting.read(f"{composed.parts[part.name]}={part.text}"))
            composed = self.chosen(groups)
        config = _copied(composed.config)
        # The class first: it says what type the other settings have.
        for setting in sorted(values, key=lambda setting: not setting.name.endswith("_target_")):
            try:
                ConfigLoaderImpl._apply_overrides_to_config([as_typed(setting, config, self.name)], config)
            except REFUSALS as error:
                raise CondsimError(explain_setting(self, config, setting, error)) from None
        _resolve_choices(composed.choices)
        check_settings(config, self.name)
        return Job(config, tuple(setting.argument for setting in settings), self, composed)


def _resolve_choices(choices: Mapping[str, str | None]) -> None:
    """Let settings refer to ``${hydra:runtime.choices.captions}`` and ``${hydra:runtime.cwd}``."""
    runtime = {"choices": dict(choices), "cwd": os.getcwd()}
    HydraConfig.instance().cfg = OmegaConf.create({"hydra": {"runtime": runtime}})  # type: ignore[assignment]


@dataclass(frozen=True)
class Job:
    """What one job runs with."""

    config: DictConfig
    """Its settings, composed and checked."""
    arguments: tuple[str, ...]
    """The choices and settings that make it, as they were typed."""
    composer: Composer
    composed: Composed
    open_settings: tuple[str, ...] = ()
    """Full names of the settings that are chosen on validation data; ``config`` has the first candidate's values."""
    candidates: tuple[Job, ...] = ()
    """One job per candidate."""

    @property
    def method_name(self) -> str:
        """The name of the chosen YAML; the class's where another class was put in its place."""
        node = self.config.method
        target = None if OmegaConf.is_missing(node, "_target_") else OmegaConf.select(node, "_target_")
        choice = str(self.composed.choices["method"])
        if target is None or target == self.composer.target_in_yaml(f"method/{choice}"):
            return choice
        usual = self._usual.config.method
        known = None if OmegaConf.is_missing(usual, "_target_") else OmegaConf.select(usual, "_target_")
        return choice if target == known else str(target).rsplit(".", 1)[-1]

    @property
    def changed_settings(self) -> dict[str, Any]:
        """Those settings of the method, flat, that differ from its YAML as composed for this benchmark and recipe.

        A wrapped method that was exchanged is one setting ("base": "clay"), beside those that differ from its own YAML.
        """
        usual, choices = self._usual, self.composed.choices
        places = {group: place for place, group in self.composed.parts.items()}
        exchanged = {g: str(choices[g]) for g in places if usual.choices.get(g, choices[g]) != choices[g]}
        if exchanged:
            usual = self.composer.compose((*usual.groups, *(f"{g}={c}" for g, c in sorted(exchanged.items()))))
        defaults = flat(plain(usual.config.method))
        changed = {
            key: value
            for key, value in flat(plain(self.config.method)).items()
            if not key.endswith("_target_") and (key not in defaults or defaults[key] != value)
        }
        parts = {places[group].removeprefix("method."): choice for group, choice in sorted(exchanged.items())}
        return parts | changed

    def replaced(self, settings: Mapping[str, Any]) -> Job:
        """The job with other values, by full name ("method.checkpoint")."""
        if not settings:
            return self
        config = self.config.copy()
        for name, value in settings.items():
            OmegaConf.update(config, name, value, force_add=True)
        return replace(self, config=config)

    @property
    def _usual(self) -> Composed:
        """Composed with what a method's own settings may depend on: benchmark, and recipe of `condsim train`."""
        choices = self.composed.choices
        groups = [group for group in ("method", "benchmark", "recipe") if group in choices]
        typed = tuple(text for text in self.composed.groups if text.lstrip("+~").partition("=")[0] in groups)
        usual = self.composer.compose(typed)
        if all(usual.choices.get(group) == choices[group] for group in groups):
            return usual
        return self.composer.compose(tuple(f"{g}={choices[g]}" if choices[g] else f"~{g}" for g in groups))


def jobs(command: str, argv: Sequence[str]) -> Iterator[Job]:
    """Each job that ``condsim command argv`` means, in order; none for --help and --cfg, which print.

    All are composed and checked before the first is given: CondsimError names what is wrong. While a job is worked on,
    ``${hydra:runtime.choices...}`` are its choices.
    """
    arguments = read_arguments(argv)
    composer = Composer(command, arguments.config_folders) if arguments.config_folders else _composer(command)
    if arguments.help:
        job = composer.job(next(_combinations(composer, arguments)))
        print_help(command, job.config, job.composed.choices, arguments.config_folders)
        return
    planned = [job_with_choice(composer, settings) for settings in _combinations(composer, arguments)]
    for job in () if arguments.show_config else planned:
        require_set(job.config, composer.name)
    for number, job in enumerate(planned):
        _resolve_choices(job.composed.choices)
        if arguments.show_config:
            print("---\n" * (number > 0) + OmegaConf.to_yaml(job.config), end="")
        else:
            yield job


@cache
def _composer(command: str) -> Composer:
    """The YAMLs of condsim itself are read once per process, as its modules are."""
    return Composer(command)


def for_each_job(command: str, argv: Sequence[str], run: Callable[[dict[str, Any]], int]) -> int:
    """Call ``run`` with the settings of each job; the largest of their exit statuses.

    A job that raises CondsimError does not stop the others: the error is raised after the last one.
    """
    statuses, errors = [0], []
    for job in jobs(command, argv):
        try:
            statuses.append(run(plain(job.config)))
        except CondsimError as error:
            errors.append(error)
    if errors:
        raise errors[0] if len(errors) == 1 else CondsimError("; ".join(map(str, errors)))
    return max(statuses)


def _combinations(composer: Composer, arguments: Arguments) -> Iterator[tuple[Setting, ...]]:
    """The settings of each job: one, or with -m one per combination of the values that are swept."""
    settings = arguments.settings
    first = composer.chosen([setting.each()[0] if setting.is_sweep else setting for setting in settings])
    if not arguments.multirun and not first.multirun:
        for setting in settings:
            if setting.is_sweep and composer.is_group(setting.name):
                raise CondsimError(f"{setting.argument} has several values: add -m to run each of them")
        yield settings
        return
    typed = {setting.name for setting in settings}
    of_experiment = [Setting.read(f"{name}={value}") for name, value in first.swept.items() if name not in typed]
    yield from product(*(setting.each() for setting in (*of_experiment, *settings)))


def compose_config(command: str, arguments: Sequence[str]) -> DictConfig:
    """The config of the only job that ``arguments`` mean."""
    (job,) = jobs(command, arguments)
    return job.config
