"""`condsim`: finds the command and calls it. Imports nothing slow, so that help answers at once."""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

from condsim.harness.errors import CondsimError, did_you_mean
from condsim.harness.names import escaped

COMMANDS: dict[str, tuple[str, str]] = {
    "bench": ("bench", "run methods on benchmarks; -m sweeps over settings"),
    "encode": ("encode", "encode the images and conditions of benchmarks, and run nothing"),
    "leaderboard": ("leaderboard", "build the leaderboard from the records, and show or export it"),
    "compare": ("compare", "test methods pairwise on the same queries"),
    "report": ("report", "write the records as one HTML page"),
    "plot": ("plot", "write the records as figures for a paper"),
    "search": ("search", "find pictures in a folder of your own by picture and condition"),
    "explore": ("explore", "look through a folder in a local web page, compare methods, mark results"),
    "export": ("export_rankings", "write the ranking of every query for other programs"),
    "import": ("import_rankings", "measure rankings that another program made"),
    "submission": ("submission", "check files for a benchmark's own server, and keep its answer"),
    "reproduce": ("reproduce", "run a published table, and compare it with what was published"),
    "merge": ("merge", "bring the records of other folders, or of bundles, into one"),
    "bundle": ("bundle", "pack records and environment into one archive, or verify one"),
    "ls": ("ls", "list methods, benchmarks, backbones and other choices"),
    "queries": ("queries", "write what an encoder of your own has to encode: queries and images, with their names"),
    "captions": ("captions", "let a vision model describe the images of a benchmark; every answer is kept"),
    "edits": ("edits", "let a language model describe what each query looks for; every answer is kept"),
    "check": ("check", "show which files of a benchmark you have, which are missing and where to get them"),
    "download": ("download", "fetch the files of a benchmark that need no licence agreement"),
    "templates": ("templates", "make GeneCIS-style templates from annotations"),
    "train": ("train", "train a method that has weights, and run it"),
    "mine": ("mine", "mine training triplets from captions"),
    "train-backbone": ("train_backbone", "train the embedded backbone shapes-clip"),
    "cache": ("cache", "list, verify or prune the stored features"),
}
"""Command -> (module in harness/commands with ``main(argv) -> exit status``, what the command does)."""

USAGE = """\
condsim: which candidate is most similar to a reference, given a condition?

usage: condsim COMMAND [...]

{commands}

  condsim COMMAND --help    show the settings of a command
  condsim --version         show the version

Start with `condsim bench`, which runs image_plus_text on the embedded benchmark, and `condsim leaderboard`.
"""


def usage() -> str:
    width = max(map(len, COMMANDS))
    lines = (f"  {name.ljust(width)}  {what}" for name, (_, what) in COMMANDS.items())
    return USAGE.format(commands="\n".join(lines))


def main(argv: Sequence[str] | None = None) -> int:
    if argv is None:
        with suppress(RuntimeError, OSError, ValueError):  # no error stream, or one that is no file
            faulthandler.enable()  # a crash in native code prints where it was
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage(), end="")
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(version("condsim"))
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        _print_error(f"condsim: there is no command {name!r}. {did_you_mean(name, COMMANDS)}")
        return 2
    try:
        return _run(name, rest)
    except BrokenPipeError:
        _leave_stdout()  # the reader (head, less) has left: nothing more to print
        return 0


def _run(name: str, argv: Sequence[str]) -> int:
    try:
        module = import_module(f"condsim.harness.commands.{COMMANDS[name][0]}")
        status = int(module.main(argv))
        sys.stdout.flush()
        return status
    except CondsimError as error:
        _print_error(f"condsim {name}: {error}")
        return 2
    except KeyboardInterrupt:
        _print_error(f"\ncondsim {name}: interrupted. Finished runs are saved; run the same command again to resume")
        return 130
    except UnicodeEncodeError as error:
        _leave_stdout()
        unprintable = error.object[error.start : error.end]
        _print_error(
            f"condsim {name}: the output's encoding ({error.encoding}) has no {unprintable!a}: "
            "set PYTHONIOENCODING=utf-8"
        )
        return 2
    except BrokenPipeError:
        raise
    except OSError as error:
        _leave_stdout()
        place = error.filename if error.filename is not None else "the output"
        _print_error(f"condsim {name}: {place}: {error.strerror or error}")
        return 2


def _print_error(message: str) -> None:
    with suppress(OSError, ValueError):
        text = escaped(message)
        print(text.encode("ascii" if sys.stderr is None else sys.stderr.encoding or "ascii", "backslashreplace")
              .decode(sys.stderr.encoding or "ascii"), file=sys.stderr)  # fmt: skip


def _leave_stdout() -> None:
    """Nothing more can be written to stdout; the interpreter must not try to flush it when it ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
