"""Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from condsim.harness.errors import CondsimError
from condsim.harness.results.leaderboard import Leaderboard
from condsim.harness.run.record import Record, settings_text
from condsim.harness.terminal.console import console
from condsim.harness.tracking.careful import CarefulTracker, metric_numbers


class WandbTracking(CarefulTracker):
    """Weights & Biases: a W&B run for each record, and one for the group's leaderboard and plots."""

    def __init__(
        self, results: str | Path, project: str, mode: str = "offline", entity: str | None = None,
        group: str | None = None, timeout: float = 30,
    ) -> None:  # fmt: skip
        super().__init__(results, group)
        if mode not in ("offline", "online"):
            raise CondsimError(f"tracking.mode={mode} should be offline or online")
        self.project, self.mode, self.entity, self.timeout = project, mode, entity, timeout
        self.training: tuple[str, Any] | None = None
        """The name and the open W&B run of the training that reported last."""

    def report_run(self, record: Record) -> None:
        run = self._start(
            f"{record.full_task} {record.method} {settings_text(record.settings)}".rstrip(), "run", record.config
        )
        run.log({"queries": record.queries, **metric_numbers(record)})
        run.finish()

    def report_group(self, leaderboard: Leaderboard, plots: list[Path]) -> None:
        import wandb

        frame = leaderboard.to_frame().drop(columns="rank")
        texts = frame.select_dtypes(exclude="number").columns  # W&B's tables want one type per column
        cells: Any = frame.astype(dict.fromkeys(texts, str)).astype(object).where(frame.notna(), None)
        columns: list[Any] = list(frame.columns)
        run = self._start("leaderboard", "leaderboard", {"runs": len(self.runs)})
        images = {f"plots/{path.stem}": wandb.Image(str(path)) for path in plots}
        run.log({"leaderboard": wandb.Table(columns=columns, data=cells.values.tolist()), **images})
        run.finish()
        if self.mode == "offline":
            console.print(
                f"W&B offline runs of group {self.group} are in {self.results / 'wandb'}: `wandb sync` uploads them"
            )

    def report_step(self, name: str, step: int, values: Mapping[str, float]) -> None:
        if self.training is None or self.training[0] != name:
            self.training = name, self._start(name, "train", {})
        self.training[1].log(dict(values), step=step)

    def close(self) -> None:
        if self.training is not None:
            self.training[1].finish()
            self.training = None

    def _start(self, name: str, kind: str, config: dict[str, Any]) -> Any:
        import wandb

        self.close()  # W&B has one open run at a time
        if self.mode == "online" and not wandb.login(prompt=False):
            raise ValueError("W&B has no API key: run `wandb login`, set WANDB_API_KEY, or use tracking.mode=offline")
        self.results.mkdir(parents=True, exist_ok=True)
        init: Any = wandb.init  # its type wants the mode spelt out
        settings = wandb.Settings(
            silent=True, console="off", init_timeout=self.timeout, x_disable_stats=True, disable_git=True
        )
        return init(
            project=self.project, entity=self.entity, group=self.group, job_type=kind, name=name, config=config,
            mode=self.mode, dir=str(self.results), settings=settings,
        )  # fmt: skip
