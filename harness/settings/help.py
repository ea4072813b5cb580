"""`condsim COMMAND --help` of a composed command: its groups with their choices, its settings with their meaning."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from condsim.harness.run.record import typed
from condsim.harness.settings.checks import is_filled
from condsim.harness.settings.config_files import choices_of, comments, config_roots, description

FLAGS = """\
  -m, --multirun       run once per combination of the values between commas: method.rank=2,5,10
  --config-dir FOLDER  search FOLDER for choices first: FOLDER/method/mine.yaml is method=mine
  --cfg job            print the settings and run nothing
  -h, --help           show this page; with method=NAME it shows that method's settings
"""


def print_help(command: str, config: DictConfig, groups: Mapping[str, str | None], folders: Sequence[str] = ()) -> None:
    """Print the page for what is chosen: only the groups and settings of this command."""
    main = config_roots()[-1] / f"{command.replace('-', '_')}.yaml"
    print(description(main))
    print(f"\nusage: condsim {command} [GROUP=CHOICE ...] [SETTING=VALUE ...] [options]" if groups else
          f"\nusage: condsim {command} [SETTING=VALUE ...] [options]")  # fmt: skip
    if groups:
        print("\nGroups (the current choice in brackets; `condsim ls GROUP` describes the choices):")
        for group, choice in groups.items():
            place = group.rsplit("@", 1)[-1].replace("/", ".")
            known = choices_of(group.split("@")[0], folders)
            print(_wrapped(f"  {place:<17} ", f"[{choice or 'null'}]  {', '.join(known)}"))
    print("\nSettings:")
    comment_of = {**comments(main)}
    for group, choice in groups.items():
        path = choices_of(group.split("@")[0], folders).get(str(choice))
        if path is not None:
            package = group.rsplit("@", 1)[-1].replace("/", ".")
            is_global = "# @package _global_" in path.read_text(encoding="utf-8")
            comment_of |= {key if is_global else f"{package}.{key}": text for key, text in comments(path).items()}
    entries = list(_entries(config, ""))
    width = min(48, max((len(f"{name}={value}") for name, value in entries), default=0))
    for name, value in entries:
        start, text = f"  {f'{name}={value}':<{width}}  ", comment_of.get(name, "")
        if len(start) > width + 4 and text:  # a long value has its own line
            print(start.rstrip())
            start = " " * (width + 4)
        print(_wrapped(start, text))
    print("\nOptions:")
    print(FLAGS, end="")


def _entries(node: DictConfig, prefix: str) -> Iterator[tuple[str, str]]:
    for key in map(str, node):
        name, value = f"{prefix}{key}", node._get_node(key)
        if is_filled(value):
            yield from _entries(value, f"{name}.")
        elif key != "_target_":
            try:
                shown = "???" if OmegaConf.is_missing(node, key) else node[key]
                yield name, typed(list(shown) if isinstance(shown, ListConfig) else shown)
            except OmegaConfBaseException:  # it refers to something that is not set yet
                yield name, "???"


def _wrapped(start: str, text: str) -> str:
    columns = max(60, shutil.get_terminal_size((100, 24)).columns)
    lines = textwrap.wrap(text, max(30, columns - len(start)), break_long_words=False) or [""]
    return "\n".join([(start + lines[0]).rstrip(), *(" " * len(start) + line for line in lines[1:])])
