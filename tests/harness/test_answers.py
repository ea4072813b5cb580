"""`condsim captions` and `condsim edits` against a server on 127.0.0.1: no network."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from chat_server import ChatServer, chat, send
from condsim.harness.answers import MOST_FAILURES, read_text_answer
from condsim.harness.commands import captions, edits
from condsim.harness.errors import CondsimError
from condsim.harness.llm import TryAgainError
from condsim.harness.outside import TextTable
from condsim.harness.settings import benchmark as chosen
from condsim.harness.settings.composition import jobs
from condsim.harness.task import Benchmark, ImageTable, Ragged, Task

PROMPTS = ["What?", "Which color?"]


class Model(ChatServer):
    """Describes an image by the size and color of its middle pixel, and repeats what it is to edit."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.refuse: str | None = None
        super().__init__()

    def reply_to(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        content = json.loads(body)
        self.requests.append(content)
        answer = self.answer(content["messages"][0]["content"])
        refused = self.refuse is not None and self.refuse in answer
        send(request, 400 if refused else 200, chat(answer))

    @staticmethod
    def answer(content: Any) -> str:
        if isinstance(content, str):
            return f'"<{content}>"'
        text, image = content[0]["text"], content[1]["image_url"]["url"].removeprefix("data:image/jpeg;base64,")
        picture = Image.open(io.BytesIO(base64.b64decode(image)))
        pixel = picture.getpixel((picture.width // 2, picture.height // 2))
        assert isinstance(pixel, tuple)
        return f"<think>hm</think> {text} {picture.size} {['red', 'green', 'blue'][int(np.argmax(pixel))]}"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    made = Model()
    yield made
    made.close()


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    """Queries 0 and 1 with the references 0 (red) and 1 (a crop, green); image 2 is a candidate (blue)."""
    for name, color in (("a.png", (200, 0, 0)), ("b.png", (0, 200, 0)), ("c.png", (0, 0, 200))):
        Image.new("RGB", (40, 20), color).save(tmp_path / name)
    boxes = np.array([[np.nan] * 4, [0, 0, 10, 10], [np.nan] * 4])
    made = Task(
        "toy", "val", ImageTable(tmp_path, ("a.png", "b.png", "c.png"), boxes, crop="plain"),
        conditions=(("make it {bold}",), ("on grass",)), condition=np.array([0, 1]), reference=np.array([0, 1]),
        relevant=Ragged.of([[2], [2]]), metrics=("map",), gallery=np.array([2]), query_ids=("x", "y"),
    )  # fmt: skip
    monkeypatch.setattr(chosen, "make_once", lambda config, name: Benchmark("toy", (made,)))
    return made


def settings(folder: Path, model: Model, **changes: Any) -> dict[str, Any]:
    endpoint = {
        "_target_": "condsim.harness.llm.ChatEndpoint", "model": "tiny", "base_url": model.url, "api_key_env": None,
        "timeout": 120.0, "attempts": 1,
    }  # fmt: skip
    own = {"benchmark": {}, "tasks": None, "queries_from": None, "workers": 2, "limit": None, "endpoint": endpoint}
    files = {"output": str(folder / "captions.jsonl"), "prompts": PROMPTS, "side": 20, "references": False}
    return {**own, **files, **changes}


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_image_gets_a_caption_per_prompt_and_none_is_requested_twice(
    tmp_path: Path, model: Model, task: Task
) -> None:
    assert captions.run(settings(tmp_path, model, limit=2)) == 0
    assert len(model.requests) == 2
    file = tmp_path / "captions.jsonl"
    with file.open("a") as unfinished:
        unfinished.write('{"image": "c.png", "te')  # as a killed command leaves it
    captions.run(settings(tmp_path, model))
    assert len(model.requests) == 6
    captions.run(settings(tmp_path, model))
    assert len(model.requests) == 6
    table = TextTable(file, "image").texts
    assert {name: sorted(texts) for name, texts in table.items()} == {
        "a.png": ["What? (20, 10) red", "Which color? (20, 10) red"],
        "b.png#0,0,10,10": ["What? (10, 10) green", "Which color? (10, 10) green"],
        "c.png": ["What? (20, 10) blue", "Which color? (20, 10) blue"],
    }
    first = rows(file)[0]
    assert (first["model"], first["base_url"], first["prompt"] in PROMPTS) == ("tiny", model.url, True)
    assert first["answer"].startswith("<think>hm</think> ")
    assert first["date"].startswith("20")


def test_only_references_where_edits_are_all_that_is_needed(tmp_path: Path, model: Model, task: Task) -> None:
    captions.run(settings(tmp_path, model, references=True, prompts=PROMPTS[:1]))
    assert sorted(row["image"] for row in rows(tmp_path / "captions.jsonl")) == ["a.png", "b.png#0,0,10,10"]


def test_a_query_gets_a_text_per_caption_of_its_reference(tmp_path: Path, model: Model, task: Task) -> None:
    table = tmp_path / "captions.csv"
    table.write_text('image,text\na.png,a {condition}\na.png,a cup\n"b.png#0,0,10,10",a dog\n')
    output = tmp_path / "edits.jsonl"
    changes = {"caption_table": str(table), "output": str(output), "prompt": "{caption} + {condition}"}
    edits.run(settings(tmp_path, model, **changes))
    found = {(row["query"], row["caption"]): row["text"] for row in rows(output)}
    assert found == {
        ("val/x", "a {condition}"): "<a {condition} + make it {bold}>",
        ("val/x", "a cup"): "<a cup + make it {bold}>",
        ("val/y", "a dog"): "<a dog + on grass>",
    }
    edits.run(settings(tmp_path, model, **changes))
    assert len(model.requests) == 3
    with pytest.raises(CondsimError, match=r"an answer about 'val/.' to another request \(.*prompt"):
        edits.run(settings(tmp_path, model, **changes | {"prompt": "{condition}: {caption}"}))
    with pytest.raises(CondsimError, match=r"needs \{caption\}"):
        edits.run(settings(tmp_path, model, **changes | {"prompt": "{condition}"}))
    table.write_text("image,text\na.png,a cup\n")
    with pytest.raises(CondsimError, match=r"no text for 1 of 2 images, such as 'b\.png#0,0,10,10'"):
        edits.run(settings(tmp_path, model, **changes))


def test_answers_of_another_model_are_not_mixed(tmp_path: Path, model: Model, task: Task) -> None:
    (tmp_path / "captions.jsonl").write_text('{"image": "a.png", "prompt": "What?", "text": "t", "model": "big"}\n')
    with pytest.raises(CondsimError, match=r"line 1: an answer of the model 'big', not of tiny: .*output=FILE"):
        captions.run(settings(tmp_path, model))
    assert not model.requests


def test_a_refused_request_loses_no_other_answer(tmp_path: Path, model: Model, task: Task) -> None:
    model.refuse = "What? (20, 10) red"
    with pytest.raises(CondsimError, match=r"1 requests failed, 5 answers are kept in .*a\.png: .*HTTP 400"):
        captions.run(settings(tmp_path, model))
    assert len(rows(tmp_path / "captions.jsonl")) == 5
    model.refuse = None
    captions.run(settings(tmp_path, model))
    assert len(model.requests) == 7


def test_a_dead_endpoint_gets_no_further_requests(tmp_path: Path, model: Model, task: Task) -> None:
    model.refuse = ""
    with pytest.raises(CondsimError, match=r"\d requests failed, 0 answers"):
        captions.run(settings(tmp_path, model, workers=1, prompts=[f"{i}?" for i in range(9)]))
    assert MOST_FAILURES <= len(model.requests) < 27


@pytest.mark.parametrize(
    ("answer", "text"),
    [("A cup.\n", "A cup."), ('"A cup."', "A cup."), ("<think>a\nb</think>\nA\n cup.", "A cup."), ('"', '"')],
)
def test_the_text_of_an_answer_is_one_line(answer: str, text: str) -> None:
    assert read_text_answer(answer) == (text, answer)


@pytest.mark.parametrize("answer", ["", " \n", "<think>hm</think>", "a" * 2001])
def test_an_empty_or_endless_answer_is_not_kept(answer: str) -> None:
    with pytest.raises(TryAgainError, match="expected a short text"):
        read_text_answer(answer)


def test_the_commands_take_their_files_as_settings() -> None:
    """A setting of the name of a config group, as conf/captions is one, would choose from it."""
    (job,) = jobs("edits", ["caption_table=my.jsonl", "tasks=[cirr]", "endpoint.model=m"])
    assert (job.config.caption_table, job.config.endpoint.model) == ("my.jsonl", "m")
    (job,) = jobs("captions", ["output=a.jsonl", "prompts=['What, and where?']"])
    assert (job.config.output, list(job.config.prompts)) == ("a.jsonl", ["What, and where?"])
    (job,) = jobs("queries", ["queries=q.jsonl", "images=i.parquet", "pairs=p.csv", "crops=c"])
    assert (job.config.queries, job.config.images, job.config.pairs) == ("q.jsonl", "i.parquet", "p.csv")
