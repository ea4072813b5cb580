"""Work for an engine in a user's own file: functions and parts whose process may be killed."""

import os
import signal
from collections.abc import Callable
from pathlib import Path


def die_once(mark: Path) -> None:
    """Kill this process, unless one has died for the same ``mark``."""
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def squares(mark: Path) -> Callable[[int], tuple[int, int]]:
    """Number -> its square, and the process; 5 is deadly once and 99 always, and a negative number is refused."""

    def square(number: int) -> tuple[int, int]:
        if number < 0:
            raise ValueError(f"{number} is negative")
        if number == 3:
            print("three comes through")
        if number == 5:
            die_once(mark)
        if number == 99:
            os.kill(os.getpid(), signal.SIGKILL)
        return number * number, os.getpid()

    return square


class Part:
    """A part that adds to a total."""

    def __init__(self, number: int, mark: Path) -> None:
        self.number, self.mark, self.total = number, mark, 0

    def pid(self) -> int:
        return os.getpid()

    def add(self, number: int) -> int:
        self.total += number
        return self.number * self.total

    def deadly_total(self) -> int:
        if self.number == 1:
            die_once(self.mark)
        return self.total
