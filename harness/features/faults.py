"""Rows that cannot be used, collected and told in one message."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from condsim.harness.errors import CondsimError

SHOWN = 10


class BadRowsError(CondsimError):
    """Some rows of a table cannot be encoded. The message counts them and shows the first ten."""

    def __init__(
        self,
        total: int,
        faults: Mapping[int, str],
        describe: Callable[[int], str],
        advice: str = "",
        skippable: bool = True,
    ) -> None:
        self.faults = dict(sorted(faults.items()))
        """Row -> what is wrong with it: all of them."""
        self.skippable = skippable
        """Whether the rows are at fault, so that one may go on without them, and not what encoded them."""
        lines = [f"{len(faults)} of {total} rows cannot be encoded:"]
        lines += [f"  {describe(row)}: {fault}" for row, fault in list(self.faults.items())[:SHOWN]]
        if len(faults) > SHOWN:
            lines.append(f"  ... and {len(faults) - SHOWN} more")
        super().__init__("\n".join([*lines, advice] if advice else lines))
