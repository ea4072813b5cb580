"""`condsim train`: what Hydra composes is trained and then run like any method; what is finished is skipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf

from condsim.harness.commands.bench import Outcomes, bench, conclude
from condsim.harness.commands.hydra_job import run_jobs
from condsim.harness.configs import make_once, method_name
from condsim.harness.errors import CondsimError
from condsim.harness.tracker import Tracker


def main(argv: Sequence[str]) -> int:
    argv = ["dry=true" if argument == "--dry" else argument for argument in argv]
    outcomes = Outcomes()

    def job(config: DictConfig) -> None:
        train_and_run(config, outcomes)

    run_jobs("train", argv, job)
    return conclude(outcomes)


def train_and_run(config: DictConfig, outcomes: Outcomes) -> None:
    """One Hydra job: one training, then the trained method against the chosen tasks of the benchmark."""
    outcomes.results = Path(config.results)
    name = method_name(config)
    settings = OmegaConf.to_container(config, resolve=True)
    assert isinstance(settings, dict)
    trainer = get_method(settings["_target_"])
    tracker: Tracker = make_once(settings["tracking"])  # the one that `bench` below reports to
    if tracker not in outcomes.trackers:
        outcomes.trackers.append(tracker)
    chosen = (text for text in HydraConfig.get().overrides.task if not text.startswith(("method=", "tracking")))
    title = " ".join(["train", name, *chosen])

    def on_row(row: Mapping[str, float]) -> None:
        tracker.log_step(title, int(row["step"]), {key: value for key, value in row.items() if key != "step"})

    try:
        overrides: Mapping[str, Any] = trainer(settings, name, on_row)
    except CondsimError as error:
        outcomes.failed.append(f"training {name}: {error}")
        return
    if not overrides or not config.evaluate:
        return
    evaluated = config.copy()
    for key, value in overrides.items():
        OmegaConf.update(evaluated, key, value, force_add=True)
    bench(evaluated, outcomes)
