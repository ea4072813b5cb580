"""condsim, with every file that it opens for writing, makes, renames or removes listed in the file $AUDIT."""

import os
import sys

log = os.open(os.environ["AUDIT"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
PLACES = {"os.mkdir": (0,), "os.rename": (0, 1), "os.remove": (0,), "os.link": (0, 1), "os.symlink": (1,)}


def note(path: object) -> None:
    if isinstance(path, str | bytes | os.PathLike):
        os.write(log, os.fsencode(os.path.abspath(os.fsdecode(path))) + b"\n")


def hook(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open":
        path, _, flags = arguments
        if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            note(path)
    elif event in PLACES:
        for place in PLACES[event]:
            note(arguments[place])


sys.addaudithook(hook)

from condsim.harness.cli import main  # noqa: E402

sys.exit(main())
