"""`condsim ls`: list methods, benchmarks, backbones and what else can be chosen, one line per choice."""

from __future__ import annotations

from collections.abc import Sequence

from condsim.harness.errors import CondsimError, did_you_mean
from condsim.harness.settings.arguments import config_folders
from condsim.harness.settings.config_files import choices_of, description, groups
from condsim.harness.terminal.parser import Parser

EXAMPLES = """\
examples:
  condsim ls                                 the groups
  condsim ls methods                         every method, with what it does
  condsim ls methods --config-dir my_configs  those in my_configs too
"""


def main(argv: Sequence[str]) -> int:
    parser = Parser("condsim ls", __doc__, epilog=EXAMPLES)
    parser.add_argument("group", nargs="?", help="such as methods (default: list the groups)")
    parser.add_argument("--config-dir", "-cd", action="append", default=[], metavar="FOLDER", help="your own configs")
    options = parser.parse_args(argv)
    folders = config_folders(options.config_dir)
    known = groups(folders)
    if options.group is None:
        _print_lines({group: f"{len(choices_of(group, folders))} choices" for group in known})
        return 0
    group = _group(options.group, known)
    _print_lines({name: description(path).split("\n")[0] for name, path in choices_of(group, folders).items()})
    return 0


def _group(name: str, known: Sequence[str]) -> str:
    """The group that ``name`` means: "methods", "method" and "phrases" for "method/phrases"."""
    names = {group: group for group in known} | {group.rsplit("/", 1)[-1]: group for group in known}
    for candidate in (name, name.removesuffix("s"), name.removesuffix("es")):
        if candidate in names:
            return names[candidate]
    raise CondsimError(f"there is no group {name!r}. {did_you_mean(name, names)}")


def _print_lines(lines: dict[str, str]) -> None:
    width = max(map(len, lines), default=0)
    for name, text in lines.items():
        print(f"{name.ljust(width)}  {text}".rstrip())
