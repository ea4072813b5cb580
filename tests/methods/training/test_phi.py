"""Training the networks of pseudo-words as a plan does it, on a small CLIP: validation, and SEARLE's two stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from condsim.harness.errors import CondsimError
from condsim.harness.features.open_clip.backbone import OpenClip
from condsim.harness.files.state_dict import read_state_dict
from condsim.harness.task import ImageTable, Ragged, Task
from condsim.harness.triplets import Triplets
from condsim.methods.pic2word import Pic2Word
from condsim.methods.searle import Searle
from condsim.methods.shared.inversion import Inversion
from condsim.methods.shared.pseudo_words import PseudoWords
from condsim.methods.training.estimate import estimate
from condsim.methods.training.method import Batch
from condsim.methods.training.plan import HeldOut, Plan, make_plan
from condsim.methods.training.train import frozen_features, train
from encoders import tiny_clip

pytestmark = pytest.mark.slow

IMAGES, WORD_WIDTH = 10, 16
TEXTS = ("a red house", "a blue tree", "a green dog")
TRAINING = {
    "steps": 4, "batch_size": 4, "learning_rate": 1e-3, "validate_every": 2, "checkpoint_every": 1, "patience": 0,
    "hard_targets": 0, "backbone": False, "device": "auto",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phi")
    tiny_clip(folder, "tiny-phi")
    (folder / "concepts.txt").write_text("house\ntree\ndog\nship\n")
    rng = np.random.default_rng(0)
    for i in range(IMAGES):
        Image.fromarray(rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def plan_of(folder: Path, method: PseudoWords, watch: Any, references: bool = False, **training: Any) -> Plan:
    backbone = OpenClip(
        "tiny-phi", model_config=folder / "tiny-phi.json", weights=folder / "weights.safetensors", device="cpu",
        workers=1, cache_dir=folder,
    )  # fmt: skip
    rows = np.arange(2 * IMAGES) % IMAGES
    reference = (rows + 3) % IMAGES if references else np.full(len(rows), -1)
    source = Triplets("captioned", pictures(folder), TEXTS, reference, rows % len(TEXTS), rows)
    return make_plan("phi", method, {}, backbone, [source], {**TRAINING, **training}, watch, "mrr")


def pictures(folder: Path) -> ImageTable:
    return ImageTable(folder, tuple(f"{i}.png" for i in range(IMAGES)))


def composed(folder: Path) -> Task:
    rows = np.arange(IMAGES)
    return Task(
        benchmark="toy", name="composed", images=pictures(folder), conditions=(("is red",), ("has a tree",)),
        condition=rows % 2, reference=rows, relevant=Ragged.of([(row + 1) % IMAGES] for row in rows),
        metrics=("mrr",), gallery=rows,
    )  # fmt: skip


def pic2word() -> Pic2Word:
    return Pic2Word(hidden=6, word_width=WORD_WIDTH, dropout=0.0)


def searle(folder: Path, **inversion: Any) -> Searle:
    settings = {"steps": 3, "batch_size": 4, "top_k": 2, **inversion}
    return Searle(
        hidden=6, word_width=WORD_WIDTH, dropout=0.0, concepts=str(folder / "concepts.txt"),
        inversion=Inversion(**settings),
    )  # fmt: skip


@pytest.mark.parametrize("held_out", [True, False])
def test_phi_is_validated_and_the_best_weights_are_those_that_score_so(
    folder: Path, tmp_path: Path, held_out: bool
) -> None:
    watch: Any = HeldOut(0.5, 20) if held_out else [composed(folder)]
    plan = plan_of(folder, pic2word(), watch, references=True)
    rows: list[float] = []
    train(plan, plan.checkpoint(tmp_path), on_row=lambda row: rows.append(row["validation"]))
    about = read_state_dict(plan.checkpoint(tmp_path)).settings
    assert len(rows) == 2
    assert about["validation"] == max(rows)
    assert 0 < about["validation"] <= 1


def test_data_that_phi_cannot_be_validated_on_is_refused_before_the_training(folder: Path) -> None:
    message = r"the method needs a reference image, and held_out/captioned has .*; set validation\.share=0"
    with pytest.raises(CondsimError, match=message):
        plan_of(folder, pic2word(), HeldOut(0.5, 20))


def test_searle_learns_the_vectors_of_the_inversion(folder: Path, tmp_path: Path) -> None:
    plan = plan_of(folder, searle(folder), HeldOut(0, 0), steps=30, validate_every=10, learning_rate=1e-2)
    path = plan.checkpoint(tmp_path)
    losses: list[float] = []
    train(plan, path, on_row=lambda row: losses.append(row["loss"]))
    assert losses[-1] < losses[0]
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".json", ".safetensors"]
    network = Searle(str(path)).trained_network(plan.backbone.width)
    assert Searle(str(path)).settings_of(network) == {"hidden": 6, "word_width": WORD_WIDTH}


def test_searles_loss_is_the_weighted_sum_of_distillation_and_phrases(folder: Path, tmp_path: Path) -> None:
    plan = plan_of(folder, searle(folder, top_k=1), HeldOut(0, 0))
    method, images = plan.method, frozen_features(plan).images
    data = plan.training_data(images, tmp_path / "kept")
    torch.manual_seed(3)
    network = method.new_network(plan.backbone.width)
    rows = torch.tensor([0, 4, 7])
    batch = Batch(images[rows], images[rows], images[rows], rows)
    found = method.objective(data)(network, batch).item()
    taught, made = read_state_dict(tmp_path / "kept").state["words"][rows], network(images[rows]).detach()
    both = torch.cat((taught, made)).double()
    scores = torch.exp(torch.cosine_similarity(both[:, None], both[None], dim=2) / 0.25)
    distil = -torch.log(torch.cat([scores.diagonal(3)] * 2) / (scores.sum(dim=1) - scores.diagonal())).mean()
    nouns = ("house", "tree", "dog")
    assert data.encode_words is not None
    assert data.encode_texts is not None
    filled = [template.replace("$", noun) for noun in nouns for template in method.inversion.templates]  # type: ignore[attr-defined]
    features = torch.nn.functional.normalize(data.encode_texts(filled).view(3, 24, -1), dim=2).mean(dim=1)
    nearest = torch.cosine_similarity(images[rows][:, None], features[None], dim=2).argmax(dim=1).tolist()
    phrases = [next(text for text in TEXTS if nouns[i] in text) for i in nearest]
    masked = [phrase.replace(nouns[i], "$") for phrase, i in zip(phrases, nearest, strict=True)]
    phrase = 1 - torch.cosine_similarity(data.encode_words(masked, made), data.encode_texts(phrases)).mean()
    assert found == pytest.approx(distil.item() + 0.25 * phrase.item(), rel=1e-4)


def test_an_interrupted_inversion_resumes_and_ends_in_the_same_bytes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(folder, searle(folder), HeldOut(0, 0))
    whole, resumed = plan.checkpoint(tmp_path / "whole"), plan.checkpoint(tmp_path / "resumed")
    train(plan, whole)
    invert, numbers = Inversion._invert, list[int]()

    def killed(self: Inversion, images: Any, number: int, *more: Any) -> Any:
        numbers.append(number)
        if numbers == [0, 1]:
            raise KeyboardInterrupt
        return invert(self, images, number, *more)

    monkeypatch.setattr(Inversion, "_invert", killed)
    with pytest.raises(KeyboardInterrupt):
        train(plan, resumed)
    kept = resumed.with_suffix(".kept").read_bytes()
    train(plan, resumed)
    assert numbers == [0, 1, 1, 2]  # the first batch was kept
    assert resumed.read_bytes() == whole.read_bytes()
    resumed.with_suffix(".kept").write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    resumed.unlink()
    train(plan, resumed)
    assert numbers[4:] == [0, 1, 2]  # a damaged file is not used
    assert resumed.read_bytes() == whole.read_bytes()


def test_an_estimate_of_searle_inverts_no_image(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Inversion, "_invert")
    assert estimate(plan_of(folder, searle(folder), HeldOut(0, 0)))["time"].endswith(
        "on cpu, without the inversion of every image"
    )
