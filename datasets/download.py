"""Fetch the files of a benchmark that need no licence agreement.

The transfer is Hugging Face's (progress, retries, resume by byte ranges); checksums, unpacking and places are here.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from filelock import FileLock
from huggingface_hub.file_download import http_get
from huggingface_hub.utils._http import get_session

from condsim.datasets.sources import SOURCES, Remote, Source
from condsim.harness.errors import CondsimError, did_you_mean, first_line
from condsim.harness.terminal.progress import track

MAX_UNPACKED = 200 * 10**9
"""Bytes that an archive may unpack to."""
MAX_RATIO = 50
"""An archive may unpack to so many times its own size: images hardly shrink, annotations to about a tenth."""
SMALL = 10**7
"""Bytes up to which ``MAX_RATIO`` does not apply."""
_OF_THE_MACHINE = (
    errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE,
)  # fmt: skip
"""Errors of writing that say nothing about the archive."""


def choose(benchmark: str, parts: Sequence[str] | None) -> list[Source]:
    """The parts of ``benchmark`` to fetch. Raises CondsimError where no part may be fetched."""
    known = SOURCES.get(benchmark, ())
    offered = {source.name: source for source in known if source.remotes}
    if not offered:
        homes = "; ".join(f"{s.name}: {s.home} ({s.licence})" for s in known) or "Its data are your own"
        raise CondsimError(
            f"no file of benchmark {benchmark} may be fetched without an agreement. {homes}. "
            f"`condsim check benchmark={benchmark}` shows where to put the files"
        )
    for part in parts or ():
        if part not in offered:
            raise CondsimError(f"benchmark {benchmark} has no part {part!r} to fetch. {did_you_mean(part, offered)}")
    return [source for name, source in offered.items() if (name in parts if parts else source.wanted)]


def fetch(remote: Remote, folder: Path) -> Path:
    """The file or folder ``remote.place`` under ``folder``, fetched (and unpacked) unless it is there already.

    A partial transfer is kept beside it, and the next call resumes it. A file gets its final name once it is complete.
    Raises CondsimError where the address is not https, the transfer fails, the checksum differs, or the archive is
    unsafe: it would leave the folder, or unpack to more than ``MAX_UNPACKED`` bytes or ``MAX_RATIO`` times its size.
    """
    _require_https(remote.url)
    target = folder / remote.place
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_link(folder / ".download.lock")
        with FileLock(folder / ".download.lock"):
            if target.exists():
                if not remote.unpack:
                    _verify(target, remote, "it was there before: move it away to fetch the published file")
                return target
            part = target.with_name(f".{target.name}.part")
            _remove_link(part)
            _transfer(remote, part)
            try:
                _verify(part, remote, "it is removed: the same command fetches it again")
                if remote.unpack:
                    _unpack(part, target)
            except CondsimError:
                part.unlink(missing_ok=True)
                raise
            if remote.unpack:
                part.unlink()
            else:
                os.replace(part, target)
    except OSError as error:
        raise CondsimError(f"{target} cannot be written: {error}") from None
    return target


def _require_https(url: str) -> None:
    """Raises CondsimError for an address that anyone on the way can change; this machine itself is no such way."""
    address = urlsplit(url)
    if address.scheme != "https" and address.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise CondsimError(f"{url} is not an https address, so what it sends cannot be trusted: it is not fetched")


@contextmanager
def _https_only() -> Iterator[None]:
    """Meanwhile every request, that of a redirect too, must be to an https address."""
    client = get_session()
    before = client.event_hooks
    client.event_hooks = {**before, "request": [*before["request"], lambda request: _require_https(str(request.url))]}
    try:
        yield
    finally:
        client.event_hooks = before


def _remove_link(path: Path) -> None:
    """Make sure that writing to ``path`` overwrites no file that a link there points to."""
    if path.is_symlink():
        path.unlink()
    elif path.exists() and not path.is_file() and not path.is_dir():
        raise CondsimError(f"{path} is not a file: remove it")


def _transfer(remote: Remote, part: Path) -> None:
    done = part.stat().st_size if part.exists() else 0
    if remote.size is not None and done > remote.size:
        part.unlink()
        done = 0
    try:
        with (
            _https_only(),
            os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666), "ab") as file,
        ):
            http_get(remote.url, file, resume_size=done, expected_size=remote.size, displayed_filename=part.name[1:-5])
    except Exception as error:  # the library lets those of its HTTP client and of the Hub through
        if done and getattr(getattr(error, "response", None), "status_code", None) == 416:
            part.unlink()  # the kept bytes are not the beginning of the file that is published now
            return _transfer(remote, part)
        kept = part.stat().st_size if part.exists() else 0
        raise CondsimError(
            f"{remote.url} could not be fetched: {first_line(error)}. {kept:,} bytes are kept: the same command "
            "resumes from there"
        ) from None


def _verify(path: Path, remote: Remote, advice: str) -> None:
    size = path.stat().st_size
    if remote.size is not None and size != remote.size:
        raise CondsimError(f"{path} has {size:,} bytes, {remote.url} has {remote.size:,}; {advice}")
    if remote.checksum is not None:
        algorithm, _, expected = remote.checksum.partition(":")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, algorithm).hexdigest()
        if found != expected:
            raise CondsimError(f"{path}: {algorithm} is {found}, published is {expected} ({remote.url}); {advice}")


def _unpack(archive: Path, target: Path) -> None:
    """Unpack beside ``target`` and rename the folder of its name into place."""
    scratch = target.with_name(f".{target.name}.unpacking")
    _remove_link(scratch)
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            _require_room(sum(member.file_size for member in members), archive, target)
            for member in members:
                if not _stays_inside(member):
                    raise CondsimError(
                        f"the archive for {target} is refused: {member.filename!a} would leave the folder"
                    )
            with track(len(members), f"unpacking {target.name}") as advance:
                for member in members:
                    opened.extract(member, scratch)
                    advance(1)
        if not (scratch / target.name).is_dir():
            raise CondsimError(f"the archive for {target} holds no folder {target.name}")
        os.replace(scratch / target.name, target)
    except CondsimError:
        raise
    except Exception as error:  # each decompressor has errors of its own for damage, and names can be too long
        if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
            raise
        raise CondsimError(
            f"the archive for {target} is damaged: {error}; it is removed: the same command fetches it again"
        ) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _require_room(unpacked: int, archive: Path, target: Path) -> None:
    """Raises CondsimError where an archive says that it unpacks to more than it should; zipfile writes no more."""
    packed = archive.stat().st_size
    if unpacked > MAX_UNPACKED or (unpacked > SMALL and unpacked > MAX_RATIO * packed):
        raise CondsimError(
            f"the archive for {target} is refused: its {packed:,} bytes unpack to {unpacked:,}, "
            f"{unpacked / packed:,.0f} times as many (at most {MAX_RATIO} times and {MAX_UNPACKED:,} bytes "
            "are allowed). It is removed"
        )
    free = shutil.disk_usage(archive.parent).free
    if unpacked > free:
        raise OSError(errno.ENOSPC, f"{unpacked:,} bytes are needed to unpack it, {free:,} are free")


def _stays_inside(member: zipfile.ZipInfo) -> bool:
    """A plain file or folder whose path does not lead out of where it is unpacked."""
    name = member.filename
    path = PurePosixPath(name)
    kind = stat.S_IFMT(member.external_attr >> 16)
    plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
    return plain and not path.is_absolute() and ".." not in path.parts and not set(name) & {"\\", ":", "\0"}
