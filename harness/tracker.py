"""The tracker contract: a service that finished runs and trainings are reported to (`conf/tracking`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from condsim.harness.run.record import Record


class Tracker(Protocol):
    """Reports runs and trainings. Records are written in any case."""

    def log(self, record: Record) -> None:
        """Report one finished run."""
        ...

    def log_step(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """Report the losses and metrics of a training at ``step``; ``name`` identifies the training in a sweep."""
        ...

    def finish(self) -> None:
        """Called after the last run of the command."""
        ...


class NoTracking:
    """Reports nothing."""

    def log(self, record: Record) -> None: ...

    def log_step(self, name: str, step: int, values: Mapping[str, float]) -> None: ...

    def finish(self) -> None: ...
