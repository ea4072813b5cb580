"""`condsim train`: train the composed method, then run it like any method. Finished trainings are skipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condsim.harness.commands.bench import conclude, run_here
from condsim.harness.commands.outcomes import Failed, Outcomes
from condsim.harness.commands.runs import RunState
from condsim.harness.configs import make, make_once, plain
from condsim.harness.errors import CondsimError
from condsim.harness.settings.composition import Job, jobs
from condsim.harness.task import Task
from condsim.harness.terminal.console import console
from condsim.harness.tracker import Tracker

if TYPE_CHECKING:  # it imports torch, and help should not
    from condsim.methods.training.plan import Plan


def main(argv: Sequence[str]) -> int:
    argv = ["dry=true" if argument == "--dry" else argument for argument in argv]
    outcomes, state = Outcomes(), RunState()
    for job in jobs("train", argv):
        train_and_run(job, outcomes, state)
    return conclude(outcomes)


def train_and_run(job: Job, outcomes: Outcomes, state: RunState) -> None:
    """One job: one training, then the trained method on the chosen tasks of the benchmark."""
    from condsim.harness.trainable import Trainable
    from condsim.methods.training.estimate import estimate
    from condsim.methods.training.train import train

    config, name = job.config, job.method_name
    outcomes.results = Path(config.results)
    settings = plain(config)
    tracker: Tracker = make_once(settings["tracking"], "tracking")  # the one that `run_here` below reports to
    if tracker not in outcomes.trackers:
        outcomes.trackers.append(tracker)
    chosen = (text for text in job.arguments if not text.startswith(("method=", "tracking")))
    title = " ".join(["train", name, *chosen])

    def on_row(row: Mapping[str, float]) -> None:
        tracker.log_step(title, int(row["step"]), {key: value for key, value in row.items() if key != "step"})

    try:
        plan = plan_of(settings, name)
        path = plan.checkpoint(Path(settings["checkpoints"]))
        if config.dry:
            for label, value in {**estimate(plan), "would write": str(path)}.items():
                console.print(f"{label:<30} {value}")
            return
        train(plan, path, console.print, on_row, force=config.force)
    except CondsimError as error:
        outcomes.add(Failed.by(error, f"training {name}", outcomes.results))
        return
    if not config.evaluate:
        return
    trained: dict[str, Any] = {"method.checkpoint": str(path)}
    if plan.tune_backbone and isinstance(plan.backbone, Trainable):
        weights = plan.backbone.settings_with(plan.backbone_weights(path))
        trained |= {f"backbone.{key}": value for key, value in weights.items()}
    run_here(job.replaced(trained), outcomes, state)


def plan_of(settings: Mapping[str, Any], name: str) -> Plan:
    """The training that the composed settings describe. Raises CondsimError, see ``make_plan``."""
    from condsim.harness.run.identity import images_digest
    from condsim.harness.settings.candidates import other_benchmark
    from condsim.methods.training.plan import HeldOut, make_plan

    backbone = make(settings["backbone"], "backbone")
    method_settings = settings["method"] | ({"checkpoint": None} if "checkpoint" in settings["method"] else {})
    validation = settings["validation"]
    watch: HeldOut | Sequence[Task] = HeldOut(validation["share"], validation["most"])
    if benchmark := other_benchmark(validation):
        watch = make(benchmark, "validation.benchmark").select(validation["tasks"]).tasks
    return make_plan(
        name,
        make(method_settings, "method"),
        method_settings,
        backbone,
        [make(source, f"triplets.{key}") for key, source in settings["triplets"].items() if source],
        settings["training"],
        watch,
        validation["metric"],
        dry=settings["dry"],
        images_digest=partial(images_digest, backbone),
    )
