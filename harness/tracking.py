"""Where finished records are reported to besides the results folder. A failure to report never fails a run."""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from condsim.harness.console import console
from condsim.harness.errors import CondsimError
from condsim.harness.runs.record import Record


class Tracker(Protocol):
    """What ``conf/tracking`` chooses."""

    def log(self, record: Record) -> None:
        """Report one finished run."""
        ...

    def log_step(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """Report where a training stands; ``name`` tells the trainings of a sweep apart."""
        ...

    def finish(self) -> None:
        """The last run of the command is done."""
        ...


class NoTracking:
    """Report to nobody."""

    def log(self, record: Record) -> None: ...

    def log_step(self, name: str, step: int, values: Mapping[str, float]) -> None: ...

    def finish(self) -> None: ...


class CarefulTracker(ABC):
    """Reports the runs of one command as one group; the first failure is told once and ends the reporting."""

    def __init__(self, results: str | Path, group: str | None = None) -> None:
        self.results = Path(results)
        self.group = group or f"bench-{datetime.now():%Y-%m-%d-%H%M%S}-{os.getpid()}"
        self.runs: list[str] = []
        self.failed = False

    def log(self, record: Record) -> None:
        self.runs.append(record.run)
        self._attempt(lambda: self.report_run(record))

    def log_step(self, name: str, step: int, values: Mapping[str, float]) -> None:
        self._attempt(lambda: self.report_step(name, step, values))

    def finish(self) -> None:
        if self.runs:
            with TemporaryDirectory(prefix="condsim-plots-") as folder:
                self._attempt(lambda: self.report_group(*self._summary(Path(folder))))
        self._attempt(self.close)

    @abstractmethod
    def report_run(self, record: Record) -> None:
        """May raise anything."""

    @abstractmethod
    def report_group(self, rows: list[dict[str, Any]], plots: list[Path]) -> None:
        """The group's leaderboard rows, and its plots as PNG files. May raise anything."""

    @abstractmethod
    def report_step(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """May raise anything."""

    def close(self) -> None:  # noqa: B027  # most have nothing to close
        """Nothing more will be reported."""

    def _summary(self, folder: Path) -> tuple[list[dict[str, Any]], list[Path]]:
        from condsim.harness.leaderboard.rows import (
            read_leaderboard,  # read again by the command: these are small files
        )
        from condsim.harness.plots import write_plots
        from condsim.harness.statistics.paired import keep_runs, runs_by_task

        rows = [row for row in read_leaderboard(self.results) if row["run"] in self.runs]
        return rows, write_plots(keep_runs(runs_by_task(self.results), set(self.runs)), folder, ["png"])

    def _attempt(self, report: Callable[[], None]) -> None:
        if self.failed:
            return
        try:
            report()
        except Exception as error:  # whatever a service or a disk may raise: the records are safe
            self.failed = True
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            line = f"{type(self).__name__}: nothing more is tracked in this command: {reason}"
            console.print(line, style="yellow", markup=False)


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
        """The name and the open W&B run of the training that was heard of last."""

    def report_run(self, record: Record) -> None:
        run = self._start(f"{record.full_task} {run_name(record)}", "run", record.config)
        run.log({"queries": record.queries, **metric_numbers(record)})
        run.finish()

    def report_group(self, rows: list[dict[str, Any]], plots: list[Path]) -> None:
        import wandb

        columns: list[Any] = list(dict.fromkeys(column for row in rows for column in row))
        # one type a column, as W&B's tables want it: what is not a number everywhere is text
        cells: list[Any] = [
            [row.get(column) if _numeric(column, rows) else str(row.get(column, "")) for column in columns]
            for row in rows
        ]
        run = self._start("leaderboard", "leaderboard", {"runs": len(self.runs)})
        images = {f"plots/{path.stem}": wandb.Image(str(path)) for path in plots}
        run.log({"leaderboard": wandb.Table(columns=columns, data=cells), **images})
        run.finish()
        if self.mode == "offline":
            console.print(
                f"W&B offline runs of group {self.group} are in {self.results / 'wandb'}: `wandb sync` uploads them",
                markup=False,
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
            raise ValueError("W&B knows no API key: run `wandb login`, set WANDB_API_KEY, or use tracking.mode=offline")
        self.results.mkdir(parents=True, exist_ok=True)
        init: Any = wandb.init  # its type wants the mode spelt out
        settings = wandb.Settings(
            silent=True, console="off", init_timeout=self.timeout, x_disable_stats=True, disable_git=True
        )
        return init(
            project=self.project, entity=self.entity, group=self.group, job_type=kind, name=name, config=config,
            mode=self.mode, dir=str(self.results), settings=settings,
        )  # fmt: skip


class TensorBoardTracking(CarefulTracker):
    """TensorBoard: a folder a command, in it a TensorBoard run for each record and training, and one for the group."""

    def __init__(self, results: str | Path, folder: str | Path, group: str | None = None) -> None:
        super().__init__(results, group)
        self.folder = Path(folder) / self.group
        self.trainings: dict[str, Any] = {}
        """Name -> the open writer."""

    def report_run(self, record: Record) -> None:
        writer = self._writer(f"{record.full_task}/{file_name(run_name(record))}-{record.run}")
        numbers = metric_numbers(record)
        for name, number in numbers.items():
            writer.add_scalar(name, number)
        writer.add_scalar("queries", record.queries)
        writer.add_text("config", _indented(json.dumps(record.config, indent=2, ensure_ascii=False)))
        for summary in self._settings(record, numbers):
            writer.file_writer.add_summary(summary)
        writer.close()

    def report_group(self, rows: list[dict[str, Any]], plots: list[Path]) -> None:
        import numpy as np
        from PIL import Image

        from condsim.harness.leaderboard.table import overview, task_tables, to_markdown

        writer = self._writer("leaderboard")
        writer.add_text("leaderboard", to_markdown([*task_tables(rows), *overview(rows)]))
        for path in plots:
            with Image.open(path) as picture:
                writer.add_image(f"plots/{path.stem}", np.asarray(picture.convert("RGB")), dataformats="HWC")
        writer.close()
        console.print(f"tracked in {self.folder}: `tensorboard --logdir {self.folder.parent}` shows it", markup=False)

    def report_step(self, name: str, step: int, values: Mapping[str, float]) -> None:
        if name not in self.trainings:
            self.trainings[name] = self._writer(file_name(name))
        for key, value in values.items():
            self.trainings[name].add_scalar(key, value, step)
        self.trainings[name].flush()

    def close(self) -> None:
        for writer in self.trainings.values():
            writer.close()

    def _writer(self, run: str) -> Any:
        try:
            import tensorboard  # noqa: F401  # so that nothing else that is missing is taken for it
        except ImportError:
            raise CondsimError("TensorBoard is not installed: pip install 'condsim[tensorboard]'") from None
        from torch.utils.tensorboard.writer import SummaryWriter

        make_writer: Any = SummaryWriter  # it has no types
        return make_writer(str(self.folder / run))

    def _settings(self, record: Record, numbers: Mapping[str, float]) -> Iterable[Any]:
        """What TensorBoard's page of settings against metrics ("HParams") is made of."""
        from torch.utils.tensorboard.summary import hparams

        make_summaries: Any = hparams
        named = {"task": record.full_task, "method": record.method, "backbone": record.backbone, **record.settings}
        plain = {k: v if isinstance(v, (bool, int, float, str)) else str(v) for k, v in named.items()}
        summaries: Iterable[Any] = make_summaries(plain, {name: numbers[name] for name in record.metrics})
        return summaries


class FileTracking(CarefulTracker):
    """A plain folder a command: `runs.jsonl` with a line a run, `leaderboard.csv`, the plots, and `steps.jsonl`."""

    def __init__(self, results: str | Path, folder: str | Path, group: str | None = None) -> None:
        super().__init__(results, group)
        self.folder = Path(folder) / self.group

    def report_run(self, record: Record) -> None:
        line = {
            "group": self.group, "run": record.run, "created": record.created, "task": record.full_task,
            "method": record.method, "backbone": record.backbone, "settings": record.settings,
            "queries": record.queries, **metric_numbers(record), "config": record.config,
        }  # fmt: skip
        self._append("runs.jsonl", line)

    def report_group(self, rows: list[dict[str, Any]], plots: list[Path]) -> None:
        from condsim.harness.leaderboard.rows import to_csv

        (self.folder / "leaderboard.csv").write_text(to_csv(rows), encoding="utf-8")
        for plot in plots:
            (self.folder / plot.name).write_bytes(plot.read_bytes())
        console.print(f"tracked in {self.folder}", markup=False)

    def report_step(self, name: str, step: int, values: Mapping[str, float]) -> None:
        self._append("steps.jsonl", {"group": self.group, "training": name, "step": step, **values})

    def _append(self, name: str, line: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def run_name(record: Record) -> str:
    """The method with its settings, as a person would tell runs of one task apart."""
    return " ".join([record.method, *(f"{key}={value}" for key, value in sorted(record.settings.items()))])


def file_name(name: str, longest: int = 120) -> str:
    """``name`` as one part of a path; of a longer one the beginning and a digest."""
    safe = "".join(letter if letter.isalnum() or letter in "-_=.," else "_" for letter in name)
    if len(safe) <= longest and safe == name.replace(" ", "_"):
        return safe
    return f"{safe[:longest]}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"


def metric_numbers(record: Record) -> dict[str, float]:
    """Metrics with the ends of their intervals, as fractions, and seconds: ``recall@1/low``, ``seconds/score``."""
    numbers: dict[str, float] = {}
    for name, metric in record.metrics.items():
        numbers |= {name: metric.value, f"{name}/low": metric.low, f"{name}/high": metric.high}
    return numbers | {f"seconds/{stage}": value for stage, value in record.seconds.items()}


def _indented(text: str) -> str:
    """Markdown that shows ``text`` letter for letter."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def _numeric(column: str, rows: list[dict[str, Any]]) -> bool:
    return all(isinstance(row.get(column), (int, float, type(None))) for row in rows)
