"""`condsim bench`: what Hydra composes is run, finished runs are skipped, failures are told and do not stop a sweep."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from condsim.harness.console import console, report_run
from condsim.harness.errors import CondsimError, NotApplicable
from condsim.harness.hydra_command import run_jobs
from condsim.harness.leaderboard import print_leaderboard, write_leaderboard
from condsim.harness.record import Record, read_record
from condsim.harness.tracking import Tracker


@dataclass
class Outcomes:
    """What became of the runs of one command."""

    done: list[Record] = field(default_factory=list)
    skipped: list[Record] = field(default_factory=list)
    not_applicable: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Method -> (task, why not) of those it was not run on."""
    failed: list[str] = field(default_factory=list)
    results: Path = Path("results")
    trackers: list[Tracker] = field(default_factory=list)

    @property
    def nothing(self) -> bool:
        return not (self.done or self.skipped or self.not_applicable or self.failed)

    def summary(self) -> str:
        parts = [f"{len(self.done)} run", f"{len(self.skipped)} already done"]
        if self.not_applicable:
            parts.append(f"{sum(map(len, self.not_applicable.values()))} not applicable")
        if self.failed:
            parts.append(f"{len(self.failed)} FAILED")
        return ", ".join(parts)


def main(argv: Sequence[str]) -> int:
    outcomes = Outcomes()

    def job(config: DictConfig) -> None:
        bench(config, outcomes)

    run_jobs("bench", argv, job)
    return conclude(outcomes)


def conclude(outcomes: Outcomes) -> int:
    """Rebuild the leaderboard, show what this command's runs came to; the exit status says whether all went well."""
    for tracker in outcomes.trackers:
        tracker.finish()
    if outcomes.nothing:
        return 0  # --help, --cfg job and the like
    rows = write_leaderboard(outcomes.results)
    ran = {record.run for record in (*outcomes.done, *outcomes.skipped)}
    print_leaderboard([row for row in rows if row["run"] in ran])
    for name, left_out in outcomes.not_applicable.items():
        tasks = ", ".join(task for task, _ in left_out)
        console.print(f"{name} cannot be asked {tasks}; the first: {left_out[0][1]}", style="dim", markup=False)
    for reason in outcomes.failed:
        console.print(f"failed: {reason}", style="bold red", markup=False)
    console.print(f"{outcomes.summary()}; {outcomes.results / 'leaderboard.csv'} written")
    return 1 if outcomes.failed else 0


def bench(config: DictConfig, outcomes: Outcomes) -> None:
    """One Hydra job: one method against the chosen tasks of one benchmark."""
    outcomes.results = Path(config.results)
    name = method_name(config)
    try:
        from condsim.harness.run import RunSettings, folder_of_run, run_task  # torch: seconds to import

        benchmark = _made_once(_plain(config.benchmark)).select(config.tasks and list(config.tasks))
        backbone = _made_once(_plain(config.backbone))
        method_config = _plain(config.method)
        method = make(method_config)
        tracker: Tracker = _made_once(_plain(config.tracking))
        if tracker not in outcomes.trackers:
            outcomes.trackers.append(tracker)
        settings = RunSettings(
            name, method_config, changed_settings(method_config), config.statistics.resamples, config.statistics.seed,
            config.top,
        )  # fmt: skip
    except CondsimError as error:
        outcomes.failed.append(f"{name}: {error}")
        return
    for task in benchmark.tasks:
        label = f"{name} on {task.full_name}"
        try:
            folder = folder_of_run(outcomes.results, task, backbone, settings)
            finished = None if config.force else finished_run(folder)
            if finished is not None:
                outcomes.skipped.append(finished)
                continue
            record = run_task(outcomes.results, benchmark, task, method, backbone, settings)
        except NotApplicable as reason:
            outcomes.not_applicable.setdefault(name, []).append((task.full_name, str(reason)))
        except CondsimError as error:
            outcomes.failed.append(f"{label}: {error}")
            console.print(f"{label}: {error}", style="red", markup=False)
        except Exception as error:  # a fault of ours or of a user's method: the sweep goes on, the log says where
            log = outcomes.results / "errors" / f"{settings.method}-{task.benchmark}-{task.name}.txt"
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(traceback.format_exc(), encoding="utf-8")
            outcomes.failed.append(f"{label}: {type(error).__name__}: {error} (traceback in {log})")
            console.print(outcomes.failed[-1], style="red", markup=False)
        else:
            outcomes.done.append(record)
            report_run(record)
            if task.submission is not None:
                console.print(f"files for the benchmark's own server: {folder / 'submission'}", markup=False)
            tracker.log(record)


def finished_run(folder: Path) -> Record | None:
    """The record in ``folder``; None where there is none yet or where it is corrupt and so must be made again."""
    try:
        return read_record(folder)
    except ValueError:
        return None


def make(config: Mapping[str, Any]) -> Any:
    """What a config's ``_target_`` names, made with its settings."""
    if not config.get("_target_") or config["_target_"] == "???":
        raise CondsimError("this choice names no class: set its _target_, as in method._target_=my_module.MyMethod")
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


def _key(choices: Mapping[str, Any]) -> tuple[str, str]:
    return str(choices["method"]), str(choices["benchmark"])


@cache
def _composed_method(
    method_and_benchmark: tuple[str, str], parts: tuple[tuple[str, str], ...] = ()
) -> tuple[dict[str, Any], dict[str, str]]:
    """The method's config as its YAML has it, and what fills its parts; found where the job's own config was found."""
    method, benchmark = method_and_benchmark
    overrides = [f"method={method}", f"benchmark={benchmark}", *(f"{group}={choice}" for group, choice in parts)]
    config = compose("bench", overrides, return_hydra_config=True)
    usual = {group: str(choice) for group, choice in config.hydra.runtime.choices.items() if _is_part(group)}
    return _plain(config.method), usual


def _plain(node: DictConfig) -> dict[str, Any]:
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


def _made_once(config: dict[str, Any]) -> Any:
    """The jobs of a sweep share benchmarks and backbones: the same config gives the same object."""
    return _make_cached(json.dumps(config, sort_keys=True))


@cache
def _make_cached(config: str) -> Any:
    return make(json.loads(config))
