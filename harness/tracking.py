"""Where finished records are reported to besides the results folder. A failure to report never fails a run."""

from __future__ import annotations

from typing import Protocol

from condsim.harness.record import Record


class Tracker(Protocol):
    """What ``conf/tracking`` chooses."""

    def log(self, record: Record) -> None:
        """Report one finished run."""
        ...

    def finish(self) -> None:
        """The last run of the command is done."""
        ...


class NoTracking:
    """Report to nobody."""

    def log(self, record: Record) -> None: ...

    def finish(self) -> None: ...
