"""Train the embedded backbone: a tiny open_clip model on captions of scenes that are rendered during training.

Three phases: attribute heads alone, for the image tower; then captions of single objects and close-ups; then captions
of whole scenes too. Every step draws its batch from (seed, step), so a resumed run gets the same data.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from condsim.datasets.shapes.captions import Captions, caption_scenes, telling_pairs, true_pairs, vocabulary
from condsim.datasets.shapes.model_card import write_model_card
from condsim.datasets.shapes.render import Views, choose_views, crop_views, instance_boxes, render, whole
from condsim.datasets.shapes.world import ATTRIBUTES, Scenes, allowed_combinations, concatenate, resemble, sample_scenes
from condsim.harness.features.open_clip.weights import TOKEN_ROWS, compact_state_dict
from condsim.harness.files.writing import atomic
from condsim.harness.process.devices import AUTO, device_of
from condsim.harness.terminal.console import console
from condsim.harness.terminal.progress import track

BACKBONE_DIR = Path(__file__).parent / "backbone"
MODEL_NAME = "shapes-clip"


@dataclass(frozen=True)
class Batch:
    """Scenes and the views that are rendered; closeup [n] marks crops around object 0."""

    scenes: Scenes
    views: Views
    closeup: np.ndarray


class TokenTable:
    """open_clip's token ids of captions, renumbered to the rows in use. Words are encoded one by one, because the
    tokenizer splits at spaces.
    """

    def __init__(self, context_length: int) -> None:
        tokenizer = open_clip.tokenizer.SimpleTokenizer(context_length=context_length)
        self._ids = {w: tokenizer.encode(w) for w in vocabulary()}
        start, end = tokenizer.sot_token_id, tokenizer.eot_token_id  # the end is the largest: open_clip finds it so
        self.rows = torch.tensor(sorted({0, start, end, *(i for ids in self._ids.values() for i in ids)}))
        self._position = {int(r): p for p, r in enumerate(self.rows)}
        self._context = context_length
        self._start, self._end = self._position[start], self._position[end]

    def __call__(self, texts: list[str]) -> torch.Tensor:
        """Row numbers [n, longest caption], 0-padded."""
        lines = []
        for text in texts:
            words = text.replace(",", " ,").replace(":", " :").split()
            ids = [self._position[i] for w in words for i in self._ids[w]]
            lines.append([self._start, *ids[: self._context - 2], self._end])
        out = torch.zeros(len(lines), max(map(len, lines)), dtype=torch.int64)
        for row, line in zip(out, lines, strict=True):
            row[: len(line)] = torch.tensor(line)
        return out


def draw_batch(config: Mapping[str, Any], step: int, phase: str) -> tuple[Batch, np.random.Generator]:
    """The batch of a step: single objects and close-ups, and in the last phase whole scenes too."""
    rng = np.random.default_rng([config["seed"], step])
    n = config["batch_size"]
    shares = {"warmup": (0.5, 0.5, 0.0), "single": (0.5, 0.5, 0.0), "scene": (0.3, 0.25, 0.45)}[phase]
    singles, closeups = round(n * shares[0]), round(n * shares[1])
    parts = [
        sample_scenes(rng, singles, "train", (1,)),
        sample_scenes(rng, closeups, "train", (1, 2, 3, 4)),
        sample_scenes(rng, n - singles - closeups, "train", (2, 3, 4)),
    ]
    if phase != "warmup" and rng.random() < config["resemble"]:
        parts = [resemble(rng, p, config["group"], "train") if len(p) else p for p in parts]
    scenes = concatenate(parts)
    closeup = np.zeros(n, dtype=bool)
    closeup[singles : singles + closeups] = True
    views = choose_views(closeup, crop_views(instance_boxes(scenes)[:, 0]), whole(n))
    return Batch(scenes, views, closeup), rng


_ALLOWED_BY: dict[str, Callable[[np.ndarray, Scenes], np.ndarray]] = {
    "shape": lambda allowed, s: allowed[:, s.color[:, 0], s.texture[:, 0]].T,
    "color": lambda allowed, s: allowed[s.shape[:, 0], :, s.texture[:, 0]],
    "texture": lambda allowed, s: allowed[s.shape[:, 0], s.color[:, 0], :],
}


class AttributeHeads(nn.Module):
    """Linear heads on the image embedding: one per attribute of object 0, and one for the shapes in the scene."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({k: nn.Linear(width, len(v)) for k, v in ATTRIBUTES.items()})
        self.holds = nn.Linear(width, len(ATTRIBUTES["shape"]))

    def loss(self, features: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Cross entropy. Object attributes count for single objects and close-ups only; the size not for close-ups."""
        scenes, device = batch.scenes, features.device
        lone = (scenes.count == 1) | batch.closeup
        total = features.new_zeros(())
        for name, head in self.heads.items():
            value = getattr(scenes, name)
            value = value if value.ndim == 1 else value[:, 0]
            defined = np.ones_like(lone) if name in ("background", "pattern") else lone
            if name == "size":
                defined = lone & ~batch.closeup
            target = torch.as_tensor(np.where(defined, value, -100), device=device)
            logits = head(features)
            if name in _ALLOWED_BY:
                # Choose only among values that training combines with the other two: the head must not learn which
                # combinations exist.
                allowed = _ALLOWED_BY[name](allowed_combinations("train"), scenes)
                logits = logits.masked_fill(~torch.as_tensor(allowed, device=device), -1e4)
            total = total + functional.cross_entropy(logits, target) * (3.0 if name == "shape" else 1.0)
        if not lone.all():
            whole_scenes = torch.as_tensor(~lone, device=device)
            shown = np.zeros((len(scenes), len(ATTRIBUTES["shape"])), dtype=np.float32)
            for k in range(scenes.shape.shape[1]):
                rows = np.flatnonzero(scenes.present[:, k])
                shown[rows, scenes.shape[rows, k]] = 1
            target = torch.as_tensor(shown, device=device)[whole_scenes]
            logits = self.holds(features[whole_scenes])
            total = total + 2.0 * functional.binary_cross_entropy_with_logits(logits, target)
        return total


def pair_loss(logits: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Symmetric cross entropy of image x text logits [n, n]; the true pairs [n, n] of a row share its target equally.

    The loss of UniCL (Yang et al. 2022). If only the diagonal is true, it is CLIP's loss.
    """
    both = []
    for scores, target in ((logits, true), (logits.T, true.T)):
        target = target / target.sum(dim=1, keepdim=True)
        both.append(-(target * functional.log_softmax(scores, dim=1)).sum(dim=1).mean())
    return (both[0] + both[1]) / 2


def encode_text(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """open_clip's encode_text for sequences shorter than the context, which it rejects: [n, length] -> [n, D]."""
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    features: torch.Tensor = x[torch.arange(len(tokens)), tokens.argmax(dim=-1)] @ model.text_projection
    return features


def encode_captions(model: Any, tokens: torch.Tensor, short: int = 12) -> torch.Tensor:
    """`encode_text` on short and long captions separately: most are short, and padding costs as much as words."""
    lengths = tokens.argmax(dim=-1) + 1
    parts = [torch.nonzero(lengths <= short)[:, 0], torch.nonzero(lengths > short)[:, 0]]
    features = [encode_text(model, tokens[rows, : int(lengths[rows].max())]) for rows in parts if len(rows)]
    return torch.cat(features)[torch.argsort(torch.cat(parts))]


def train(config: Mapping[str, Any]) -> Path:
    """Train with `config` (keys: conf/train_backbone.yaml); returns the path of `<output>/shapes-clip.safetensors`.

    Also writes the model config and MODEL_CARD.md there. A checkpoint of other settings is not used.
    """
    torch.set_flush_denormal(True)  # tiny gradients would otherwise become denormal numbers, which are slow
    try:
        return _train(config)
    finally:
        torch.set_flush_denormal(False)  # it is a setting of the whole process


def has_bfloat16_units(device: torch.device) -> bool:
    """Whether ``device`` has units that multiply bfloat16 numbers: what the processor reports, without a measurement.

    A processor without them (AVX2 alone) converts every number, and then bfloat16 is several times as slow as float32.
    False where torch does not report the processor's capabilities.
    """
    if device.type != "cpu":
        return device.type == "cuda"
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(unit, False) for unit in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))


