"""`condsim captions`: let a vision model describe the images of a benchmark."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from condsim.harness.answers import KeptAnswers, Request, ask_all
from condsim.harness.commands.queries import image_rows
from condsim.harness.configs import make
from condsim.harness.images import picture_of
from condsim.harness.llm import Chat, ChatEndpoint
from condsim.harness.settings.benchmark import chosen_benchmark
from condsim.harness.settings.composition import for_each_job
from condsim.harness.task import ImageTable, Task
from condsim.harness.terminal.console import console


def main(argv: Sequence[str]) -> int:
    return for_each_job("captions", argv, run)


def run(settings: Mapping[str, Any]) -> int:
    """Ask for the captions that are missing. Raises CondsimError naming a request that failed."""
    tasks = chosen_benchmark(settings).tasks
    return ask(settings, caption_requests(tasks, settings["prompts"], settings["side"], settings["references"]))


def ask(settings: Mapping[str, Any], requests: Sequence[Request]) -> int:
    """Ask for what ``settings["output"]`` has no answer to yet."""
    endpoint: ChatEndpoint = make(settings["endpoint"], "endpoint")
    kept = KeptAnswers(Path(settings["output"]), endpoint.model)
    missing = kept.missing(requests)
    now = missing[: settings["limit"]]
    console.print(
        f"{len(requests) - len(missing):,} of {len(requests):,} answers are kept; {len(now):,} requests to "
        f"{endpoint.model} at {endpoint.base_url}"
    )
    done = ask_all(endpoint, kept, now, settings["workers"])
    console.print(f"{kept.path}: {done:,} answers added")
    return 0


def caption_requests(tasks: Sequence[Task], prompts: Sequence[str], side: int, references: bool) -> list[Request]:
    """One request per image and prompt."""
    image_rows((task.name, task.images) for task in tasks)  # refuses two pictures with one name
    images: dict[str, tuple[ImageTable, int]] = {}
    for task in tasks:
        rows: Iterable[int] = range(len(task.images))
        if references:
            rows = dict.fromkeys(task.reference[task.reference >= 0].tolist())
        for row in rows:
            images.setdefault(task.images.keys[row], (task.images, row))
    return [
        Request({"image": key, "prompt": prompt}, partial(_messages, table, row, prompt, side))
        for key, (table, row) in images.items()
        for prompt in dict.fromkeys(prompts)
    ]


def _messages(table: ImageTable, row: int, prompt: str, side: int) -> Chat:
    """The prompt and the image, cropped as the benchmark crops it, of at most ``side`` pixels a side, as JPEG."""
    picture = picture_of(table, row).convert("RGB")
    picture.thumbnail((side, side))
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=95)
    url = f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
    content = [{"type": "text", "text": prompt}, {"type": "image_url", "image_url": {"url": url}}]
    return [{"role": "user", "content": content}]
