"""Whatever is in an annotation file, a loader ends in a task or in one message: never a traceback, never a hang."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import GeneCIS, make_cirr
from condsim.datasets import cirr, genecis, instance, labelled, mit_states
from condsim.harness.errors import CondsimError
from condsim.harness.files.json_files import read_json
from condsim.harness.files.tables import read_frame

pytestmark = pytest.mark.slow

fuzzed = settings(max_examples=30)

odd_texts = st.sampled_from(
    ["", " ", "..", "../x", "/x.png", "a\x00b", "a\nb", "\ud800", "é", "dev-1-0-img0", "99", "x" * 300]
)
odd_numbers = st.sampled_from([0, -1, 1, 10**30, -(10**400), 1e308, 5e-324, -0.0, float("nan"), float("inf"), True])
scalars = st.none() | odd_texts | odd_numbers | st.text(max_size=8) | st.integers() | st.floats()
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(odd_texts | st.text(max_size=5), inner, max_size=4),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every node of a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, child in inner for place in places(child, (*path, key)))]


@st.composite
def spoilt(draw: st.DrawFn, value: Any) -> Any:
    """``value`` with one or two nodes replaced, deleted or doubled."""
    for _ in range(draw(st.integers(1, 2))):
        value = json.loads(json.dumps(value))
        path = draw(st.sampled_from(places(value)))
        if not path:
            value = draw(values)
            continue
        node = value
        for step in path[:-1]:
            node = node[step]
        what = draw(st.sampled_from(["replace", "delete", "double"]))
        if what == "replace":
            node[path[-1]] = draw(values)
        elif what == "delete":
            del node[path[-1]]
        elif isinstance(node, list):
            node.append(node[path[-1]])
    return value


def survives(load: Callable[[], Any], *files: Path) -> None:
    """``load`` gives a task or one message of one line that names one of ``files``."""
    try:
        load()
    except CondsimError as error:
        message = str(error)
        assert any(file.name in message for file in files), message
        assert "\n" not in message
        message.encode()
        assert len(message) < 2000


def dump(value: Any) -> str:
    return json.dumps(value)


@fuzzed
@given(
    data=st.data(),
    on_error=st.sampled_from(["raise", "skip"]),
    task=st.sampled_from(["focus_attribute", "change_object"]),
)
def test_genecis_templates(genecis_files: GeneCIS, data: st.DataObject, on_error: Any, task: str) -> None:
    original = data.draw(st.just(ORIGINALS.setdefault(task, genecis_files.templates[task])))
    path = genecis_files.write(task, data.draw(spoilt(original)))
    survives(lambda: genecis.load(**genecis_files.arguments, tasks=[task], on_error=on_error), path)


ORIGINALS: dict[str, Any] = {}


@fuzzed
@given(data=st.data())
def test_genecis_kinds(genecis_files: GeneCIS, data: st.DataObject) -> None:
    path = genecis_files.root / "templates" / "focus_object.kinds.json"
    path.write_text(dump(data.draw(spoilt([["a", "b", "a"], ["b", "b", "b"]]))))
    survives(lambda: genecis.load(**genecis_files.arguments, tasks=["focus_object"]), path)


@fuzzed
@given(data=st.data(), on_error=st.sampled_from(["raise", "skip"]), split=st.sampled_from(["val", "test1"]))
def test_cirr_captions_and_splits(tmp_path: Path, data: st.DataObject, on_error: Any, split: str) -> None:
    if split not in WORLDS or not WORLDS[split].root.exists():
        WORLDS[split] = make_cirr(tmp_path / "cirr", split)
    files = WORLDS[split]
    captions = data.draw(spoilt(files.captions)) if data.draw(st.booleans()) else files.captions
    names = data.draw(spoilt(files.files)) if captions is files.captions else files.files
    files.write(captions, names)
    paths = cirr.caption_file(files.root, split), cirr.split_file(files.root, split)
    survives(lambda: cirr.load(**files.arguments, on_error=on_error), *paths)


WORLDS: dict[str, Any] = {}


@fuzzed
@given(st.binary(max_size=60) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    for name, read in (
        ("x.json", lambda path: read_json(path, "anything")),
        ("x.csv", lambda path: read_frame(path, "a table")),
        ("x.parquet", lambda path: read_frame(path, "a table")),
        ("x.json", lambda path: mit_states.read_nouns(path)),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        survives(lambda read=read, path=path: read(path), path)  # type: ignore[misc]


@fuzzed
@given(cut=st.integers(0, 10_000))
def test_truncated_files(genecis_files: GeneCIS, cut: int) -> None:
    path = genecis_files.write("focus_attribute", genecis_files.templates["focus_attribute"])
    text = path.read_text()
    path.write_text(text[: cut % len(text)])
    with pytest.raises(CondsimError, match=r"focus_attribute\.json: malformed or truncated JSON at line"):
        genecis.load(**genecis_files.arguments)


cells = st.sampled_from(["a.png", "b.png", "c.png", "../a.png", "a.txt", "", "red", "1.0", "a.png|b.png"]) | st.text(
    max_size=5
)


@fuzzed
@given(
    rows=st.lists(st.tuples(cells, cells, cells), max_size=6),
    header=st.sampled_from(["image,color,shape", "image,image,color", "color,shape,size", "image,color", "image"]),
    on_error=st.sampled_from(["raise", "skip"]),
)
def test_label_tables(tmp_path: Path, rows: list[tuple[str, ...]], header: str, on_error: Any) -> None:
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(b"")
    path = tmp_path / "labels.csv"
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]), encoding="utf-8", errors="replace")
    survives(lambda: labelled.load(str(path), on_error=on_error), path)


@fuzzed
@given(
    queries=st.lists(
        st.fixed_dictionaries({"id": cells, "image": cells, "text": cells, "positives": cells}), max_size=4
    ),
    gallery=st.lists(cells, max_size=5),
    lists=st.booleans(),
    on_error=st.sampled_from(["raise", "skip"]),
)
def test_instance_tables(
    tmp_path: Path, queries: list[dict[str, Any]], gallery: list[str], lists: bool, on_error: Any
) -> None:
    paths = tmp_path / "queries.parquet", tmp_path / "gallery.parquet"
    if lists:
        queries = [{**query, "positives": query["positives"].split("|")} for query in queries]
    pd.DataFrame(queries, columns=["id", "image", "text", "positives"]).to_parquet(paths[0])
    pd.DataFrame({"image": pd.Series(gallery, dtype=object)}).to_parquet(paths[1])
    survives(lambda: instance.load(str(paths[0]), str(paths[1]), on_error=on_error), *paths)
