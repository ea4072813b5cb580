"""A task survives its file unchanged, and a damaged file is one clear message."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from condsim.harness.errors import CondsimError
from condsim.harness.run.task_file import load_task, save_task, task_path
from condsim.harness.task import ImageTable, Kinds, Ragged, Task


def full_task(root: Path) -> Task:
    table = ImageTable(
        root, ("a/ü.png", "b,c.png", "<d>.png"), np.array([[0.5, 1, 2, 3], [np.nan] * 4, [1, 2, 3, 4]]), 0.3,
        {"<d>.png": "part/<d>.png"},
    )  # fmt: skip
    return Task(
        "toy", "all", table, (("color", "shape"), ("plus \U0001f600",)), np.array([0, 1, -1]), np.array([0, -1, 2]),
        Ragged.of([[1], [2, 0], [1]]), ("recall@1", "map"), candidates=Ragged.of([[1, 1, 2], [0, 2], [1]]),
        subset=Ragged.of([[1], [], [1]]), clusters=np.array([7, 7, 8]), cluster_name="noun",
        query_ids=("x", "y", "z"), kinds=Kinds(("near",), np.array([-1, 0, 0, -1, 0, -1])),
        skipped=("entry 3: no target",),
    )  # fmt: skip


def gallery_task(root: Path) -> Task:
    table = ImageTable(root, ("a.png", "b.png"))
    one = np.zeros(1, dtype=np.int64)
    return Task(
        "toy", "gallery", table, (("color",),), one, one, Ragged.of([[1]]), (), gallery=np.arange(2),
        excluded=Ragged.of([[0]]),
    )  # fmt: skip


def same(one: object, other: object) -> bool:
    if isinstance(one, np.ndarray):
        assert isinstance(other, np.ndarray)
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    if isinstance(one, Ragged | ImageTable | Kinds | Task):
        return type(one) is type(other) and all(
            same(getattr(one, field.name), getattr(other, field.name)) for field in fields(one)
        )
    return one == other


@pytest.mark.parametrize("make", [full_task, gallery_task])
def test_every_field_comes_back(tmp_path: Path, make: object) -> None:
    task = make(tmp_path)  # type: ignore[operator]
    path = task_path(tmp_path, task.benchmark, task.name, task.fingerprint)
    save_task(path, task)
    loaded = load_task(path, task.fingerprint)
    assert same(task, loaded)
    assert loaded.fingerprint == task.fingerprint
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_file_that_says_the_same_is_left_alone_and_moved_images_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "task.npz"
    task = gallery_task(tmp_path)
    save_task(path, task)
    first = path.stat().st_mtime_ns
    save_task(path, task)
    assert path.stat().st_mtime_ns == first
    save_task(path, replace(task, images=replace(task.images, root=tmp_path / "elsewhere")))
    assert load_task(path, task.fingerprint).images.root == tmp_path / "elsewhere"


def test_content_that_does_not_match_its_fingerprint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "task.npz"
    save_task(path, gallery_task(tmp_path))
    with np.load(path) as stored:
        arrays = dict(stored)
    arrays["relevant.values"] = np.array([0])
    np.savez(path, **arrays)
    with pytest.raises(CondsimError, match=r"task\.npz.*fingerprint"):
        load_task(path, gallery_task(tmp_path).fingerprint)


@given(data=st.data())
def test_a_damaged_file_is_one_message_naming_it(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "task.npz"
    save_task(path, full_task(tmp_path))
    good = path.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    broken = data.draw(
        st.sampled_from(
            [good[:at], good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :], b"", b"not a zip", good[at:]]
        )
    )
    path.write_bytes(broken)
    try:
        # if it is read, it is right: the damage was in a place that nothing reads
        assert same(load_task(path, full_task(tmp_path).fingerprint), full_task(tmp_path))
    except CondsimError as error:
        assert "task.npz" in str(error)  # noqa: PT017
    path.unlink()


def test_a_missing_file_says_how_to_have_it_made(tmp_path: Path) -> None:
    with pytest.raises(CondsimError, match="run the same `condsim bench` again"):
        load_task(tmp_path / "none.npz", "f" * 32)


def test_the_file_of_another_task_is_refused(tmp_path: Path) -> None:
    save_task(tmp_path / "task.npz", gallery_task(tmp_path))
    with pytest.raises(CondsimError, match="another task"):
        load_task(tmp_path / "task.npz", full_task(tmp_path).fingerprint)


def test_a_damaged_file_is_written_again(tmp_path: Path) -> None:
    path, task = tmp_path / "task.npz", full_task(tmp_path)
    save_task(path, task)
    good = path.read_bytes()
    for at in range(0, len(good), 97):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :])
        save_task(path, task)
        assert same(load_task(path, task.fingerprint), task)
