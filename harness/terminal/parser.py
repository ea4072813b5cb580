"""The options of a command that has no YAML of settings."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

from condsim.harness.errors import CondsimError, did_you_mean


class Parser(argparse.ArgumentParser):
    """Raises CondsimError, with the nearest option or with what a command needs, where argparse ends the process."""

    def __init__(self, prog: str | None = None, description: str | None = None, **options: Any) -> None:
        """``description`` and ``epilog`` keep their lines."""
        super().__init__(prog, None, description, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def add_results(self) -> None:
        """The option ``--results`` of the commands that read records."""
        self.add_argument("--results", type=Path, default=Path("results"), help="folder of records (default: results)")

    def error(self, message: str) -> NoReturn:
        flag = message.partition("unrecognized arguments: ")[2].partition(" ")[0].partition("=")[0]
        if flag.startswith("-"):
            known = (option for option in self._option_string_actions if option.startswith("--"))
            raise CondsimError(f"there is no option {flag}. {did_you_mean(flag, known)}")
        if "arguments are required" in message:
            formatter = self._get_formatter()
            formatter.add_usage(None, self._get_positional_actions(), [])
            usage = " ".join(formatter.format_help().split())
            raise CondsimError(f"{usage} [options]; see `{self.prog} --help`")
        raise CondsimError(message + f"; see `{self.prog} --help`" * self.add_help)
