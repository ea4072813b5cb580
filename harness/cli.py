"""`condsim`: names the commands and hands over to them. Imports nothing slow, so that help answers at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

from condsim.harness.errors import CondsimError, did_you_mean

HYDRA = "condsim.harness.commands.hydra_job"
"""The module of those commands that are one function of one config."""

COMMANDS: dict[str, tuple[str, str]] = {
    "bench": ("condsim.harness.commands.bench", "run methods on benchmarks; `-m` sweeps over settings"),
    "leaderboard": ("condsim.harness.commands.leaderboard", "build the leaderboard from the records"),
    "compare": ("condsim.harness.commands.compare", "test methods pairwise on the same queries"),
    "report": (HYDRA, "write the records as one HTML page"),
    "plot": ("condsim.harness.commands.plot", "write the records as figures for a paper"),
    "check": (HYDRA, "say what of a benchmark is there, what is missing and where it is had"),
    "download": (HYDRA, "fetch the parts of a benchmark that may be fetched"),
    "templates": (HYDRA, "make GeneCIS-style templates from annotations"),
    "train": ("condsim.harness.commands.train", "train a method that has weights, and run it"),
    "mine": (HYDRA, "mine training triplets from captions"),
    "train-backbone": (HYDRA, "train the embedded backbone shapes-clip"),
    "cache": ("condsim.harness.commands.cache", "list, verify or prune the stored features"),
}
"""Command -> (module with a ``main(argv) -> exit status``, what it does)."""

USAGE = """\
condsim: which candidate is most similar to a reference, given a condition?

usage: condsim COMMAND [...]

{commands}

  condsim COMMAND --help    what a command takes
  condsim --version         which version this is

Start with `condsim bench`, which runs image_plus_text on the embedded benchmark, and `condsim leaderboard`.
"""


def usage() -> str:
    width = max(map(len, COMMANDS))
    lines = (f"  {name.ljust(width)}  {what}" for name, (_, what) in COMMANDS.items())
    return USAGE.format(commands="\n".join(lines))


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage(), end="")
        return 0
    if arguments[0] == "--version":
        print(version("condsim"))
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"condsim: there is no command {name!r}. {did_you_mean(name, COMMANDS)}", file=sys.stderr)
        return 2
    sys.path.insert(0, os.getcwd())  # a user's own method in the current folder can be named by `_target_`
    try:
        module = import_module(COMMANDS[name][0])
        return int((module.main(name, rest) if module.__name__ == HYDRA else module.main(rest)) or 0)
    except CondsimError as error:
        print(f"condsim {name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            f"\ncondsim {name}: stopped; what is finished is kept, and the same command goes on from there",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:
        sys.stdout = None  # type: ignore[assignment]  # the reader (head, less) has left: nothing more to say
        return 0


if __name__ == "__main__":
    sys.exit(main())
