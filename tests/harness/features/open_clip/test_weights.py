"""Weights files: compact ones expand to what they were, foreign ones are refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from condsim.harness.errors import BackboneError, CondsimError
from condsim.harness.features.open_clip.weights import (
    compact_state_dict,
    expand_state_dict,
    load_weights,
)
from encoders import tiny_clip

pytestmark = pytest.mark.slow


def build(folder: Path, seed: int) -> Any:
    return tiny_clip(folder, "tiny-weights", seed=seed)


def test_compact_weights_are_small_and_give_the_same_text_features(tmp_path: Path) -> None:
    whole, other = build(tmp_path, 0), build(tmp_path, 1)
    tokens = open_clip.get_tokenizer("tiny-weights")(["a red square", "a blue circle"])
    for parameter in whole.parameters():
        parameter.data = parameter.data.half().float()
    compact = compact_state_dict(whole.state_dict(), tokens.unique())
    save_file(compact, tmp_path / "compact.safetensors")
    assert (tmp_path / "compact.safetensors").stat().st_size < 800_000 < 2 * 16 * 49408
    load_weights(tmp_path / "compact.safetensors", other)
    with torch.no_grad():
        assert torch.equal(other.encode_text(tokens), whole.encode_text(tokens))
    assert other.token_embedding.weight[40_000].abs().sum() == 0
    assert all(value.dtype == torch.float32 for value in other.state_dict().values() if value.is_floating_point())


def test_expanding_restores_every_kept_row(tmp_path: Path) -> None:
    model = build(tmp_path, 0)
    rows = torch.tensor([0, 5, 49407])
    expanded = expand_state_dict(compact_state_dict(model.state_dict(), rows), model)
    assert expanded.keys() == model.state_dict().keys()
    kept = model.state_dict()["token_embedding.weight"][rows]
    assert torch.equal(expanded["token_embedding.weight"][rows], kept.half().float())


@pytest.mark.parametrize("wrap", ["bare", "state_dict", "CLIP", "module"])
def test_the_usual_wrappings_are_taken_off(tmp_path: Path, wrap: str) -> None:
    whole, other = build(tmp_path, 0), build(tmp_path, 1)
    state = whole.state_dict()
    content = {"bare": state, "module": {f"module.{k}": v for k, v in state.items()}}.get(
        wrap, {wrap: state, "epoch": 3}
    )
    torch.save(content, tmp_path / "w.pt")
    load_weights(tmp_path / "w.pt", other)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), other.state_dict().values(), strict=True))


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    model = build(tmp_path, 0)
    state = model.state_dict()
    state["visual.layer1.0.conv1.weight"] = torch.zeros(3, 3)
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(CondsimError, match=r"other\.safetensors: these weights are not of the chosen model"):
        load_weights(tmp_path / "other.safetensors", model)
    del state["visual.layer1.0.conv1.weight"]
    save_file(state, tmp_path / "less.safetensors")
    with pytest.raises(CondsimError, match=r"less\.safetensors: these weights are not of the chosen model"):
        load_weights(tmp_path / "less.safetensors", model)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('unpickled')",)


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, pickle.dumps(Evil()), pickle.dumps([1, 2])])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_nothing_is_unpickled_and_garbage_is_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    file = tmp_path / f"bad{suffix}"
    file.write_bytes(content)
    with pytest.raises(CondsimError, match=rf"bad{suffix}"):
        load_weights(file, build(tmp_path, 0))
    torch.save({"evil": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(CondsimError, match="cannot be read as plain weights"):
        load_weights(tmp_path / "evil.pt", build(tmp_path, 0))


def wrap(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.parametrize(
    "saved",
    [
        lambda state: {"state_dict": wrap(state, "module."), "epoch": 3, "optimizer": {}},
        lambda state: {"state_dict": wrap(state, "module._orig_mod.")},
        lambda state: wrap(state, "_orig_mod."),
        lambda state: wrap(state, "_orig_mod.module."),
        lambda state: {"model_state_dict": state, "epoch": 1},
        lambda state: {"state_dict": wrap(state, "clip_model."), "hyper_parameters": {}},
        lambda state: {"state_dict": wrap(state, "model.")},
        lambda state: {"model": state, "ema": {name: value * 0 for name, value in state.items()}},
    ],
)
def test_the_usual_forms_of_checkpoints_are_read(
    tmp_path: Path, saved: Callable[[dict[str, torch.Tensor]], dict[str, Any]]
) -> None:
    whole, other = build(tmp_path, 0), build(tmp_path, 1)
    torch.save(saved(whole.state_dict()), tmp_path / "w.pt")
    load_weights(tmp_path / "w.pt", other)
    for name, value in whole.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


def test_settings_among_openais_weights_are_left_out(tmp_path: Path) -> None:
    model = build(tmp_path, 0)
    torch.save(model.state_dict() | {"input_resolution": torch.tensor(224)}, tmp_path / "w.pt")
    load_weights(tmp_path / "w.pt", other := build(tmp_path, 1))
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in other.state_dict().items())


def test_weights_of_another_model_say_what_the_file_has(tmp_path: Path) -> None:
    model = build(tmp_path, 0)
    torch.save({"encoder.a": torch.zeros(1), "encoder.b": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(BackboneError, match=r"the names in the file begin with 'encoder\.a', expected names such as"):
        load_weights(tmp_path / "w.pt", model)
    only = {name: value for name, value in model.state_dict().items() if name.startswith("visual.")}
    torch.save(only, tmp_path / "w.pt")
    with pytest.raises(BackboneError, match="weights of the model are missing, such as"):
        load_weights(tmp_path / "w.pt", model)
    wide = {name: torch.zeros((*value.shape, 2)) for name, value in model.state_dict().items()}
    torch.save(wide, tmp_path / "w.pt")
    with pytest.raises(BackboneError, match="has the shape"):
        load_weights(tmp_path / "w.pt", model)
