"""What identifies a run: it is another one exactly where its numbers could be others."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from condsim.harness.errors import CondsimError, UnusableRowsError
from condsim.harness.run.identity import RunSettings, identify, with_contents
from condsim.harness.task import Benchmark, ImageTable, Ragged, Task, TrainSplit


class Backbone:
    """A user's: it reads files, and says nothing of their content."""

    name, width, device = "tiny", 2, torch.device("cpu")

    def __init__(self, model: str = "tiny") -> None:
        self.identity = {"model": model}

    def encode_images(self, table: ImageTable) -> torch.Tensor:
        raise NotImplementedError

    def encode_texts(self, texts: object) -> torch.Tensor:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDSIM_CACHE", str(tmp_path / "cache"))


def benchmark(root: Path, *names: str) -> Benchmark:
    table = ImageTable(root, names or ("a.png", "b.png"))
    task = Task(
        "toy", "one", table, conditions=(("color",),), condition=np.array([0]), reference=np.array([0]),
        relevant=Ragged.of([[1]]), metrics=("recall@1",), gallery=np.array([1]),
    )  # fmt: skip
    return Benchmark("toy", (task,), TrainSplit(ImageTable(root, ("c.png",)), ("a dog",)))


def pictures(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name in "abc":
        (folder / f"{name}.png").write_bytes(f"pixels of {name}".encode())
    return folder


def run(made: Benchmark, *, reads_train: bool = False, backbone: Any = None, **changes: Any) -> str:
    method = SimpleNamespace(reads_train=reads_train)
    settings = RunSettings("mine", changes.pop("config", {}), {}, **changes)
    return identify(made, made.tasks[0], method, backbone or Backbone(), settings).run  # type: ignore[arg-type]


def test_other_pixels_under_the_same_names_are_another_run(tmp_path: Path) -> None:
    made = benchmark(pictures(tmp_path / "one"))
    before = run(made)
    assert run(made) == before
    (tmp_path / "one/b.png").write_bytes(b"other pixels of b")
    assert run(made) != before
    assert run(benchmark(pictures(tmp_path / "two"))) == before  # the place does not count


def test_pictures_of_the_training_split_count_for_a_method_that_reads_it(tmp_path: Path) -> None:
    made = benchmark(pictures(tmp_path / "one"))
    before, reading = run(made), run(made, reads_train=True)
    assert before != reading
    (tmp_path / "one/c.png").write_bytes(b"other pixels of c")
    assert run(made) == before
    assert run(made, reads_train=True) != reading
    assert made.train is not None
    other_phrases = replace(made, train=replace(made.train, phrases=("a cat",)))
    assert run(other_phrases, reads_train=True) != run(made, reads_train=True)


def test_a_picture_that_is_missing_is_seen_or_said(tmp_path: Path) -> None:
    made = benchmark(pictures(tmp_path / "one"))
    before = run(made)
    (tmp_path / "one/b.png").unlink()
    try:
        assert run(made) != before
    except UnusableRowsError as error:
        assert "b.png" in str(error)  # noqa: PT017


def test_settings_statistics_backbone_and_protocols_count(tmp_path: Path) -> None:
    made = benchmark(pictures(tmp_path / "one"))
    runs = [
        run(made),
        run(made, config={"rank": 5}),
        run(made, config={"rank": 6}),
        run(made, resamples=100),
        run(made, seed=1),
        run(made, backbone=Backbone("other")),
        run(replace(made, protocol=2)),
    ]
    assert len(set(runs)) == len(runs)


def test_the_number_of_best_candidates_and_the_version_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = benchmark(pictures(tmp_path / "one"))
    before = run(made, top=10)
    assert run(made, top=50) == before
    monkeypatch.setattr("importlib.metadata.version", lambda name: "99.0")
    assert run(made) == before


def test_a_setting_that_json_cannot_hold_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(CondsimError, match="finite number"):
        run(benchmark(tmp_path), config={"weight": float("nan")})


def test_keys_that_are_numbers_have_the_hash_of_what_is_read_again(tmp_path: Path) -> None:
    assert with_contents({"weights": {2: 0.5, 10: 1}}, tmp_path) == {"weights": {"2": 0.5, "10": 1}}


def test_content_counts_and_place_does_not(tmp_path: Path) -> None:
    one, two, other = (tmp_path / name for name in ("one.yaml", "two.yaml", "other.yaml"))
    for path, text in ((one, "color: [red]"), (two, "color: [red]"), (other, "color: [green]")):
        path.write_text(text)
    config = {"phrases": {"file": str(one)}, "rank": 5, "name": "color", "several": [str(two), None]}
    seen = with_contents(config, tmp_path)
    assert seen["phrases"]["file"] == seen["several"][0] != with_contents(str(other), tmp_path)
    assert str(tmp_path) not in str(seen)
    assert (seen["rank"], seen["name"], seen["several"][1]) == (5, "color", None)


def test_a_changed_file_is_another(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"1")
    before = with_contents(str(path), tmp_path)
    path.write_bytes(b"2")
    assert with_contents(str(path), tmp_path) != before


def test_a_file_beside_the_images_and_in_a_package(tmp_path: Path) -> None:
    (tmp_path / "seen.csv").write_text("image,category\n")
    beside = with_contents("images://seen.csv", tmp_path)
    assert beside == with_contents(str(tmp_path / "seen.csv"), Path("elsewhere"))
    assert with_contents("pkg://condsim.methods.phrases/lexicon.yaml", tmp_path).startswith("content:")


def test_what_is_no_file_stays(tmp_path: Path) -> None:
    for text in ("a photo of {}", "", "~", "pkg://no.such.package/file", "x" * 5000, "null\0byte", str(tmp_path)):
        assert with_contents(text, tmp_path) == text


def test_our_classes_count_by_their_protocol(tmp_path: Path) -> None:
    place = "condsim.methods.inner_product"
    config: dict[str, Any] = {"_target_": f"{place}.ImageOnly", "base": {"_target_": f"{place}.TextOnly"}}
    seen = with_contents(config, tmp_path)
    assert seen == {**config, "protocol": 1, "base": {**config["base"], "protocol": 1}}


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Write a module outside condsim, as a user's; imported afresh."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, text: str) -> None:
        from condsim.harness.run import identity

        identity._code_of_target.cache_clear()
        (tmp_path / f"{name}.py").write_text(text)
        sys.modules.pop(name, None)

    return write


def test_the_source_of_a_class_from_outside_counts(tmp_path: Path, user_module: Callable[[str, str], None]) -> None:
    start = "from condsim.methods.inner_product import ImageOnly\n"
    config = {"_target_": "condsim_user_method.Mine"}
    user_module("condsim_user_method", f"{start}class Mine(ImageOnly): pass\n")
    before = with_contents(config, tmp_path)
    assert before["protocol"] == 1
    assert len(before["source"]) == 1
    user_module("condsim_user_method", f"{start}class Mine(ImageOnly): weight = 2\n")
    assert with_contents(config, tmp_path) != before


def test_the_source_of_a_base_class_counts(tmp_path: Path, user_module: Callable[[str, str], None]) -> None:
    config = {"_target_": "condsim_user_child.Mine"}
    user_module("condsim_user_child", "from condsim_user_base import Base\nclass Mine(Base): pass\n")
    seen = []
    for weight in (1, 2):
        user_module("condsim_user_base", f"class Base: weight = {weight}\n")
        sys.modules.pop("condsim_user_child", None)
        seen.append(with_contents(config, tmp_path))
    assert seen[0] != seen[1]


def test_two_backbones_of_one_file_are_not_one_run(tmp_path: Path) -> None:
    class Other(Backbone):
        pass

    made = benchmark(pictures(tmp_path / "one"))
    assert run(made, backbone=Backbone()) == run(made, backbone=Backbone())
    assert run(made, backbone=Other()) != run(made, backbone=Backbone())
