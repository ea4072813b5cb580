"""The released QuARI against its equations in plain functions on a state dict, in float64; and what it refuses."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn.functional import gelu

from condsim.harness.errors import CondsimError
from condsim.harness.method import Queries
from condsim.methods.quari import Quari, load_released, read_config
from encoders import Space

E, R, H, STEPS, HEADS, LAYERS = 24, 3, 16, 3, 2, 2
SETTINGS: dict[str, Any] = {
    "embedding_dim": E, "low_rank_dim": R, "hidden_dim": H, "num_steps": STEPS, "nhead": HEADS, "num_layers": LAYERS,
    "dropout": 0.1, "query_residual_weight": 0.3, "use_fro_norm": True, "anchor_scale": 0.8,
}  # fmt: skip


def released_state(width: int = E, rank: int = R, hidden: int = H, layers: int = LAYERS) -> dict[str, Tensor]:
    """Random weights under the published names; the positions are the published sinusoids."""
    draw = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}

    def linear(name: str, outputs: int, inputs: int) -> None:
        state[f"{name}.weight"] = torch.randn(outputs, inputs, generator=draw) / inputs**0.5
        state[f"{name}.bias"] = 0.3 * torch.randn(outputs, generator=draw)

    def norm(name: str) -> None:
        state[f"{name}.weight"] = 1 + 0.2 * torch.randn(hidden, generator=draw)
        state[f"{name}.bias"] = 0.2 * torch.randn(hidden, generator=draw)

    linear("query_encoder.0", hidden, width)
    norm("query_encoder.1")
    linear("query_encoder.4", hidden, hidden)
    norm("query_encoder.5")
    linear("step_proj.0", hidden, hidden)
    linear("step_proj.2", hidden, hidden)
    for decoder in ("query_decoder", "dec_u_img", "dec_v_img"):
        linear(f"{decoder}.0", hidden, hidden)
        linear(f"{decoder}.3", width, hidden)
    for n in range(layers):
        layer = f"transformer.layers.{n}"
        linear(f"{layer}.self_attn.in_proj", 3 * hidden, hidden)
        state[f"{layer}.self_attn.in_proj_weight"] = state.pop(f"{layer}.self_attn.in_proj.weight")
        state[f"{layer}.self_attn.in_proj_bias"] = state.pop(f"{layer}.self_attn.in_proj.bias")
        linear(f"{layer}.self_attn.out_proj", hidden, hidden)
        linear(f"{layer}.linear1", 4 * hidden, hidden)
        linear(f"{layer}.linear2", hidden, 4 * hidden)
        norm(f"{layer}.norm1")
        norm(f"{layer}.norm2")
    position = torch.arange(2 * rank + 1)[:, None] * 10_000 ** (-torch.arange(0, hidden, 2) / hidden)
    state["pos_emb"] = torch.stack([position.sin(), position.cos()], dim=2).reshape(2 * rank + 1, hidden)
    state["pos_scale"] = torch.ones(1)
    return state


def expected_scores(state: Mapping[str, Tensor], query: Tensor, items: Tensor, settings: Mapping[str, Any]) -> Tensor:
    """q' . unit(d W) of one unit query [E] and unit items [N, E], with W in full, in float64."""
    w = {name: tensor.double() for name, tensor in state.items()}
    query, items = query.double(), items.double()
    rank, hidden, heads = settings["low_rank_dim"], settings["hidden_dim"], settings["nhead"]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(dim=-1, keepdim=True)
        return (
            centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt() * w[f"{name}.weight"]
            + w[f"{name}.bias"]
        )

    def attention(x: Tensor, name: str) -> Tensor:
        joint = x @ w[f"{name}.in_proj_weight"].T + w[f"{name}.in_proj_bias"]
        q, k, v = (part.reshape(len(x), heads, -1).transpose(0, 1) for part in joint.chunk(3, dim=1))
        weights = (q @ k.transpose(1, 2) / (hidden / heads) ** 0.5).softmax(dim=-1)
        return linear((weights @ v).transpose(0, 1).reshape(len(x), hidden), f"{name}.out_proj")

    def transformer(x: Tensor) -> Tensor:
        for n in range(settings["num_layers"]):
            layer = f"transformer.layers.{n}"
            x = x + attention(norm(x, f"{layer}.norm1"), f"{layer}.self_attn")
            x = x + linear(gelu(linear(norm(x, f"{layer}.norm2"), f"{layer}.linear1")), f"{layer}.linear2")
        return x

    def decoded(x: Tensor, name: str) -> Tensor:
        return linear(gelu(linear(x, f"{name}.0")), f"{name}.3")

    first = gelu(norm(linear(query, "query_encoder.0"), "query_encoder.1"))
    control = norm(linear(first, "query_encoder.4"), "query_encoder.5")
    u = v = torch.zeros(rank, hidden, dtype=torch.float64)
    for t in range(settings["num_steps"]):
        angles = [t * 10_000 ** (-i / (hidden / 2)) for i in range(hidden // 2)]
        wave = torch.tensor([math.cos(a) for a in angles] + [math.sin(a) for a in angles], dtype=torch.float64)
        step = linear(gelu(linear(wave, "step_proj.0")), "step_proj.2")
        places = w["pos_scale"] * w["pos_emb"][:rank]
        out = transformer(torch.cat([(control + step)[None], u + places, v + places]))
        control, u, v = control + out[0], u + out[1 : 1 + rank], v + out[1 + rank :]
    weight = settings["query_residual_weight"]
    refined = (1 - weight) * decoded(control, "query_decoder") + weight * query
    columns_u, columns_v = decoded(u, "dec_u_img").T, decoded(v, "dec_v_img").T
    if settings["use_fro_norm"]:
        columns_u = columns_u / (columns_u.square().sum().sqrt() + 1e-8)
        columns_v = columns_v / (columns_v.square().sum().sqrt() + 1e-8)
    transform = torch.eye(len(query), dtype=torch.float64) + settings["anchor_scale"] * columns_u @ columns_v.T
    moved = items @ transform
    return (moved / moved.norm(dim=1, keepdim=True)) @ (refined / refined.norm())


def normalised(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True).clamp(min=1e-30)


Save = Callable[..., tuple[str, str]]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def save(state: object, **changes: Any) -> tuple[str, str]:
        """The two files as they are published: a bare state dict and the settings."""
        hparams = {key: value for key, value in {**SETTINGS, **changes}.items() if value is not None}
        config = {"feature_extractor": "openai/clip-vit-base-patch16", "hparams": hparams}
        (tmp_path / "config.yml").write_text(yaml.safe_dump(config))
        torch.save(state, tmp_path / "weights.pt")
        return str(tmp_path / "weights.pt"), str(tmp_path / "config.yml")

    return save


@pytest.mark.parametrize(
    "changes",
    [{}, {"use_fro_norm": False, "anchor_scale": 0.05}, {"num_steps": 1}, {"query_residual_weight": 0.9, "nhead": 4}],
)
def test_the_network_is_its_equations_in_float64(save: Save, changes: dict[str, Any]) -> None:
    weights, config = save(released_state(), **changes)
    network = load_released(weights, read_config(Path(config))[0]).double()
    draw = torch.Generator().manual_seed(1)
    queries, items = (normalised(torch.randn(n, E, generator=draw, dtype=torch.float64)) for n in (4, 30))
    transforms = network(queries)
    moved = torch.einsum("bij,nj->bni", transforms.dense(), items)
    scores = torch.einsum("bni,bi->bn", normalised(moved), transforms.query)
    expected = torch.stack([expected_scores(released_state(), q, items, {**SETTINGS, **changes}) for q in queries])
    # The waves of the steps are float32, as in the released code, and exact in step 0; all else is float64.
    exact = changes.get("num_steps") == 1
    torch.testing.assert_close(scores, expected, atol=1e-12 if exact else 1e-6, rtol=0)
    assert (scores - queries @ items.T).abs().max() > 0.05  # not the plain cosine


def test_the_method_scores_as_the_equations_for_composed_and_single_queries(save: Save, space: Space) -> None:
    weights, config = save(released_state())
    gallery = space.gallery(30)
    both = space.queries(gallery, [1, 2, 3], [0, 1, 2])
    nothing = torch.zeros_like(both.text)
    score = Quari(weights, config).prepare(gallery)
    reference, text = normalised(both.reference.double()), normalised(both.text.double())
    items = normalised(gallery.features.double())
    for queries, vectors in (
        (both, normalised(reference + text)),
        (dataclasses.replace(both, text=nothing), reference),
        (Queries(nothing, both.text, both.condition, torch.full((3,), -1)), text),
    ):
        expected = torch.stack([expected_scores(released_state(), q, items, SETTINGS) for q in vectors])
        torch.testing.assert_close(score(queries).double(), expected, atol=1e-5, rtol=0)


def test_settings_that_config_leaves_out_are_the_released_defaults(save: Save) -> None:
    _, config = save({}, **{**dict.fromkeys(SETTINGS), "embedding_dim": 768})
    settings, encoder = read_config(Path(config))
    assert encoder == "openai/clip-vit-base-patch16"
    assert dataclasses.asdict(settings) == {
        "embedding_dim": 768, "low_rank_dim": 64, "hidden_dim": 512, "num_steps": 4, "nhead": 8, "num_layers": 4,
        "dropout": 0.1, "query_residual_weight": 0.5, "use_fro_norm": True, "anchor_scale": 0.8,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embedding_dim": None}, r"config\.yml: hparams has no embedding_dim"),
        ({"low_rank_dims": 3}, r"'low_rank_dims' is no setting of QuARI\. Did you mean 'low_rank_dim'"),
        ({"nhead": 3}, r"config\.yml: hparams: hidden_dim=16 must be even and divisible by nhead=3"),
        ({"num_steps": 0}, "num_steps must be a whole number of at least 1, not 0"),
        ({"anchor_scale": "big"}, "anchor_scale must be a number, not 'big'"),
        ({"embedding_dim": 32}, r"features of width 32 \(feature_extractor: openai/clip-vit-base-patch16\).*width 24"),
        ({"low_rank_dim": 4}, r"pos_emb has shape \(7, 16\), but config\.yml says \(9, 16\)"),
        ({"num_layers": 3}, r"missing transformer\.layers\.2"),
        ({"num_layers": 1}, r"unexpected transformer\.layers\.1"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(save: Save, space: Space, changes: dict[str, Any], message: str) -> None:
    weights, config = save(released_state(), **changes)
    with pytest.raises(CondsimError, match=message):
        Quari(weights, config).prepare(space.gallery(5))


def test_weights_of_another_form_are_refused(save: Save, space: Space) -> None:
    state = released_state()
    del state["dec_v_img.3.bias"]
    weights, config = save(state | {"decode_u.0.weight": torch.zeros(2, 2)})
    with pytest.raises(
        CondsimError, match=r"not a released QuARI network: missing dec_v_img\.3\.bias; unexpected decode_u"
    ):
        Quari(weights, config).prepare(space.gallery(5))


def test_missing_files_and_broken_yaml_are_named(save: Save, space: Space) -> None:
    gallery = space.gallery(5)
    weights, config = save(released_state())
    with pytest.raises(CondsimError, match=r"set method\.checkpoint=DIR/weights\.pt method\.config=DIR/config\.yml"):
        Quari(weights).prepare(gallery)
    with pytest.raises(CondsimError, match=r"config\.yaml does not exist"):
        Quari(weights, config.replace(".yml", ".yaml")).prepare(gallery)
    for content, message in (
        ("hparams: [", "cannot be read as YAML"),
        ("feature_extractor: x", "has no entry hparams"),
        ("hparams: 3", "has no entry hparams"),
        ("", "has no entry hparams"),
    ):
        Path(config).write_text(content)
        with pytest.raises(CondsimError, match=message):
            Quari(weights, config).prepare(gallery)
