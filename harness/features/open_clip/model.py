"""An open_clip model as condsim runs it: found, loaded and applied."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from condsim.harness.errors import BackboneError, did_you_mean
from condsim.harness.features.open_clip.preprocessing import (
    CONFIG_BESIDE,
    NOTHING_GIVEN,
    GivenPreprocessing,
    Preprocessing,
    apply,
    of_tag,
    of_weights_file,
)
from condsim.harness.features.open_clip.weights import load_weights
from condsim.harness.process.deferred import defer
from condsim.harness.process.tensors import Tensor, nn

if TYPE_CHECKING:
    from condsim.harness.features.open_clip.transforms import Transform

PRECISIONS = {"fp32": None, "bf16": "bfloat16", "fp16": "float16"}
"""What a user writes -> the name of torch's type for autocast."""


@dataclass(frozen=True)
class ModelSpec:
    """Which model: an architecture by open_clip's name or by a config file, and weights by tag or by file."""

    model: str
    pretrained: str | None = None
    """The tag of the weights; with ``weights``, the tag whose preprocessing the file needs."""
    model_config: Path | None = None
    weights: Path | None = None
    given: GivenPreprocessing = NOTHING_GIVEN

    def architecture(self) -> dict[str, Any]:
        """The model config, read without importing open_clip, which takes seconds. Raises BackboneError: no such."""
        folder = _config_folder()
        path = self.model_config or folder / f"{self.model.replace('/', '-')}.json"
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            if self.model_config is not None:
                raise BackboneError(f"{path}: there is no such model config") from None
            known = (file.stem for file in folder.glob("*.json"))
            raise BackboneError(f"open_clip has no model {self.model!r}. {did_you_mean(self.model, known)}") from None
        except (OSError, ValueError, RecursionError) as error:
            raise BackboneError(f"{path}: cannot be read as a model config: {error}") from error
        if isinstance(config, dict) and isinstance(config.get("model_cfg"), dict):
            config = config["model_cfg"]  # of the form of open_clip_config.json
        if not isinstance(config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= config.keys():
            raise BackboneError(f"{path}: a model config needs the keys embed_dim, vision_cfg and text_cfg")
        return config

    @property
    def name(self) -> str:
        """Under which open_clip knows the architecture."""
        return self.model if self.model_config is None else self.model_config.stem

    def preprocessing(self) -> Preprocessing:
        """What the weights expect, with the user's own settings. Raises BackboneError where that is not known."""
        architecture = self.architecture()
        if self.weights is None:
            source = of_tag(_tag_config(self.name, str(self.pretrained)), architecture)
        else:
            beside = self.weights.with_name(CONFIG_BESIDE)
            if self.model_config is not None and "preprocess_cfg" in _keys(self.model_config):
                beside = self.model_config
            source = of_weights_file(
                self.model,
                self.given,
                architecture,
                self.pretrained,
                self._tags(),
                beside if beside.is_file() else None,
            )
        return apply(self.given, source)

    def _tags(self) -> dict[str, dict[str, Any]]:
        """The configs of the tags that may say what a weights file needs."""
        if self.pretrained is not None:
            return {self.pretrained: _tag_config(self.model, self.pretrained)}
        if self.model_config is not None:
            return {}
        return {tag: _tag_config(self.model, tag) for tag in pretrained_tags(self.model)}

    def identity(self, weights_digest: Callable[[Path], bytes]) -> dict[str, str]:
        """What the features depend on, in words: the same on every machine, changed whenever they may change."""
        config = json.dumps(self.architecture(), sort_keys=True).encode()
        identity = {
            "model": self.model,
            "architecture": blake2b(config, digest_size=8).hexdigest(),
            # Its stock transforms and tokenizers have changed between releases, though not between patches.
            "open_clip": ".".join(_release().split(".")[:2]),
        }
        if self.weights is None:
            identity["pretrained"] = str(self.pretrained)
            if not self.given.values:
                return identity
            usual = of_tag(_tag_config(self.name, str(self.pretrained)), self.architecture())
        else:
            identity["weights"] = weights_digest(self.weights).hex()
            usual = Preprocessing(quick_gelu=bool(self.architecture().get("quick_gelu", False)))
        return identity | self.preprocessing().differences(usual)


@dataclass(frozen=True)
class ClipModel:
    """A loaded model in evaluation mode on its device."""

    model: nn.Module
    tokenizer: Callable[..., Tensor]
    stock: Any
    """open_clip's own inference transform."""
    size: tuple[int, int]
    """Height and width of its input in pixels."""
    device: torch.device

    def image_features(self, pixels: Tensor, transform: Transform, precision: str = "fp32") -> Tensor:
        """uint8 [B, H, W, 3] -> raw float32 [B, D] on the model's device, which may still be computing them."""
        with torch.inference_mode(), _arithmetic(self.device, precision):
            images = transform.normalise(pixels.to(self.device, non_blocking=True))
            features: Tensor = self.model.encode_image(images)  # type: ignore[operator]
            return features.float()

    def text_features(self, texts: Sequence[str], precision: str = "fp32") -> Tensor:
        """Texts, cut off at the model's context length -> raw float32 [B, D] on the CPU."""
        with torch.inference_mode(), _arithmetic(self.device, precision):
            tokens = self.tokenizer(list(texts)).to(self.device)
            features: Tensor = self.model.encode_text(tokens)  # type: ignore[operator]
            return features.to("cpu", torch.float32)

    def text_features_with(self, texts: Sequence[str], vectors: Tensor, precision: str = "fp32") -> Tensor:
        """``text_features`` of ``texts`` with the vectors [B, E] in place of the first "$" of each."""
        from condsim.harness.features.open_clip.pseudo_words import place_pseudo_words, with_word_vectors

        with torch.inference_mode(), _arithmetic(self.device, precision):
            tokens, places = place_pseudo_words(texts, self.tokenizer)
            model = with_word_vectors(self.model, places.to(self.device), vectors.to(self.device))
            features: Tensor = model.encode_text(tokens.to(self.device))  # type: ignore[operator]
            return features.to("cpu", torch.float32)

    def transform(self, kind: str) -> Transform:
        from condsim.harness.features.open_clip.transforms import make_transform  # imports torchvision

        return make_transform(self.stock, kind)

    def cut_texts(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """[B] Which of ``texts`` have more tokens than the model reads, so that their end is cut off."""
        length = self.tokenizer([""]).shape[1]
        longer = self.tokenizer([*texts, ""], context_length=length + 1)
        padding = longer[-1, -1]
        cut: NDArray[np.bool_] = (longer[:-1, -1] != padding).numpy()
        return cut


@lru_cache(maxsize=1)
def load_model(spec: ModelSpec, device: str, content: str = "") -> ClipModel:
    """Build the model and load its weights; the last one is kept, so that the runs of a sweep share it.

    ``content``: what the files contain; the model is loaded again where files of the same name have changed.
    Raises BackboneError for a tag that the model does not have, weights that are missing and cannot be downloaded,
    weights of another model, and missing Python packages that the model needs.
    """
    defer("wandb")  # which timm imports to log with it: a second, and nothing is logged
    import open_clip
    from open_clip.transform import PreprocessCfg, image_transform_v2

    architecture, preprocessing = spec.architecture(), spec.preprocessing()
    if spec.model_config is not None:
        _add_architecture(spec.name, architecture)
    name, tag = spec.name, None if spec.weights is not None else spec.pretrained
    usual_gelu = bool(architecture.get("quick_gelu")) and not preprocessing.quick_gelu
    options = {"quick_gelu": False} if usual_gelu else {"force_quick_gelu": preprocessing.quick_gelu}
    try:
        with _quiet():
            model = open_clip.create_model(name, tag, device="cpu", pretrained_text=False, **options)
            tokenizer = open_clip.get_tokenizer(name)
    except ImportError as error:
        raise BackboneError(f"{spec.model} needs a Python package that is not installed: {error}") from error
    except (RuntimeError, OSError) as error:
        raise _not_loaded(name, tag, error) from error
    if spec.weights is not None:
        load_weights(spec.weights, model)
    size = model.visual.image_size
    resize = {key: value for key, value in asdict(preprocessing).items() if key != "quick_gelu"}
    model = model.eval().requires_grad_(False).to(device)
    if device == "cpu":
        # The same arithmetic; a ResNet takes two thirds of the time, since no layer has to move the channels first.
        model = model.to(memory_format=torch.channels_last)
    return ClipModel(
        model,
        tokenizer,
        image_transform_v2(PreprocessCfg(size=size, **resize), is_train=False),
        (size, size) if isinstance(size, int) else tuple(size),
        torch.device(device),
    )


def pretrained_tags(model: str) -> list[str]:
    """The tags of open_clip's weights for ``model``."""
    import open_clip

    tags: list[str] = open_clip.list_pretrained_tags_by_model(model)
    return tags


def _package_folder() -> Path:
    found = find_spec("open_clip")
    if found is None or not found.submodule_search_locations:
        raise BackboneError("the package open_clip_torch is not installed: pip install open_clip_torch")
    return Path(found.submodule_search_locations[0])


def _config_folder() -> Path:
    return _package_folder() / "model_configs"


def _release() -> str:
    """The release of open_clip. A finished run needs it, and open_clip itself and importlib.metadata are slow to
    import."""
    return str(run_path(str(_package_folder() / "version.py"))["__version__"])


def _tag_config(model: str, tag: str) -> dict[str, Any]:
    import open_clip

    config: Mapping[str, Any] = open_clip.get_pretrained_cfg(model, tag)
    if not config:
        if known := pretrained_tags(model):
            raise BackboneError(f"{model} has no pretrained weights {tag!r}. {did_you_mean(tag, known)}")
        others = sorted({name for name, _ in open_clip.list_pretrained()})
        raise BackboneError(f"open_clip has no pretrained weights of {model}. {did_you_mean(model, others)}")
    return {"quick_gelu": False, **config}


def _add_architecture(name: str, architecture: Mapping[str, Any]) -> None:
    """Make an architecture known to open_clip, which reads architectures from files."""
    import open_clip

    with TemporaryDirectory() as folder:
        file = Path(folder) / f"{name}.json"
        file.write_text(json.dumps(architecture), encoding="utf-8")
        open_clip.add_model_config(file)


def _keys(config: Path) -> set[str]:
    content = json.loads(config.read_text(encoding="utf-8"))
    return set(content) if isinstance(content, dict) else set()


def _not_loaded(name: str, tag: str | None, error: Exception) -> BackboneError:
    reason = shorten(str(error), 300, placeholder=" ...")
    if tag is None:
        return BackboneError(f"the model {name} cannot be created: {reason}")
    from huggingface_hub.constants import HF_HUB_CACHE

    config = _tag_config(name, tag)
    source = f"huggingface.co/{config['hf_hub'].rstrip('/')}" if config.get("hf_hub") else config.get("url")
    return BackboneError(
        f"the weights {tag} of {name} are not on this machine and could not be downloaded ({reason}).\n"
        f"  With internet access they come from {source} into {HF_HUB_CACHE} (HF_HOME in the environment moves it).\n"
        f"  Without, copy the file to this machine and set backbone.weights=FILE beside backbone.pretrained={tag}.\n"
        "  The backbone shapes-clip needs no download; it is trained on rendered shapes alone"
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
    name = PRECISIONS[precision]
    dtype = None if name is None else getattr(torch, name)
    exact: AbstractContextManager[None] = nullcontext()
    if device.type == "cuda" and dtype is None:
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=False)
    with exact, torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        yield
