"""Writing files so that a reader finds the old content or the new one, never half of either."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from secrets import token_hex

SCRATCH = ".writing-"
"""Start of the names of files and folders that are not finished. Readers skip them."""
_ABANDONED_SECONDS = 24 * 3600
"""Scratch of another machine that is older than this is taken for abandoned: its process cannot be looked up here."""
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # from Linux's fcntl.h and fs.h


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary file name beside ``path`` to write to. It replaces ``path`` at the end, or is removed on failure.

    The name has the suffix of ``path``, since some writers read it. The folder is made where it is missing. Raises
    OSError where that fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = _scratch(path)
    try:
        yield scratch
        os.replace(scratch, path)
    finally:
        with suppress(OSError):
            scratch.unlink()


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """``atomic`` for a folder: an empty folder to fill, which replaces the folder ``path`` with all that it holds.

    Several processes may write the same folder at once: each of them succeeds, the last one stays, and at any moment a
    reader finds a complete folder (without Linux's exchange of names: at any moment but one).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = _scratch(path)
    scratch.mkdir()  # not tempfile.mkdtemp, which ignores the umask
    try:
        yield scratch
        _put_in_place(scratch, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what killed processes left unfinished in ``folder``: those of this machine, and others' after a day."""
    with suppress(OSError):
        for path in folder.glob(f"{SCRATCH}*"):
            if _is_abandoned(path):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


def _scratch(path: Path) -> Path:
    return path.with_name(f"{SCRATCH}{_host()}-{os.getpid()}-{token_hex(4)}{path.suffix[:16] or '.part'}")


@cache
def _host() -> str:
    """The machine's name, as far as it fits into a file name of four parts."""
    return "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in socket.gethostname())[:40]


def _is_abandoned(path: Path) -> bool:
    host, _, rest = path.name.removeprefix(SCRATCH).partition("-")
    process = rest.partition("-")[0]
    if host == _host() and process.isdecimal():
        return not _is_running(int(process))
    return path.lstat().st_mtime < time.time() - _ABANDONED_SECONDS


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's process: it is there
        return True
    return True


def _put_in_place(scratch: Path, path: Path) -> None:
    for _ in range(100):
        try:
            os.rename(scratch, path)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        if _exchange(scratch, path):
            return  # the old folder is now the scratch, which is removed
        old = _scratch(path)
        with suppress(FileNotFoundError):  # another process has just moved it
            os.rename(path, old)
        shutil.rmtree(old, ignore_errors=True)
    raise OSError(errno.EBUSY, "other processes keep replacing it", str(path))


def _exchange(one: Path, other: Path) -> bool:
    """Swap the names of two folders in one step. False where the system cannot, or one of them is gone."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except (OSError, TypeError, AttributeError):
        return False
    return bool(rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)
