"""The arguments of a composed command: flags, and settings of the form ``name=value`` in Hydra's grammar."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from condsim.harness.errors import CondsimError
from condsim.harness.terminal.parser import Parser


@dataclass(frozen=True)
class Setting:
    """One ``name=value``, ``+name=value``, ``++name=value`` or ``~name``."""

    argument: str
    """As it was typed."""
    name: str
    """Without the sign before it."""
    text: str
    """The value as it was typed; "" for ``~name``."""
    override: Override | None
    """None: Hydra's grammar has no such value."""

    @classmethod
    def read(cls, argument: str) -> Setting:
        """Raises CondsimError unless ``argument`` is of one of the four forms."""
        name, equals, text = argument.partition("=")
        bare = name.lstrip("+~")
        if not bare or not (equals or name.startswith("~")):
            raise CondsimError(f"cannot read {argument!r} (expected name=value)")
        try:
            override = OverridesParser.create().parse_override(argument)
        except HydraException:
            override = None
        return cls(argument, bare, text, override)

    @property
    def is_sweep(self) -> bool:
        """Whether it has several values: ``a,b``, ``range(1,4)``."""
        return self.override is not None and self.override.is_sweep_override()

    @property
    def names_a_path(self) -> bool:
        """Whether its value, as it was typed, is a file or folder that exists."""
        return bool(self.text) and os.path.exists(os.path.expanduser(self.text))

    def each(self) -> list[Setting]:
        """One setting per value of a sweep. Raises CondsimError for an interval, whose values nobody lists."""
        if self.names_a_path:
            return [self]  # a comma in a file's name separates nothing
        if self.override is None:
            values = self.text.split(",")
        elif not self.is_sweep:
            return [self]
        elif not self.override.is_discrete_sweep():
            raise CondsimError(f"{self.argument}: list the values, as in {self.name}=0.1,0.2")
        else:
            values = list(self.override.sweep_string_iterator())
            typed = self.text.split(",")
            if len(typed) == len(values) and not set(self.text) & set("'\"[]{}()"):
                values = typed  # 2024_05 as it was typed, and not 202405
        return [Setting.read(f"{self.argument.partition('=')[0]}={value.strip()}") for value in values]

    def names_a_choice(self, parts: Collection[str]) -> bool:
        """Whether it chooses what fills one of the method's ``parts``, as ``method.base=clay`` does."""
        plain_word = self.override is not None and isinstance(self.override.value(), str)
        return self.name in parts and plain_word and not self.argument.startswith(("+", "~"))

    @property
    def quoted(self) -> str:
        """The argument as it can be typed in a shell so that the value is taken as it is."""
        inner = self.text.replace("\\", "\\\\").replace('"', '\\"')
        return shlex.quote(f'{self.argument.partition("=")[0]}="{inner}"')


@dataclass(frozen=True)
class Arguments:
    """The whole command line of a composed command."""

    settings: tuple[Setting, ...]
    config_folders: tuple[str, ...] = ()
    """Absolute paths of --config-dir, the first to be searched first."""
    multirun: bool = False
    help: bool = False
    show_config: bool = False


def read_arguments(argv: Sequence[str]) -> Arguments:
    """Raises CondsimError for an unknown flag, a folder that does not exist, and what is not ``name=value``."""
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("settings", nargs="*")
    parser.add_argument("--config-dir", "-cd", action="append", default=[])
    parser.add_argument("--cfg", "-c", choices=["job"])
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--help", "-h", action="store_true")
    options = parser.parse_intermixed_args(argv)
    return Arguments(
        tuple(map(Setting.read, options.settings)),
        config_folders(options.config_dir),
        multirun=options.multirun,
        help=options.help,
        show_config=options.cfg is not None,
    )


def config_folders(folders: Sequence[str]) -> tuple[str, ...]:
    """The absolute paths of ``--config-dir``. Raises CondsimError for a folder that does not exist."""
    paths = [Path(folder).expanduser() for folder in folders]
    for folder, path in zip(folders, paths, strict=True):
        if not path.is_dir():
            raise CondsimError(f"--config-dir {folder}: there is no such folder")
    return tuple(str(path.resolve()) for path in paths)
