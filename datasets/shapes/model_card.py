"""Measure the trained backbone on unseen combinations, through open_clip's own code, and write its model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional

from condsim.datasets.shapes.render import Views, crop_views, instance_boxes, render
from condsim.datasets.shapes.world import ATTRIBUTES, Scenes, sample_scenes, unseen_pairs
from condsim.harness.features.open_clip.weights import expand_state_dict

_TEMPLATE = Path(__file__).parent / "backbone" / "model_card_template.md"
_PROMPTS = {"shape": "a photo of a {}", "background": "{} background", "pattern": "{} background"}
_PROMPT = "a photo of {}"


def load_backbone(folder: str | Path, name: str = "shapes-clip") -> tuple[Any, Any, Any]:
    """Model, open_clip's image transform and tokenizer from `<folder>/<name>.json` and `<name>.safetensors`."""
    open_clip.add_model_config(Path(folder) / f"{name}.json")
    model, _, transform = open_clip.create_model_and_transforms(name)
    model.load_state_dict(expand_state_dict(load_file(Path(folder) / f"{name}.safetensors"), model))
    return model.eval(), transform, open_clip.get_tokenizer(name)


@torch.no_grad()
def zero_shot_accuracy(
    model: Any, transform: Any, tokenizer: Any, scenes: Scenes, views: Views | None = None
) -> dict[str, np.ndarray]:
    """Attribute -> boolean [n]: whether the prompt nearest to the picture names the value of object 0."""
    pictures = render(scenes, views=views).permute(0, 2, 3, 1).numpy()
    chunks = [
        torch.stack([transform(Image.fromarray(p)) for p in pictures[i : i + 128]])
        for i in range(0, len(pictures), 128)
    ]
    image = functional.normalize(torch.cat([model.encode_image(c) for c in chunks]), dim=-1)
    correct = {}
    for attribute, values in ATTRIBUTES.items():
        prompts = [_PROMPTS.get(attribute, _PROMPT).format(v) for v in values]
        text = functional.normalize(model.encode_text(tokenizer(prompts)), dim=-1)
        truth = getattr(scenes, attribute)
        truth = truth if truth.ndim == 1 else truth[:, 0]
        correct[attribute] = (image @ text.T).argmax(dim=1).numpy() == truth
    return correct


def measure(folder: str | Path, n: int = 2000, seed: int = 12345) -> dict[str, dict[str, float]]:
    """Zero-shot accuracy in percent: kind of picture -> attribute -> accuracy. Close-ups have no size."""
    model, transform, tokenizer = load_backbone(folder)
    rng = np.random.default_rng(seed)
    lone, seen = sample_scenes(rng, n, "test", (1,)), sample_scenes(rng, n, "train", (1,))
    groups = sample_scenes(rng, n, "test")
    result = {}
    for name, scenes, views in (
        ("lone objects, unseen combinations", lone, None),
        ("lone objects, training combinations", seen, None),
        ("close-ups, unseen combinations", groups, crop_views(instance_boxes(groups)[:, 0])),
    ):
        correct = zero_shot_accuracy(model, transform, tokenizer, scenes, views)
        if views is not None:
            del correct["size"]
        result[name] = {k: 100 * float(v.mean()) for k, v in correct.items()}
        if scenes is lone:
            pair = unseen_pairs()[lone.shape[:, 0], lone.color[:, 0]]
            result["of them, shape-colour pair unseen"] = {k: 100 * float(v[pair].mean()) for k, v in correct.items()}
    return result


def write_model_card(folder: str | Path, settings: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Measure the weights in `folder` and write MODEL_CARD.md beside them."""
    folder = Path(folder)
    rows = measure(folder)
    names = list(ATTRIBUTES)
    table = ["| pictures | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for kind, accuracy in rows.items():
        table.append(f"| {kind} | " + " | ".join(f"{accuracy[k]:.1f}" if k in accuracy else "-" for k in names) + " |")
    megabytes = (folder / "shapes-clip.safetensors").stat().st_size / 1e6
    listed = "\n".join(f"    {k}: {v}" for k, v in settings.items())
    (folder / "MODEL_CARD.md").write_text(
        _TEMPLATE.read_text().format(table="\n".join(table), megabytes=megabytes, settings=listed, **facts)
    )