def _train(config: Mapping[str, Any]) -> Path:
    torch.manual_seed(config["seed"])
    usual = "cuda" if torch.cuda.is_available() else "cpu"  # never tried on Apple's GPU
    device = device_of(usual if config["device"] == AUTO else config["device"], "device")
    if config["bfloat16"] == "auto":
        config = {**config, "bfloat16": has_bfloat16_units(device)}
    model_config = json.loads((BACKBONE_DIR / f"{MODEL_NAME}.json").read_text())
    context = model_config["text_cfg"]["context_length"]
    table = TokenTable(context)
    model_config["text_cfg"]["vocab_size"] = len(table.rows)  # train only the rows in use
    model_config.pop("preprocess_cfg", None)
    model = open_clip.CLIP(**model_config).to(device)
    model.visual.to(memory_format=torch.channels_last)
    heads = AttributeHeads(model_config["embed_dim"]).to(device)
    optimizer = torch.optim.AdamW(_parameter_groups(model, heads, config["weight_decay"]), lr=config["learning_rate"],
                                  betas=(0.9, 0.98))  # fmt: skip
    compiled = shutil.which("g++") is not None if config["compile"] == "auto" else config["compile"]
    visual = torch.compile(model.visual) if compiled else model.visual
    phases = [phase for phase, steps in _plan(config) for _ in range(steps)]
    steps = len(phases)
    start, seconds = _resume(config, model, heads, optimizer)

    began = time.monotonic()
    with track(steps, "training shapes-clip") as advance:
        advance(start)
        for step in range(start, steps):
            phase = phases[step]
            for group in optimizer.param_groups:
                group["lr"] = config["learning_rate"] * _schedule(step, steps, config["ramp_steps"])
            batch, rng = draw_batch(config, step, phase)
            images = render(
                batch.scenes, model_config["vision_cfg"]["image_size"], batch.views, chunk=64, device=device
            )
            with torch.autocast(device.type, torch.bfloat16, enabled=config["bfloat16"]):
                image = visual(normalised(images))
            image = image.float()
            head_loss = heads.loss(image, batch)
            if phase == "warmup":
                loss = head_loss
            else:
                captions = caption_scenes(rng, batch.scenes, batch.closeup, full=0.3)
                loss = _caption_loss(model, table, image, captions, batch, config["bfloat16"])
                note_loss = float(loss.detach())
                loss = loss + config["head_weight"] * head_loss
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_([*model.parameters(), *heads.parameters()], 1.0)
            optimizer.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, math.log(100))
            done = step + 1
            advance(1)
            if done % config["log_every"] == 0 or done == steps:
                rate = (done - start) * config["batch_size"] / (time.monotonic() - began)
                shown = "" if phase == "warmup" else f" captions {note_loss:.2f}"
                losses = f"{phase}{shown} heads {float(head_loss.detach()):.2f}"
                console.print(f"step {done}/{steps} {losses}, {rate:.0f} samples/s")
            if done % config["checkpoint_every"] == 0 or done == steps:
                _checkpoint(config, done, seconds + time.monotonic() - began, model, heads, optimizer)
    return _write(config, model, table, steps * config["batch_size"], seconds + time.monotonic() - began)


