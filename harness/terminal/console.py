"""Output on the terminal: rich where there is one, plain where not or where NO_COLOR is set."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Any

from rich.console import Console, ConsoleOptions
from rich.segment import Segment

from condsim.harness.names import escaped


class Terminal(Console):
    """A console that shows every text as it is and never ends the work whose results it shows.

    Control characters and bytes that are not UTF-8 are escaped, markup is not interpreted, letters that the output's
    encoding lacks are escaped. Where the output cannot be written (a full disk, a closed stream), one message goes to
    the error stream and the rest is not shown; ``failed`` is then true. A reader that has left is a BrokenPipeError.
    """

    failed = False

    def render(self, renderable: Any, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(escaped(segment.text), segment.style)

    def print(self, *objects: Any, **options: Any) -> None:
        if self.failed:
            return
        stream: Any = self.file
        with suppress(AttributeError, ValueError, OSError):
            if stream.errors == "strict":
                stream.reconfigure(errors="backslashreplace")
        try:
            super().print(*(escaped(part) if isinstance(part, str) else part for part in objects), **options)
            stream.flush()
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            self.failed = True
            with suppress(OSError, ValueError):
                print(f"condsim: the output cannot be written: {error}; the work continues", file=sys.stderr)
            with suppress(OSError, ValueError, AttributeError):  # or Python itself fails to write it at its end
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


console = Terminal(soft_wrap=True, highlight=False, markup=False, emoji=False)
_errors = Terminal(soft_wrap=True, highlight=False, markup=False, emoji=False, stderr=True)


def warn(*messages: str) -> None:
    """Print each of ``messages`` on the error stream: what is not part of a command's output."""
    for message in messages:
        _errors.print(message, style="yellow")


@cache
def print_note(message: str) -> None:
    """Print ``message`` the first time that the process has it: the jobs of a sweep share benchmarks."""
    console.print(f"note: {message}", style="yellow")
