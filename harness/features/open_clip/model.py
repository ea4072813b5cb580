"""An open_clip model as condsim runs it: found, loaded and applied. Everything that knows open_clip is in this file."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from condsim.harness.errors import CondsimError, did_you_mean
from condsim.harness.features.open_clip.transforms import Transform, make_transform
from condsim.harness.features.open_clip.weights import load_weights

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class ModelSpec:
    """Which model: an architecture by open_clip's name or by a config file, and weights by tag or by file."""

    model: str
    pretrained: str | None = None
    model_config: Path | None = None
    weights: Path | None = None
    quick_gelu: bool = False

    def architecture(self) -> dict[str, Any]:
        """The model config, read without importing open_clip, which takes seconds. Raises CondsimError: no such."""
        folder = _config_folder()
        path = self.model_config or folder / f"{self.model.replace('/', '-')}.json"
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            if self.model_config is not None:
                raise CondsimError(f"{path}: there is no such model config") from None
            known = (file.stem for file in folder.glob("*.json"))
            raise CondsimError(f"open_clip has no model {self.model!r}. {did_you_mean(self.model, known)}") from None
        except (OSError, ValueError) as error:
            raise CondsimError(f"{path}: cannot be read as a model config: {error}") from error
        if not isinstance(config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= config.keys():
            raise CondsimError(f"{path}: a model config has the keys embed_dim, vision_cfg and text_cfg")
        return config

    def identity(self, weights_digest: Callable[[Path], bytes]) -> dict[str, str]:
        """What the features depend on, in words: the same on every machine, changed whenever they may change."""
        config = json.dumps(self.architecture(), sort_keys=True).encode()
        identity = {
            "model": self.model,
            "architecture": blake2b(config, digest_size=8).hexdigest(),
            # Its stock transforms and tokenizers have changed between releases, though not between patches.
            "open_clip": ".".join(version("open_clip_torch").split(".")[:2]),
        }
        if self.weights is not None:
            identity["weights"] = weights_digest(self.weights).hex()
        else:
            identity["pretrained"] = str(self.pretrained)
        return identity | ({"quick_gelu": "true"} if self.quick_gelu else {})


@dataclass(frozen=True)
class ClipModel:
    """A loaded model in evaluation mode on its device."""

    model: nn.Module
    tokenizer: Callable[[list[str]], Tensor]
    stock: Any
    """open_clip's own inference transform."""
    size: tuple[int, int]
    """Height and width of its input in pixels."""
    device: torch.device

    def image_features(self, pixels: Tensor, transform: Transform, precision: str = "fp32") -> Tensor:
        """uint8 [B, H, W, 3] -> raw float32 [B, D] on the CPU."""
        with torch.inference_mode(), _arithmetic(self.device, precision):
            images = transform.normalise(pixels.to(self.device, non_blocking=True))
            features: Tensor = self.model.encode_image(images)  # type: ignore[operator]
            return features.to("cpu", torch.float32)

    def text_features(self, texts: Sequence[str], precision: str = "fp32") -> Tensor:
        """Texts, cut off at the model's context length -> raw float32 [B, D] on the CPU."""
        with torch.inference_mode(), _arithmetic(self.device, precision):
            tokens = self.tokenizer(list(texts)).to(self.device)
            features: Tensor = self.model.encode_text(tokens)  # type: ignore[operator]
            return features.to("cpu", torch.float32)

    def transform(self, kind: str) -> Transform:
        return make_transform(self.stock, kind)


@lru_cache(maxsize=1)
def load_model(spec: ModelSpec, device: str, content: str = "") -> ClipModel:
    """Build the model and load its weights; the last one is kept, so that the runs of a sweep share it.

    ``content`` tells files of the same name apart: another one has the model loaded again.
    Raises CondsimError for a tag that the model does not have, weights that are not there and cannot be downloaded,
    weights of another model, and Python packages that the model needs and that are not installed.
    """
    import open_clip
    from open_clip.transform import PreprocessCfg, image_transform_v2

    spec.architecture()
    if spec.model_config is not None:
        open_clip.add_model_config(spec.model_config)
    name = spec.model if spec.model_config is None else spec.model_config.stem
    tag = None if spec.weights is not None else spec.pretrained
    quick_gelu = spec.quick_gelu or (tag is not None and _tag_config(name, tag)["quick_gelu"])
    try:
        with _quiet():
            model = open_clip.create_model(name, tag, force_quick_gelu=quick_gelu, device="cpu", pretrained_text=False)
            tokenizer = open_clip.get_tokenizer(name)
    except ImportError as error:
        raise CondsimError(f"{spec.model} needs a Python package that is not installed: {error}") from error
    except (RuntimeError, OSError) as error:
        raise _not_loaded(name, tag, error) from error
    if spec.weights is not None:
        load_weights(spec.weights, model)
    size = model.visual.image_size
    model = model.eval().requires_grad_(False).to(device)
    if device == "cpu":
        # The same arithmetic; a ResNet takes two thirds of the time, since no layer has to move the channels first.
        model = model.to(memory_format=torch.channels_last)
    return ClipModel(
        model,
        tokenizer,
        image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False),
        (size, size) if isinstance(size, int) else tuple(size),
        torch.device(device),
    )


