"""`condsim edits`: let a language model describe what each query looks for, from captions of its reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from condsim.harness.answers import Request
from condsim.harness.commands.captions import ask
from condsim.harness.errors import CondsimError
from condsim.harness.outside import TextTable
from condsim.harness.settings.benchmark import chosen_benchmark
from condsim.harness.settings.composition import for_each_job
from condsim.harness.task import Task, condition_text


def main(argv: Sequence[str]) -> int:
    return for_each_job("edits", argv, run)


def run(settings: Mapping[str, Any]) -> int:
    """Ask for the texts that are missing. Raises CondsimError naming a request that failed."""
    prompt = settings["prompt"]
    for part in ("{caption}", "{condition}"):
        if part not in prompt:
            raise CondsimError(f"prompt={prompt!r} needs {part}")
    captions = TextTable(settings["caption_table"], "image")
    tasks = chosen_benchmark(settings).tasks
    requests = [request for task in tasks for request in edit_requests(task, captions, prompt)]
    return ask(settings, requests)


def edit_requests(task: Task, captions: TextTable, prompt: str) -> list[Request]:
    """One request per query and caption of its reference. Raises CondsimError for a query without one of the two."""
    if (task.reference < 0).any() or (task.condition < 0).any():
        raise CondsimError(
            f"{task.full_name} has queries without a reference or without a condition: there is nothing to edit. "
            "Choose other tasks with tasks=[...]"
        )
    captions_of_query = captions.of([task.images.keys[row] for row in task.reference])
    return [
        _request(name, caption, condition_text(task.conditions[code]), prompt)
        for name, code, captions_of_reference in zip(
            task.query_names, task.condition.tolist(), captions_of_query, strict=True
        )
        for caption in dict.fromkeys(captions_of_reference)
    ]


def _request(query: str, caption: str, condition: str, prompt: str) -> Request:
    content = prompt.replace("{condition}", condition).replace("{caption}", caption)
    columns = {"query": query, "caption": caption, "condition": condition, "prompt": prompt}
    return Request(columns, lambda: [{"role": "user", "content": content}])
