"""What a benchmark's own server answered to the submission files of a run: kept beside the run's folder.

It is never part of the record, which holds what was measured here. A new run in the same place keeps the answer; the
answer counts while the run's submission files are those that were answered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from condsim.harness.errors import CondsimError
from condsim.harness.files.hashing import json_digest
from condsim.harness.results.output import write_text
from condsim.harness.run.record import Record

SUBMISSION = "submission/"
"""Where a record has the files for the server."""


@dataclass(frozen=True)
class ServerAnswer:
    """The numbers of one run, measured by a server."""

    run: str
    server: str
    date: str
    """ISO 8601, of the answer."""
    metrics: Mapping[str, float]
    """Fractions."""
    files: Mapping[str, str]
    """The submission files that were answered, and their digests."""

    def __str__(self) -> str:
        return f"{self.server}, {self.date}"


def submission_files(record: Record) -> dict[str, str]:
    """The files for the server that the run wrote, with their digests; none where it has numbers of its own."""
    if record.metrics:
        return {}
    return {name: digest for name, digest in record.files.items() if name.startswith(SUBMISSION)}


def answer_path(folder: Path, run: str) -> Path:
    """Where the answer to a run is: beside its ``folder``."""
    return folder.parent / f"server-{run}.json"


def read_server_answer(folder: Path, record: Record) -> ServerAnswer | None:
    """The server's answer to the run in ``folder``; None: none is kept.

    Raises CondsimError for a damaged file, and for an answer to other files than those that the run has now.
    """
    path = answer_path(folder, record.run)
    if not submission_files(record) or not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        digest = content.pop("digest")
        answer = ServerAnswer(**content)
        date.fromisoformat(answer.date)
        numbers = [float(value) for value in answer.metrics.values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CondsimError(f"{path} cannot be read as the answer of a server: {error}") from None
    if digest != json_digest(content) or answer.run != record.run or not all(0 <= value <= 1 for value in numbers):
        raise CondsimError(f"{path} is damaged: its content is not what was written")
    if answer.files != submission_files(record):
        raise CondsimError(f"{path} is the answer to other submission files than the run has now: submit them again")
    return answer


def write_server_answer(folder: Path, answer: ServerAnswer) -> Path:
    """Keep the answer to the run in ``folder``. Returns its file."""
    content = asdict(answer)
    path = answer_path(folder, answer.run)
    write_text(path, json.dumps(content | {"digest": json_digest(content)}, indent=2, sort_keys=True) + "\n")
    return path
