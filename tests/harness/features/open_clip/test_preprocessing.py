"""What a pretrained tag knows and a weights file does not: from the tag, a file beside the weights, or the settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from condsim.harness.errors import BackboneError, CondsimError
from condsim.harness.features.open_clip.backbone import OpenClip
from condsim.harness.features.open_clip.model import ModelSpec
from condsim.harness.features.open_clip.preprocessing import NAMES, GivenPreprocessing, Preprocessing
from encoders import tiny_clip

pytestmark = pytest.mark.slow

HALF = (0.5, 0.5, 0.5)
OPENAI = Preprocessing()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file that is only named here: nothing is loaded."""
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"weights")
    return file


def digest(_: Path) -> bytes:
    return b"1234"


def spec(model: str, weights: Path | None, tag: str | None = None, **given: Any) -> ModelSpec:
    return ModelSpec(model, tag, None, weights, GivenPreprocessing(**given))


def test_the_defaults_are_open_clips() -> None:
    usual = open_clip.transform.PreprocessCfg()
    assert {name: getattr(usual, name) for name in NAMES if name != "quick_gelu"} == {
        name: getattr(OPENAI, name) for name in NAMES if name != "quick_gelu"
    }


@pytest.mark.parametrize(
    ("model", "tag"),
    [
        ("ViT-B-32", "openai"),
        ("ViT-L-14", "laion2b_s32b_b82k"),
        ("ViT-B-16-SigLIP", "webli"),
        ("MobileCLIP-S1", "datacompdr"),
        ("ViT-H-14-quickgelu", "dfn5b"),
        ("ViT-L-14-CLIPA", "datacomp1b"),
    ],
)
def test_a_tag_beside_a_weights_file_gives_the_tags_preprocessing(model: str, tag: str, weights: Path) -> None:
    known = open_clip.get_pretrained_cfg(model, tag)
    found = spec(model, weights, tag).preprocessing()
    assert (found.mean, found.std) == (tuple(known["mean"]), tuple(known["std"]))
    assert (found.interpolation, found.resize_mode) == (known["interpolation"], known["resize_mode"])
    assert found.quick_gelu == known.get("quick_gelu", False)
    assert found == spec(model, None, tag).preprocessing(), "the same as with the tag's own weights"


@pytest.mark.parametrize("model", ["ViT-B-16-SigLIP", "MobileCLIP-S1", "ViT-L-14-CLIPA"])
def test_where_all_tags_agree_none_needs_to_be_named(model: str, weights: Path) -> None:
    (tag, *_) = open_clip.list_pretrained_tags_by_model(model)
    assert spec(model, weights).preprocessing() == spec(model, weights, tag).preprocessing() != OPENAI


def test_where_tags_differ_and_none_is_named_the_choices_are_listed(weights: Path) -> None:
    with pytest.raises(BackboneError) as caught:
        spec("ViT-L-14", weights).preprocessing()
    message = str(caught.value)
    for part in ("openai", "laion2b_s32b_b82k", "quick_gelu=true", "mean=[0.5,0.5,0.5]", "backbone.pretrained=TAG"):
        assert part in message
    with pytest.raises(BackboneError, match="resize_mode=squash"):
        spec("ViT-H-14", weights).preprocessing()
    with pytest.raises(BackboneError, match="quick_gelu"):
        spec("ViT-B-32", weights).identity(digest)


def test_settings_decide_what_the_tags_leave_open(weights: Path) -> None:
    assert spec("ViT-B-32", weights, quick_gelu=False).preprocessing() == OPENAI
    assert spec("ViT-B-32", weights, quick_gelu=True).preprocessing() == Preprocessing(quick_gelu=True)
    found = spec("ViT-L-14", weights, quick_gelu=False, mean=HALF, std=HALF).preprocessing()
    assert found == Preprocessing(mean=HALF, std=HALF)
    found = spec("ViT-B-32", weights, "openai", resize_mode="squash").preprocessing()
    assert found == Preprocessing(quick_gelu=True, resize_mode="squash"), "a setting changes what a tag says"


def test_the_identity_changes_only_with_the_numbers(weights: Path) -> None:
    base = spec("ViT-B-32", weights, quick_gelu=False).identity(digest)
    assert set(base) == {"model", "architecture", "open_clip", "weights"}, "as before there were these settings"
    quick = spec("ViT-B-32", weights, quick_gelu=True).identity(digest)
    assert quick == base | {"quick_gelu": "true"}
    assert spec("ViT-B-32", weights, "openai").identity(digest) == quick, "the same features have the same identity"
    siglip = spec("ViT-B-16-SigLIP", weights).identity(digest)
    assert siglip.items() >= {"mean": "[0.5,0.5,0.5]", "std": "[0.5,0.5,0.5]", "resize_mode": "squash"}.items()
    tag = spec("ViT-B-32", None, "openai").identity(digest)
    assert set(tag) == {"model", "architecture", "open_clip", "pretrained"}
    assert spec("ViT-B-32", None, "openai", quick_gelu=True, resize_mode="shortest").identity(digest) == tag
    assert spec("ViT-B-32", None, "openai", std=HALF).identity(digest) == tag | {"std": "[0.5,0.5,0.5]"}