def pretrained_tags(model: str) -> list[str]:
    """The tags under which open_clip has weights of ``model``."""
    import open_clip

    tags: list[str] = open_clip.list_pretrained_tags_by_model(model)
    return tags


def uses_quick_gelu(model: str, tag: str | None) -> bool:
    """Whether the weights of this tag were trained with QuickGELU, as OpenAI's were."""
    return tag is not None and bool(_tag_config(model, tag)["quick_gelu"])


def _config_folder() -> Path:
    found = find_spec("open_clip")
    if found is None or not found.submodule_search_locations:
        raise CondsimError("the package open_clip_torch is not installed: pip install open_clip_torch")
    return Path(found.submodule_search_locations[0]) / "model_configs"


def _tag_config(model: str, tag: str) -> dict[str, Any]:
    import open_clip

    config: Mapping[str, Any] = open_clip.get_pretrained_cfg(model, tag)
    if not config:
        if known := pretrained_tags(model):
            raise CondsimError(f"{model} has no pretrained weights {tag!r}. {did_you_mean(tag, known)}")
        others = sorted({name for name, _ in open_clip.list_pretrained()})
        raise CondsimError(f"open_clip has no pretrained weights of {model}. {did_you_mean(model, others)}")
    return {"quick_gelu": False, **config}


def _not_loaded(name: str, tag: str | None, error: Exception) -> CondsimError:
    reason = " ".join(str(error).split())[:300]
    if tag is None:
        return CondsimError(f"the model {name} cannot be made: {reason}")
    from huggingface_hub.constants import HF_HUB_CACHE

    config = _tag_config(name, tag)
    source = f"huggingface.co/{config['hf_hub'].rstrip('/')}" if config.get("hf_hub") else config.get("url")
    return CondsimError(
        f"the weights {tag} of {name} are not on this machine and could not be downloaded ({reason[:160]}).\n"
        f"  With internet access they come from {source} into {HF_HUB_CACHE} (HF_HOME in the environment moves it).\n"
        "  Without, fetch the file elsewhere and give it as backbone.weights=FILE"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """open_clip warns through the root logger that weights are random, although they are loaded a line later."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def _arithmetic(device: torch.device, precision: str) -> Iterator[None]:
    """Autocast for half precisions; for fp32 on a GPU, no TensorFloat-32 in convolutions, which would not be fp32."""
    dtype = PRECISIONS[precision]
    exact: AbstractContextManager[None] = nullcontext()
    if device.type == "cuda" and dtype is None:
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=False)
    with exact, torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        yield
