"""The shipped weights, their compact form, and the trainer on a few steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file

from condsim.datasets.shapes import captions, model_card, train_backbone
from condsim.datasets.shapes import world as w
from condsim.harness.features.open_clip.weights import TOKEN_ROWS, TOKEN_TABLE, compact_state_dict, expand_state_dict

pytestmark = pytest.mark.slow

CONFIG: dict[str, Any] = {
    "seed": 0, "checkpoint_every": 2, "batch_size": 8, "warmup_samples": 16, "single_samples": 16, "scene_samples": 16,
    "head_weight": 0.3, "resemble": 0.5, "group": 4, "learning_rate": 1e-3, "weight_decay": 0.05, "ramp_steps": 2,
    "bfloat16": False, "compile": False, "device": "cpu", "log_every": 2,
}  # fmt: skip


def test_compact_weights_expand_to_the_same_numbers() -> None:
    model = torch.nn.Module()
    model.token_embedding = torch.nn.Embedding(10, 4)
    model.norm = torch.nn.BatchNorm1d(3)
    rows = torch.tensor([0, 3, 9])
    state = model.state_dict()
    compact = compact_state_dict(state, rows)
    assert compact[TOKEN_TABLE].shape == (3, 4)
    full = expand_state_dict(compact, model)
    assert {k: (v.shape, v.dtype) for k, v in full.items()} == {k: (v.shape, v.dtype) for k, v in state.items()}
    torch.testing.assert_close(full[TOKEN_TABLE][rows], state[TOKEN_TABLE][rows], atol=2e-3, rtol=2e-3)
    unused = [i for i in range(10) if i not in rows]
    assert (full[TOKEN_TABLE][unused] == 0).all()


def test_tokens_are_those_of_open_clip() -> None:
    rng = np.random.default_rng(0)
    scenes = w.sample_scenes(rng, 200, "train")
    texts = captions.caption_scenes(rng, scenes, np.zeros(200, dtype=bool), full=0.5).texts
    table = train_backbone.TokenTable(32)
    ours = torch.nn.functional.pad(table(texts), (0, 32))[:, :32]
    assert torch.equal(table.rows[ours], open_clip.tokenizer.SimpleTokenizer(context_length=32)(texts))


def test_short_and_long_captions_encode_as_open_clip_encodes_them() -> None:
    model, _, tokenizer = model_card.load_backbone(train_backbone.BACKBONE_DIR)
    tokens = tokenizer(["red", "a photo of a small striped red circle left of a large dotted blue star", "a star"])
    with torch.no_grad():
        ours = train_backbone.encode_captions(model, tokens[:, : int(tokens.argmax(dim=1).max()) + 1])
        torch.testing.assert_close(ours, model.encode_text(tokens), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx2": True}, False), ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, False),
     ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"neon": True, "bf16": True}, True), ({}, False)],
)  # fmt: skip
def test_bfloat16_is_the_default_where_the_processor_has_units_for_it(
    capabilities: dict[str, bool], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert train_backbone.has_bfloat16_units(torch.device("cpu")) is expected
    assert train_backbone.has_bfloat16_units(torch.device("cuda"))


def test_auto_trains_with_the_setting_that_fits_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {}
    monkeypatch.setattr(train_backbone, "_plan", lambda config: [("warmup", 0)])
    monkeypatch.setattr(train_backbone, "_write", lambda config, *_: settings.update(config))
    for units in (False, True):
        monkeypatch.setattr(train_backbone, "has_bfloat16_units", lambda device, units=units: units)
        train_backbone.train({**CONFIG, "bfloat16": "auto", "checkpoint": str(tmp_path / "state.pt")})
        assert settings["bfloat16"] is units


def test_pair_loss_is_clips_where_only_own_pairs_are_true() -> None:
    logits = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    rows = torch.arange(5)
    cross_entropy = torch.nn.functional.cross_entropy
    expected = (cross_entropy(logits, rows) + cross_entropy(logits.T, rows)) / 2
    torch.testing.assert_close(train_backbone.pair_loss(logits, torch.eye(5)), expected)


def test_every_batch_holds_training_combinations_only() -> None:
    allowed = w.allowed_combinations("train")
    for step, phase in enumerate(("warmup", "single", "scene", "scene", "scene")):
        scenes = train_backbone.draw_batch(CONFIG, step, phase)[0].scenes
        assert allowed[scenes.shape, scenes.color, scenes.texture][scenes.present].all()


def test_a_killed_training_ends_in_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_backbone, "write_model_card", lambda *_: None)

    def config(name: str) -> dict[str, Any]:
        return CONFIG | {"output": str(tmp_path / name), "checkpoint": str(tmp_path / f"{name}.pt")}

    whole = load_file(train_backbone.train(config("whole")))
    draw = train_backbone.draw_batch

    def killed(settings: Any, step: int, phase: str) -> Any:
        if step == 3:
            raise KeyboardInterrupt
        return draw(settings, step, phase)

    monkeypatch.setattr(train_backbone, "draw_batch", killed)
    with pytest.raises(KeyboardInterrupt):
        train_backbone.train(config("parts"))
    steps = []
    monkeypatch.setattr(train_backbone, "draw_batch", lambda c, s, p: steps.append(s) or draw(c, s, p))
    parts = load_file(train_backbone.train(config("parts")))
    assert steps[0] == 2
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, atol=2e-3, rtol=2e-3)


def test_shipped_weights_are_small_and_read_unseen_combinations() -> None:
    folder = train_backbone.BACKBONE_DIR
    assert (folder / "shapes-clip.safetensors").stat().st_size <= 8e6
    model, transform, tokenizer = model_card.load_backbone(folder)
    rows = load_file(folder / "shapes-clip.safetensors")[TOKEN_ROWS]
    assert set(train_backbone.TokenTable(32).rows.tolist()) == set(rows.tolist())
    scenes = w.sample_scenes(np.random.default_rng(7), 200, "test", (1,))
    right = model_card.zero_shot_accuracy(model, transform, tokenizer, scenes)
    floors = {"shape": 0.9, "color": 0.95, "texture": 0.9, "size": 0.95, "background": 0.95, "pattern": 0.95}
    for attribute, floor in floors.items():
        assert right[attribute].mean() >= floor, attribute