def hub_config(**changes: Any) -> dict[str, Any]:
    """The form in which models on the Hugging Face hub describe themselves."""
    model = json.loads((Path(open_clip.__file__).parent / "model_configs" / "ViT-L-14.json").read_text())
    preprocess = {"mean": list(HALF), "std": list(HALF), "interpolation": "bilinear", "resize_mode": "squash"}
    return {"model_cfg": model | {"quick_gelu": True}, "preprocess_cfg": preprocess | changes}


def test_a_config_beside_the_weights_is_read(weights: Path) -> None:
    beside = weights.with_name("open_clip_config.json")
    beside.write_text(json.dumps(hub_config()))
    expected = Preprocessing(HALF, HALF, "bilinear", "squash", True)
    assert spec("ViT-L-14", weights).preprocessing() == expected
    assert spec("ViT-L-14", weights, interpolation="bicubic").preprocessing() == Preprocessing(
        HALF, HALF, "bicubic", "squash", True
    )
    assert spec("ViT-L-14", weights, "laion2b_s32b_b82k").preprocessing() == Preprocessing(HALF, HALF), (
        "a tag is explicit"
    )
    assert ModelSpec("mine", None, beside, weights).preprocessing() == expected, "as the architecture's own file"
    assert ModelSpec("mine", None, beside, weights).architecture()["embed_dim"] == 768


@pytest.mark.parametrize("content", ["[", "[]", '{"preprocess_cfg": {"mean": [1, 2]}}', '{"preprocess_cfg": 3}'])
def test_a_config_that_cannot_be_used_is_named(weights: Path, content: str) -> None:
    weights.with_name("open_clip_config.json").write_text(content)
    with pytest.raises(BackboneError, match=r"open_clip_config\.json"):
        spec("ViT-L-14", weights).preprocessing()


def test_a_config_of_another_image_size_is_refused(weights: Path) -> None:
    config = hub_config()
    config["model_cfg"]["vision_cfg"]["image_size"] = 336
    weights.with_name("open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError, match="336 pixels, but the chosen architecture takes 224"):
        spec("ViT-L-14", weights).preprocessing()


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"mean": [0.5, 0.5]}, "backbone.mean"),
        ({"mean": "abc"}, "backbone.mean"),
        ({"std": 0}, "backbone.std"),
        ({"std": [0.2, float("nan"), 0.2]}, "backbone.std"),
        ({"interpolation": "bicubik"}, "'bicubic'"),
        ({"resize_mode": "crop"}, "backbone.resize_mode"),
        ({"quick_gelu": "yes"}, "backbone.quick_gelu"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_by_name(settings: dict[str, Any], part: str, weights: Path) -> None:
    with pytest.raises(CondsimError, match=part):
        OpenClip("ViT-B-32", weights=weights, **settings)


def test_the_settings_reach_the_model_as_open_clip_applies_them(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    from condsim.harness.task import ImageTable

    tiny_clip(tmp_path, "tiny-settings", "w.safetensors", vision={"layers": 1, "width": 32, "patch_size": 16})
    rng = np.random.default_rng(0)
    names = ("a.png", "b.png")
    for name, size in zip(names, ((40, 70), (64, 30)), strict=True):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / name)
    settings: dict[str, Any] = {"mean": [0.1, 0.2, 0.3], "std": [0.9, 0.8, 0.7], "interpolation": "bilinear"}
    for resize_mode in ("squash", "longest", "shortest"):
        model, _, preprocess = open_clip.create_model_and_transforms(
            "tiny-settings", str(tmp_path / "w.safetensors"), force_quick_gelu=True, image_mean=settings["mean"],
            image_std=settings["std"], image_interpolation="bilinear", image_resize_mode=resize_mode,
        )  # fmt: skip
        with torch.no_grad():
            images = [preprocess(Image.open(tmp_path / name)) for name in names]
            expected = model.eval().encode_image(torch.stack(images))
        backbone = OpenClip(
            "tiny-settings", weights=tmp_path / "w.safetensors", model_config=tmp_path / "tiny-settings.json",
            quick_gelu=True, resize_mode=resize_mode, cache_dir=tmp_path / "cache", device="cpu", **settings,
        )  # fmt: skip
        torch.testing.assert_close(backbone.encode_images(ImageTable(tmp_path, names)), expected)
