"""Training the backbone together with the head, on a tiny ResNet CLIP with batch norm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from condsim.harness.errors import CondsimError
from condsim.harness.features.open_clip.backbone import OpenClip
from condsim.harness.files.state_dict import read_state_dict
from condsim.harness.task import ImageTable
from condsim.harness.triplets import Triplets
from condsim.methods.combiner import Combiner
from condsim.methods.inner_product import ImageOnly
from condsim.methods.query_adaptive import QueryAdaptive
from condsim.methods.training.data import Joined
from condsim.methods.training.finetune import Finetuned
from condsim.methods.training.plan import HeldOut, Plan, make_plan
from condsim.methods.training.train import train
from encoders import tiny_clip

pytestmark = pytest.mark.slow

IMAGES = 10
TRAINING = {
    "steps": 6, "batch_size": 4, "learning_rate": 1e-3, "validate_every": 3, "checkpoint_every": 2, "patience": 0,
    "hard_targets": 0, "backbone": True, "device": "auto",
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finetune")
    tiny_clip(folder, "tiny-tuned")
    rng = np.random.default_rng(0)
    for i in range(IMAGES):
        Image.fromarray(rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def backbone(files: Path, tmp_path: Path) -> Callable[..., OpenClip]:
    def make(weights: Path = files / "weights.safetensors", **settings: Any) -> OpenClip:
        return OpenClip(
            "tiny-tuned", model_config=files / "tiny-tuned.json", weights=weights, device="cpu", workers=2,
            cache_dir=tmp_path / "cache", **settings,
        )  # fmt: skip

    return make


def triplets(files: Path, name: str = "some", texts: bool = True, boxes: bool = False) -> Triplets:
    rng = np.random.default_rng(len(name))
    corners = np.tile(np.array([2.0, 2.0, 20.0, 24.0]), (IMAGES, 1)) if boxes else None
    table = ImageTable(files, tuple(f"{i}.png" for i in range(IMAGES)), corners)
    rows = rng.integers(IMAGES, size=(2, 40))
    text = rng.integers(3, size=40) if texts else np.full(40, -1)
    return Triplets(name, table, (f"{name} red", f"{name} blue", f"{name} green"), rows[0], text, rows[1])


def plan_for(source: Triplets, backbone: OpenClip, **training: Any) -> Plan:
    method = Combiner(projection=6, hidden=6, dropout=0.1)
    return make_plan(
        "combiner", method, {"projection": 6}, backbone, [source], {**TRAINING, **training}, HeldOut(0.3, 20), "mrr"
    )


def test_a_batch_has_the_features_of_the_frozen_backbone_and_zeros_for_missing_parts(
    files: Path, backbone: Callable[..., OpenClip]
) -> None:
    sources = [triplets(files), triplets(files, "captions", texts=False, boxes=True)]
    sources[0].reference[1] = -1
    data, frozen = Joined.of(sources), backbone()
    which = np.array([1, 0, 5, 41, 60, 5])
    batch = Finetuned.of(frozen).batch(data, which)
    images = torch.cat([frozen.encode_images(source.images) for source in sources])
    texts = torch.cat([frozen.encode_texts(source.texts) for source in sources])
    for i, row in enumerate(which):
        reference = torch.zeros(12) if data.reference[row] < 0 else images[data.reference[row]]
        text = torch.zeros(12) if data.text[row] < 0 else texts[data.text[row]]
        torch.testing.assert_close(batch.reference[i].detach(), reference, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(batch.text[i].detach(), text, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(batch.target[i].detach(), images[data.target[row]], atol=1e-5, rtol=1e-4)
    assert batch.target_row.tolist() == data.target[which].tolist()


def test_gradients_reach_the_backbone_and_its_batch_norm_statistics_stay(
    files: Path, backbone: Callable[..., OpenClip], tmp_path: Path
) -> None:
    before = {name: tensor.clone() for name, tensor in backbone().loaded.model.state_dict().items()}
    plan = plan_for(triplets(files), backbone())
    path = plan.checkpoint(tmp_path)
    train(plan, path)
    after = read_state_dict(plan.backbone_weights(path)).state
    assert after.keys() == before.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {
        "visual.conv1.weight",
        "visual.attnpool.c_proj.weight",
        "text_projection",
        "positional_embedding",
    } <= changed
    assert not [name for name in changed if "running_" in name or name.startswith("logit_")]
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone().loaded.model.state_dict().items())


def test_the_trained_backbone_loads_as_weights_of_the_backbone_and_gives_other_features(
    files: Path, backbone: Callable[..., OpenClip], tmp_path: Path
) -> None:
    plan = plan_for(triplets(files), backbone())
    path = plan.checkpoint(tmp_path)
    train(plan, path)
    settings = dict(plan.backbone.settings_with(plan.backbone_weights(path)))  # type: ignore[attr-defined]
    assert settings.pop("pretrained") is None
    tuned = backbone(Path(settings.pop("weights")), **settings)
    own = load_file(plan.backbone_weights(path))
    loaded = tuned.loaded.model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in own.items())
    table = triplets(files).images
    assert not torch.allclose(tuned.encode_images(table), backbone().encode_images(table), atol=1e-4)
    Combiner(str(path)).trained_network(12)


class KilledError(Exception):
    pass


def test_a_training_that_is_killed_resumes_and_ends_in_the_same_bytes(
    files: Path, backbone: Callable[..., OpenClip], tmp_path: Path
) -> None:
    plan = plan_for(triplets(files), backbone())
    whole, resumed = plan.checkpoint(tmp_path / "whole"), plan.checkpoint(tmp_path / "resumed")
    train(plan, whole)

    def kill(row: Any) -> None:
        raise KilledError

    with pytest.raises(KilledError):  # at the first validation, after the state of step 2 was saved
        train(plan, resumed, on_row=kill)
    assert resumed.with_suffix(".running").exists()
    train(plan, resumed)
    assert resumed.read_bytes() == whole.read_bytes()
    assert plan.backbone_weights(resumed).read_bytes() == plan.backbone_weights(whole).read_bytes()
    assert not resumed.with_suffix(".running").exists()


@pytest.mark.parametrize("damaged", ["head", "backbone"])
def test_a_damaged_checkpoint_is_named_and_trained_again(
    files: Path, backbone: Callable[..., OpenClip], tmp_path: Path, damaged: str
) -> None:
    plan = plan_for(triplets(files), backbone(), steps=2)
    path = plan.checkpoint(tmp_path)
    lines: list[str] = []
    train(plan, path, lines.append)
    file = path if damaged == "head" else plan.backbone_weights(path)
    whole = file.read_bytes()
    train(plan, path, lines.append)
    assert lines.pop() == f"already trained: {path} (force=true trains again)"
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    train(plan, path, lines.append)
    assert any(f"{file}: damaged" in line and "trained again" in line for line in lines)
    assert file.read_bytes() == whole


def test_what_cannot_be_finetuned_is_refused(files: Path, backbone: Callable[..., OpenClip], tmp_path: Path) -> None:
    class Fixed:
        name, width, device, identity = "fixed", 12, torch.device("cpu"), {"model": "fixed"}

    with pytest.raises(CondsimError, match=r"training\.backbone=true: the weights of fixed"):
        plan_for(triplets(files), Fixed())  # type: ignore[arg-type]
    with pytest.raises(CondsimError, match="nothing to train"):
        make_plan("image_only", ImageOnly(), {}, backbone(), [triplets(files)], TRAINING, HeldOut(0, 0), "mrr")
    small = QueryAdaptive(rank=1, steps=1, hidden=8, heads=1, feedforward=8, depth=1)
    plan = make_plan("qa", small, {}, backbone(), [triplets(files)], TRAINING, HeldOut(0, 0), "mrr")
    with pytest.raises(CondsimError, match=r"method\.semi_positives=0"):
        train(plan, plan.checkpoint(tmp_path))


def test_query_adaptive_without_semi_positives_trains_with_the_backbone(
    files: Path, backbone: Callable[..., OpenClip], tmp_path: Path
) -> None:
    small = QueryAdaptive(rank=1, steps=1, hidden=8, heads=1, feedforward=8, depth=1, semi_positives=0)
    plan = make_plan("qa", small, {}, backbone(), [triplets(files)], {**TRAINING, "steps": 1}, HeldOut(0, 0), "mrr")
    train(plan, plan.checkpoint(tmp_path))
    assert plan.backbone_weights(plan.checkpoint(tmp_path)).exists()


def test_a_picture_that_cannot_be_read_is_named(files: Path, backbone: Callable[..., OpenClip]) -> None:
    table = ImageTable(files, ("none.png",))
    with pytest.raises(CondsimError, match=r"none\.png"):
        Finetuned.of(backbone()).encode_images(table)


def test_a_checkpoint_is_named_after_the_content_of_its_pictures(
    files: Path, backbone: Callable[..., OpenClip]
) -> None:
    """Pictures that change and keep their names are another training."""
    small = QueryAdaptive(hidden=8, heads=1, feedforward=8, depth=1, steps=1)

    def name(content: str) -> str:
        plan = make_plan(
            "qa", small, {}, backbone(), [triplets(files)], TRAINING, HeldOut(0, 0), "mrr",
            images_digest=lambda table: content,
        )  # fmt: skip
        return plan.checkpoint(Path()).name

    assert name("old") == name("old") != name("new")
