"""The tracker contract: where finished records are reported to besides the results folder (`conf/tracking`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from condsim.harness.run.record import Record


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
