"""Answers of a language model as a file of JSON lines: each is kept when it arrives, and none is requested twice."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from condsim.harness.errors import CondsimError
from condsim.harness.files.tables import read_json_lines
from condsim.harness.llm import Chat, ChatEndpoint, TryAgainError, shortened
from condsim.harness.terminal.progress import track

LONGEST = 2000
"""Letters of one answer; more is not the short text that was requested."""
MOST_FAILURES = 5
"""Requests that may fail before a command stops."""


@dataclass(frozen=True)
class Request:
    """One question: the columns that identify it, the first of which is its subject, and the messages."""

    columns: Mapping[str, str]
    messages: Callable[[], Chat]


class KeptAnswers:
    """A file of answers, with the columns of the request, text, model, base_url, date and answer in each line."""

    def __init__(self, path: Path, model: str) -> None:
        """Raises CondsimError for a file that is no such file or has answers of another model.

        A last line that a killed command left unfinished is removed.
        """
        self.path, self.model = path, model
        self.rows: list[dict[str, object]] = []
        if not path.exists():
            return
        data = path.read_bytes()
        if (end := data.rfind(b"\n") + 1) < len(data):
            with path.open("r+b") as file:
                file.truncate(end)
        for number, row in read_json_lines(path, "answers of this command, one JSON object per line"):
            if row.get("model") != model:
                raise CondsimError(
                    f"{path}, line {number}: an answer of the model {row.get('model')!r}, not of {model}: choose "
                    "another file with output=FILE"
                )
            self.rows.append(row)

    def missing(self, requests: Sequence[Request]) -> list[Request]:
        """The requests without a kept answer, in order.

        Raises CondsimError where the file has another answer about the same subject, as with another prompt: a reader
        of the file would take both.
        """
        wanted = {tuple(request.columns.values()) for request in requests}
        names = tuple(requests[0].columns) if requests else ()
        kept = {tuple(row.get(name) for name in names) for row in self.rows}
        subjects = {key[0] for key in wanted}
        for key in kept - wanted:
            if key[0] in subjects:
                raise CondsimError(
                    f"{self.path} has an answer about {key[0]!r} to another request ("
                    + ", ".join(
                        f"{name} {shortened(str(value))}" for name, value in zip(names[1:], key[1:], strict=True)
                    )
                    + "): choose another file with output=FILE"
                )
        return [request for request in requests if tuple(request.columns.values()) not in kept]

    def add(self, request: Request, base_url: str, text: str, answer: str) -> None:
        """Append one line. Raises OSError where that fails."""
        date = datetime.now(UTC).isoformat(timespec="seconds")
        row = {
            **request.columns,
            "text": text,
            "model": self.model,
            "base_url": base_url,
            "date": date,
            "answer": answer,
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def ask_all(endpoint: ChatEndpoint, kept: KeptAnswers, requests: Sequence[Request], workers: int) -> int:
    """Ask ``requests``, ``workers`` at a time, and keep each answer as it arrives; how many were kept.

    Raises CondsimError with the first failure at the end, or after ``MOST_FAILURES`` of them; kept answers stay.
    """
    failures: list[str] = []
    done, size = 0, 4 * workers
    kept.path.parent.mkdir(parents=True, exist_ok=True)

    def ask(request: Request) -> tuple[str, str]:
        return endpoint.ask(request.messages(), read_text_answer)

    with ThreadPoolExecutor(workers, thread_name_prefix="ask") as pool, track(len(requests), "asking") as advance:
        for start in range(0, len(requests), size):
            if len(failures) >= MOST_FAILURES:
                break
            jobs = {pool.submit(ask, request): request for request in requests[start : start + size]}
            for job in as_completed(jobs):
                try:
                    text, answer = job.result()
                except CondsimError as error:
                    subject = next(iter(jobs[job].columns.values()))
                    failures.append(f"{subject}: {error}")
                    continue
                kept.add(jobs[job], endpoint.base_url, text, answer)
                done += 1
                advance(1)
    if failures:
        raise CondsimError(
            f"{len(failures)} requests failed, {done:,} answers are kept in {kept.path}; run the same command again "
            f"for the others. The first failure: {failures[0]}"
        )
    return done


def read_text_answer(answer: str) -> tuple[str, str]:
    """The text of a model's answer, on one line, and the answer as it is.

    What a model thinks aloud in <think> tags and quotes around the text are left out. Raises TryAgainError for an empty
    or a very long text.
    """
    text = " ".join(re.sub(r"<think>.*?</think>", " ", answer, flags=re.DOTALL).split())
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    if not text or len(text) > LONGEST:
        raise TryAgainError(f"expected a short text, found {len(text):,} letters: {shortened(answer)}")
    return text, answer
