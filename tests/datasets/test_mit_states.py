"""MIT-States: queries, gallery and hits against a brute-force reading of the folder names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st

from condsim.datasets import mit_states
from condsim.harness.errors import CondsimError
from condsim.harness.settings.composition import compose_config
from condsim.harness.task import Task

FOLDERS = {
    "old tomato": 2, "ripe tomato": 3, "sliced tomato": 1, "old wool": 2, "ripe candy": 1,  # test nouns
    "ripe apple": 2, "old apple": 1, "adj tomato": 2, "adj apple": 1, "tomato": 1,
}  # fmt: skip


def make(root: Path, folders: dict[str, int] = FOLDERS) -> Path:
    for folder, count in folders.items():
        (root / "images" / folder).mkdir(parents=True)
        for i in range(count):
            (root / "images" / folder / f"{folder.replace(' ', '_')}_{i}.jpg").write_bytes(b"")
        (root / "images" / folder / "notes.txt").write_text("no image")
    (root / "adj_ants.csv").write_text("read by nobody")
    return root


def split_name(task: Task, row: int) -> tuple[str, str]:
    adjective, noun = task.images.names[row].split("/")[0].split(" ")
    return adjective, noun


def brute_force(task: Task) -> set[tuple[int, str]]:
    """(reference row, target adjective) of every query that there should be."""
    names = [split_name(task, row) for row in range(len(task.images))]
    return {
        (row, other_adjective)
        for row, (adjective, noun) in enumerate(names)
        for other_adjective, other_noun in names
        if other_noun == noun and other_adjective != adjective
    }


def test_queries_gallery_and_hits(tmp_path: Path) -> None:
    benchmark = mit_states.load(str(make(tmp_path)))
    test, adjective, noun = benchmark.tasks
    assert [task.name for task in benchmark.tasks] == ["test", "adjective", "noun"]
    names = test.images.names
    assert len(names) == 9, "the test nouns' images, without the placeholder adj and the folder without a space"
    assert not any(name.startswith(("adj ", "tomato/")) or "apple" in name or name.endswith(".txt") for name in names)
    queries = list(zip(test.reference.tolist(), [test.conditions[c][0] for c in test.condition], strict=True))
    assert len(queries) == len(set(queries))
    assert set(queries) == brute_force(test)
    assert len(queries) == 6 * 2, "wool and candy have one adjective each, so they only stand in the gallery"
    for i, (row, target) in enumerate(queries):
        own_noun = split_name(test, row)[1]
        assert sorted(test.gallery) == list(range(9))
        assert test.excluded[i].tolist() == [row]
        everyone = range(len(names))
        assert test.relevant[i].tolist() == [r for r in everyone if split_name(test, r) == (target, own_noun)]
        assert adjective.relevant[i].tolist() == [r for r in everyone if split_name(test, r)[0] == target]
        assert noun.relevant[i].tolist() == [r for r in everyone if split_name(test, r)[1] == own_noun and r != row]
    assert test.metrics == ("recall@1", "recall@5", "recall@10")
    assert len(np.unique(test.clusters)) == 1
    assert test.cluster_name == "noun"


def test_train_is_the_other_nouns(tmp_path: Path) -> None:
    train = mit_states.load(str(make(tmp_path))).train
    assert train is not None
    assert [name.split("/")[0] for name in train.images.names] == ["old apple", "ripe apple", "ripe apple"]
    assert train.phrases == ("apple", "old", "old apple", "ripe", "ripe apple"), "nothing of the test nouns"


def test_options(tmp_path: Path) -> None:
    root = make(tmp_path)
    (tmp_path / "nouns.json").write_text(json.dumps(["apple"]))
    apples = mit_states.load(str(root / "images"), str(tmp_path / "nouns.json"), recall_at=[1, 50], tasks=["test"])
    assert len(apples.tasks[0].images) == 3
    assert apples.tasks[0].metrics == ("recall@1", "recall@50")
    assert apples.train is not None
    assert len(apples.train.images) == 9
    listed = mit_states.load(str(root), ["apple"], text="adjective noun").tasks[0]
    assert sorted(listed.conditions) == [("old apple",), ("ripe apple",)]
    assert [listed.conditions[c][0] for c in listed.condition] == ["ripe apple", "old apple", "old apple"]
    config = compose_config("check", ["benchmark=mit_states", f"benchmark.images={root}", "tasks=[noun]"])
    assert [task.full_name for task in instantiate(config.benchmark).tasks] == ["mit_states/noun"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": None}, "benchmark.images is not set"),
        ({"images": "nowhere"}, "nowhere is not a folder: it should be .*<adjective> <noun>"),
        ({"test_nouns": ["pear"]}, "no image of a test noun \\(pear"),
        ({"test_nouns": ["wool"]}, "no noun of the split has two adjectives"),
        ({"test_nouns": []}, "test_nouns: expected a list of nouns"),
        ({"test_nouns": ["wool", "wool"]}, "duplicate noun 'wool'"),
        ({"test_nouns": "no.json"}, "no.json does not exist"),
        ({"text": "adjective nuon"}, "Did you mean 'adjective noun'"),
        ({"tasks": ["tests"]}, "tasks=tests: unknown. Did you mean 'test'"),
    ],
)
def test_faults(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    root = make(tmp_path)
    with pytest.raises(CondsimError, match=message):
        mit_states.load(**{"images": str(root), **arguments})


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["old", "new", "wet", "adj"]), st.sampled_from(["sky", "sea", "sand"])).map(" ".join),
        st.integers(0, 3),
        min_size=1,
    )
)
def test_any_folders_against_brute_force(tmp_path_factory: pytest.TempPathFactory, folders: dict[str, int]) -> None:
    root = make(tmp_path_factory.mktemp("states"), folders) / "images"
    split = mit_states.read_split(root, ["sky", "sand"], inside=True)
    nouns = [split.nouns[noun] for noun in split.noun]
    pairs = {(noun, split.adjectives[adjective]) for noun, adjective in zip(nouns, split.adjective, strict=True)}
    if len(pairs) == len(set(nouns)):
        with pytest.raises(CondsimError, match="no noun of the split has two adjectives"):
            mit_states.read_task(split)
        return
    tasks = [mit_states.read_task(split, name) for name in mit_states.TASKS]
    for task in tasks:
        queries = {(r, task.conditions[c][0]) for r, c in zip(task.reference.tolist(), task.condition, strict=True)}
        assert queries == brute_force(task)
        assert len(task) == len(queries)
        assert all(row not in task.relevant[i] for i, row in enumerate(task.reference))
    test, adjective, noun = tasks
    for i in range(len(test)):
        assert set(test.relevant[i]) == set(adjective.relevant[i]) & set(noun.relevant[i])


def test_a_name_that_is_not_utf8_is_named_or_left_out(tmp_path: Path) -> None:
    root = make(tmp_path)
    before = mit_states.load(str(root))
    odd = root / "images" / "old tomato" / b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    odd.write_bytes(b"")
    with pytest.raises(CondsimError, match=r"caf.*\.jpg': the name holds bytes that are not UTF-8") as caught:
        mit_states.load(str(root))
    str(caught.value).encode()
    after = mit_states.load(str(root), on_error="skip")
    assert after.tasks[0].fingerprint == before.tasks[0].fingerprint
    assert "not UTF-8" in after.tasks[0].skipped[0]


def test_folders_that_differ_from_the_protocol_in_case_are_noted(tmp_path: Path) -> None:
    root = make(tmp_path)
    assert mit_states.load(str(root)).notes == ()
    (root / "images" / "Old Tomato").mkdir()
    (root / "images" / "Old Tomato" / "1.jpg").write_bytes(b"")
    noun, adjective = mit_states.load(str(root)).notes
    assert "nouns of folders and test nouns that differ only in case count as different: 'Tomato', 'tomato'" in noun
    assert "adjectives of folders that differ only in case count as different: 'Old', 'old'" in adjective


def test_blanks_in_a_folders_name_are_one_blank(tmp_path: Path) -> None:
    before = mit_states.load(str(make(tmp_path / "plain")))
    root = make(tmp_path / "odd")
    (root / "images" / "old tomato").rename(root / "images" / "old\u00a0 tomato")
    after = mit_states.load(str(root))
    assert [len(task) for task in after.tasks] == [len(task) for task in before.tasks]
    assert after.tasks[0].conditions == before.tasks[0].conditions
