"""From ``method.weight=val`` to one job per candidate of that setting, and to the data that it is chosen on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

from omegaconf import DictConfig, OmegaConf

from condsim.harness.configs import make, make_once, plain
from condsim.harness.errors import CondsimError
from condsim.harness.settings.arguments import Setting
from condsim.harness.settings.checks import expected_of
from condsim.harness.settings.kinds import members

if TYPE_CHECKING:
    from condsim.harness.run.choice import Choice
    from condsim.harness.settings.composition import Composer, Job
    from condsim.harness.task import Benchmark

VAL = "val"
"""The value of a setting that is to be chosen."""
_METHOD = "method."


def job_with_choice(composer: Composer, settings: Sequence[Setting]) -> Job:
    """The job of these settings; with one job per candidate where numeric settings of the method have the value val."""
    maybe = [s for s in settings if s.text == VAL and s.name.startswith(_METHOD)]
    if composer.name not in ("bench", "export") or not maybe:
        return composer.job(settings)
    base = composer.job([s for s in settings if s not in maybe])
    open_settings = [s for s in maybe if _takes_number(base.config, s.name)]
    if not open_settings:
        return composer.job(settings)
    fixed = [s for s in settings if s not in open_settings]
    grids = [_candidates(base.config, s.name) for s in open_settings]
    names = [s.name for s in open_settings]
    jobs = tuple(
        composer.job([*fixed, *(Setting.read(f"{name}={value}") for name, value in zip(names, values, strict=True))])
        for values in product(*grids)
    )
    return replace(jobs[0], arguments=tuple(s.argument for s in settings), open_settings=tuple(names), candidates=jobs)


@dataclass(frozen=True)
class CandidateConfig:
    """One candidate of the settings that are chosen, as plain data."""

    values: Mapping[str, Any]
    """By name without "method."."""
    method: Mapping[str, Any]
    """All settings of the method with these values."""


def candidates_of(job: Job) -> tuple[CandidateConfig, ...]:
    """The candidates of a job in order; none where it has no open setting."""
    names = [name.removeprefix(_METHOD) for name in job.open_settings]
    methods = [candidate.config.method for candidate in job.candidates]
    return tuple(
        CandidateConfig({name: OmegaConf.select(method, name) for name in names}, plain(method)) for method in methods
    )


def choice_of(candidates: Sequence[CandidateConfig], config: Mapping[str, Any]) -> Choice | None:
    """How the open settings of a job with the settings ``config`` are chosen; None where it has none."""
    if not candidates:
        return None
    from condsim.harness.run.choice import Candidate, Choice

    methods = tuple(Candidate(candidate.values, make(candidate.method, "method")) for candidate in candidates)
    return Choice(methods, _validation(config["benchmark"], config["validation"]), config["validation"]["metric"])


def _validation(config: Mapping[str, Any], validation: Mapping[str, Any]) -> Benchmark:
    """The benchmark that settings are chosen on: ``validation.benchmark``, else another split of that of ``config``."""
    split = validation["split"]
    if other := other_benchmark(validation):
        config = other
    elif config.get("split", split) == split:
        has = f"is split={config['split']} itself" if "split" in config else "has no splits"
        raise CondsimError(
            f"a setting cannot be chosen on validation.split={split}: the benchmark of this run "
            f"{has}. Name another split, as in validation.split=train, or other data, as in "
            "+benchmark@validation.benchmark=cirr"
        )
    else:
        config = {**config, "split": split} | ({"tasks": None} if "tasks" in config else {})
    benchmark: Benchmark = make_once(config, "validation.benchmark")
    return benchmark.select(validation["tasks"])


def other_benchmark(validation: Mapping[str, Any]) -> dict[str, Any] | None:
    """The settings of ``validation.benchmark``; None where it is not set.

    A benchmark whose YAML also has settings for methods ("@package _global_") is composed one level deeper.
    """
    chosen: dict[str, Any] | None = validation["benchmark"]
    return chosen and chosen.get("benchmark", chosen)


def _candidates(config: DictConfig, name: str) -> list[object]:
    short = name.rpartition(".")[-1]
    values = OmegaConf.select(config, f"choose.{short}")
    grid = OmegaConf.to_container(values) if OmegaConf.is_list(values) else values
    if not isinstance(grid, list) or not grid:
        raise CondsimError(f"{name}={VAL} needs candidates: list them, as in choose.{short}=[1,2,5]")
    return grid


def _takes_number(config: DictConfig, name: str) -> bool:
    """Whether a setting is a number, by the annotation of its class, else by its value in the YAML."""
    expected = members(expected_of(name, config, "bench"))
    kinds = {get_args(kind)[0] if get_origin(kind) is Annotated else kind for kind in expected}
    if kinds & {int, float}:
        return True
    value = OmegaConf.select(config, name, throw_on_missing=False)
    return str not in kinds and isinstance(value, (int, float)) and not isinstance(value, bool)
