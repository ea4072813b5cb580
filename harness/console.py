"""What is said on the terminal: rich where there is one, plain where not or where NO_COLOR is set."""

from __future__ import annotations

from rich.console import Console

from condsim.harness.runs.record import Record

console = Console(soft_wrap=True, highlight=False)


def report_run(record: Record) -> None:
    """One line for one finished run: its first metric with the interval, and its time."""
    first = next(iter(record.metrics.items()), None)
    shown = ", ".join(f"{name}={value}" for name, value in record.settings.items())
    line = f"{record.full_task:<28} {record.method}{f' ({shown})' if shown else ''}"
    if first is not None:
        name, metric = first
        line += f"  {name} {100 * metric.value:.1f} [{100 * metric.low:.1f}, {100 * metric.high:.1f}]"
    console.print(f"{line}  {record.seconds.get('score', 0):.2f} s", markup=False)
