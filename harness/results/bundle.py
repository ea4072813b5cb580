"""A bundle: records, the files of their tasks and the environment in one archive that anybody can verify.

It is a zip file without compression, whose bytes follow from its content. So verifying it means to write it once more
and to compare: no byte of it can change without notice. ``SHA256SUMS`` in it serves people without condsim.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path, PurePosixPath

from condsim.harness.errors import CondsimError
from condsim.harness.files.writing import atomic
from condsim.harness.results.server import answer_path
from condsim.harness.results.stored_run import StoredRun
from condsim.harness.run.record import RECORD

SUMS, ENVIRONMENT, LEADERBOARD = "SHA256SUMS", "environment.json", "leaderboard.csv"
_MOST_BYTES = 4 << 30
"""A larger bundle is not read: a record's files are small."""


def write_bundle(path: Path, runs: Sequence[StoredRun], leaderboard: str) -> int:
    """Write ``runs`` to ``path``, with ``leaderboard`` (CSV) for readers. Returns the number of files in it."""
    files = {LEADERBOARD: leaderboard.encode(), ENVIRONMENT: _environment()}
    for run in runs:
        place = PurePosixPath("runs", *run.folder.parts[-3:])
        for name in (RECORD, *run.record.files):
            files[str(place / name)] = (run.folder / name).read_bytes()
        for beside in (run.task_path, answer_path(run.folder, run.run)):
            if beside.is_file():
                files[str(place.parent / beside.name)] = beside.read_bytes()
    with atomic(path) as scratch:
        scratch.write_bytes(_archive(files))
    return len(files)


def read_bundle(path: Path) -> dict[str, bytes]:
    """Name -> content of every file in a bundle. Raises CondsimError unless it is byte for byte as it was written."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise CondsimError(f"{path} is too large for a bundle")
        data = path.read_bytes()
    except OSError as error:
        raise CondsimError(f"{path}: the bundle cannot be read: {error.strerror or error}") from None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise zipfile.BadZipFile("it is compressed")
            files = {info.filename: archive.read(info) for info in archive.infolist()}
    except Exception as error:  # damage can raise nearly anything in zipfile
        raise CondsimError(f"{path} is not a bundle, or is damaged: {error}") from None
    sums = files.pop(SUMS, b"")
    for name, content in files.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
            raise CondsimError(f"{path}: the bundle holds {name!a}, which is outside of a results folder")
        if f"{hashlib.sha256(content).hexdigest()}  {name}".encode() not in sums.splitlines():
            raise CondsimError(f"{path} is damaged: {name} is not what was bundled")
    if _archive(files) != data:
        raise CondsimError(f"{path} is damaged: its bytes are not those that were written")
    return files


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A temporary results folder with the content of a bundle."""
    files = read_bundle(path)
    with tempfile.TemporaryDirectory(prefix="condsim-bundle-") as folder:
        for name, content in files.items():
            place = Path(folder, name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        yield Path(folder)


def _archive(files: Mapping[str, bytes]) -> bytes:
    """The bytes of a bundle of these files and their sums."""
    ordered = dict(sorted(files.items()))
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in ordered.items())
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, content in (ordered | {SUMS: sums.encode()}).items():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o644 << 16  # the same on every system
            archive.writestr(info, content)
    return out.getvalue()


def _environment() -> bytes:
    """What the bundle was written with: Python, the system, and the version of every installed package."""
    described = [dist.metadata for dist in distributions()]  # each access reads the file again
    packages = {package["Name"]: package["Version"] for package in described if package["Name"]}
    content = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": platform.machine(),
        "packages": dict(sorted(packages.items(), key=lambda pair: pair[0].lower())),
    }
    return json.dumps(content, indent=2).encode()