def _caption_loss(
    model: Any, table: TokenTable, image: torch.Tensor, captions: Captions, batch: Batch, bfloat16: bool
) -> torch.Tensor:
    tokens = table(captions.texts).to(image.device)
    with torch.autocast(image.device.type, torch.bfloat16, enabled=bfloat16):
        text = encode_captions(model, tokens)
    logits = (
        functional.normalize(image, dim=-1) @ functional.normalize(text.float(), dim=-1).T * model.logit_scale.exp()
    )
    true = true_pairs(captions, batch.scenes, batch.closeup)  # [captions, pictures]
    telling = true | telling_pairs(captions, batch.scenes, batch.closeup, allowed_combinations("train"))
    logits = logits.masked_fill(~torch.as_tensor(telling.T, device=image.device), -1e4)
    return pair_loss(logits, torch.as_tensor(true.T, dtype=torch.float32, device=image.device))


def _parameter_groups(model: Any, heads: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """No weight decay on gains, biases, position embeddings and the logit scale, as in open_clip."""
    named = [*model.named_parameters(), *heads.named_parameters()]
    decayed = [p for n, p in named if p.ndim >= 2 and "embedding" not in n]
    rest = [p for n, p in named if p.ndim < 2 or "embedding" in n]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def _plan(config: Mapping[str, Any]) -> list[tuple[str, int]]:
    return [(p, round(config[f"{p}_samples"] / config["batch_size"])) for p in ("warmup", "single", "scene")]


def _schedule(step: int, steps: int, ramp: int) -> float:
    """Linear ramp, then cosine to zero."""
    return min((step + 1) / ramp, 0.5 * (1 + math.cos(math.pi * step / steps)))


_DECIDING = (
    "seed", "batch_size", "warmup_samples", "single_samples", "scene_samples", "head_weight", "resemble", "group",
    "learning_rate", "weight_decay", "ramp_steps", "bfloat16",
)  # fmt: skip


def _identity(config: Mapping[str, Any]) -> str:
    """The settings that decide the result, as text. A checkpoint with the same text belongs to this run."""
    return json.dumps({k: config[k] for k in sorted(_DECIDING)})


def _resume(
    config: Mapping[str, Any], model: Any, heads: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    """Load the last checkpoint of the same settings: the next step, and the seconds used so far."""
    path = Path(config["checkpoint"])
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["identity"] != _identity(config):
        return 0, 0.0
    model.load_state_dict(state["model"])
    heads.load_state_dict(state["heads"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["seconds"]


def _checkpoint(
    config: Mapping[str, Any], step: int, seconds: float, model: Any, heads: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    path = Path(config["checkpoint"])
    with atomic(path) as scratch:
        torch.save({"identity": _identity(config), "step": step, "seconds": seconds, "model": model.state_dict(),
                    "heads": heads.state_dict(), "optimizer": optimizer.state_dict()}, scratch)  # fmt: skip


def _write(config: Mapping[str, Any], model: Any, table: TokenTable, samples: int, seconds: float) -> Path:
    output = Path(config["output"])
    output.mkdir(parents=True, exist_ok=True)
    _equalise_lengths(config, model, table)
    path = output / f"{MODEL_NAME}.safetensors"
    # The trained token table has only the rows in use, so all of it is saved, with open_clip's row numbers.
    compact = compact_state_dict(model.state_dict(), torch.arange(len(table.rows)))
    save_file(compact | {TOKEN_ROWS: table.rows}, path)
    config_file = output / f"{MODEL_NAME}.json"
    if not config_file.exists():
        shutil.copy(BACKBONE_DIR / config_file.name, config_file)
    facts = {"seed": config["seed"], "samples": samples, "seconds": round(seconds), "rate": round(samples / seconds),
             "token_rows": len(table.rows), "conditions": f" on {next(model.parameters()).device.type}"}  # fmt: skip
    write_model_card(output, {k: config[k] for k in _DECIDING}, facts)
    return path


@torch.no_grad()
def _equalise_lengths(config: Mapping[str, Any], model: Any, table: TokenTable) -> None:
    """Scale the text projection so that the features of both towers have the same mean length on training scenes.

    The loss reads directions only and leaves image features four times as long. Adding raw features, as GeneCIS's
    image + text does, would then ignore the text.
    """
    model.eval()
    batch, rng = draw_batch(config, 0, "scene")
    device = next(model.parameters()).device
    image = model.encode_image(normalised(render(batch.scenes, views=batch.views, device=device)))
    text = encode_captions(model, table(caption_scenes(rng, batch.scenes, batch.closeup).texts).to(device))
    model.text_projection *= image.norm(dim=-1).mean() / text.norm(dim=-1).mean()


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Pictures [n, 3, H, W], uint8, normalised as by open_clip's transform, in channels-last memory order."""
    stock = PreprocessCfg()
    mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) * 255 for v in (stock.mean, stock.std))
    return ((images.float() - mean) / std).contiguous(memory_format=torch.channels_last)
