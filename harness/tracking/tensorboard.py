"""TensorBoard (the extra `condsim[tensorboard]`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from condsim.harness.errors import CondsimError
from condsim.harness.files.paths import safe_name
from condsim.harness.results.leaderboard import Leaderboard
from condsim.harness.run.record import Record, settings_text
from condsim.harness.terminal.console import console
from condsim.harness.tracking.careful import CarefulTracker, metric_numbers


class TensorBoardTracking(CarefulTracker):
    """TensorBoard: one folder per command, with one TensorBoard run per record and training, and one for the group."""

    def __init__(self, results: str | Path, folder: str | Path, group: str | None = None) -> None:
        super().__init__(results, group)
        self.folder = Path(folder) / self.group
        self.trainings: dict[str, Any] = {}
        """Name -> the open writer."""

    def report_run(self, record: Record) -> None:
        name = safe_name(f"{record.method} {settings_text(record.settings)}".strip())
        writer = self._writer(f"{safe_name(record.benchmark)}/{safe_name(record.task)}/{name}-{record.run}")
        numbers = metric_numbers(record)
        for name, number in numbers.items():
            writer.add_scalar(name, number)
        writer.add_scalar("queries", record.queries)
        writer.add_text("config", _indented(json.dumps(record.config, indent=2, ensure_ascii=False)))
        for summary in self._settings(record, numbers):
            writer.file_writer.add_summary(summary)
        writer.close()

    def report_group(self, leaderboard: Leaderboard, plots: list[Path]) -> None:
        import numpy as np
        from PIL import Image

        writer = self._writer("leaderboard")
        writer.add_text("leaderboard", leaderboard.to_markdown())
        for path in plots:
            with Image.open(path) as picture:
                writer.add_image(f"plots/{path.stem}", np.asarray(picture.convert("RGB")), dataformats="HWC")
        writer.close()
        console.print(f"tracked in {self.folder}: `tensorboard --logdir {self.folder.parent}` shows it")

    def report_step(self, name: str, step: int, values: Mapping[str, float]) -> None:
        if name not in self.trainings:
            self.trainings[name] = self._writer(safe_name(name))
        for key, value in values.items():
            self.trainings[name].add_scalar(key, value, step)
        self.trainings[name].flush()

    def close(self) -> None:
        for writer in self.trainings.values():
            writer.close()

    def _writer(self, run: str) -> Any:
        try:
            import tensorboard  # noqa: F401  # alone, so that no other missing package is reported as this one
        except ImportError:
            raise CondsimError("TensorBoard is not installed: pip install 'condsim[tensorboard]'") from None
        from torch.utils.tensorboard.writer import SummaryWriter

        make_writer: Any = SummaryWriter  # it has no types
        return make_writer(str(self.folder / run))

    def _settings(self, record: Record, numbers: Mapping[str, float]) -> Iterable[Any]:
        """The data of TensorBoard's page HParams: settings and metrics."""
        from torch.utils.tensorboard.summary import hparams

        make_summaries: Any = hparams
        named = {"task": record.full_task, "method": record.method, "backbone": record.backbone, **record.settings}
        plain = {k: v if isinstance(v, (bool, int, float, str)) else str(v) for k, v in named.items()}
        summaries: Iterable[Any] = make_summaries(plain, {name: numbers[name] for name in record.metrics})
        return summaries


def _indented(text: str) -> str:
    """Markdown that shows ``text`` verbatim."""
    return "\n".join(f"    {line}" for line in text.splitlines())
