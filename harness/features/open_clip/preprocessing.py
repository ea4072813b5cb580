"""What a model expects of its input and its activation: known to open_clip's pretrained tags, not to a weights file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from condsim.harness.errors import BackboneError, CondsimError, did_you_mean, first_of

CONFIG_BESIDE = "open_clip_config.json"
"""The file in which models on the Hugging Face hub say this, beside their weights."""
INTERPOLATIONS = ("bicubic", "bilinear")
RESIZE_MODES = ("shortest", "longest", "squash")
TARGET_RATIO = 1.25
TRANSFORMS = {"stock": "stock", "targetpad": f"targetpad-{TARGET_RATIO}"}
"""What a user writes -> what a run's identity says."""

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """Resize, normalisation and activation of a model; the defaults are OpenAI's preprocessing, as in open_clip."""

    mean: Triple = (0.48145466, 0.4578275, 0.40821073)
    std: Triple = (0.26862954, 0.26130258, 0.27577711)
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"
    """"shortest" side to the model's size and centre crop, "longest" side and padding, or "squash" to a square."""
    quick_gelu: bool = False

    def differences(self, usual: Preprocessing) -> dict[str, str]:
        """The settings, as text, that are not as in ``usual``."""
        return {name: _text(value) for name, value in asdict(self).items() if value != getattr(usual, name)}


NAMES = tuple(field.name for field in fields(Preprocessing))


@dataclass(frozen=True)
class GivenPreprocessing:
    """The settings that a user gives; None: as the model's source says."""

    mean: Triple | None = None
    std: Triple | None = None
    interpolation: str | None = None
    resize_mode: str | None = None
    quick_gelu: bool | None = None

    @classmethod
    def checked(
        cls,
        mean: float | Sequence[float] | None,
        std: float | Sequence[float] | None,
        interpolation: str | None,
        resize_mode: str | None,
        quick_gelu: bool | None,
    ) -> GivenPreprocessing:
        """Raises CondsimError with the setting's name for values that cannot be used."""
        for label, value, known in (
            ("interpolation", interpolation, INTERPOLATIONS),
            ("resize_mode", resize_mode, RESIZE_MODES),
        ):
            if value is not None and value not in known:
                raise CondsimError(f"backbone.{label}={value}: unknown. {did_you_mean(str(value), known)}")
        if quick_gelu is not None and not isinstance(quick_gelu, bool):
            raise CondsimError(f"backbone.quick_gelu={quick_gelu}: expected true, false or null")
        given_std = _triple("std", std)
        if given_std is not None and min(given_std) <= 0:
            raise CondsimError(f"backbone.std={std}: expected numbers above 0")
        return cls(_triple("mean", mean), given_std, interpolation, resize_mode, quick_gelu)

    @property
    def values(self) -> dict[str, Any]:
        return {name: value for name in NAMES if (value := getattr(self, name)) is not None}


NOTHING_GIVEN = GivenPreprocessing()


def of_tag(config: Mapping[str, Any], architecture: Mapping[str, Any]) -> Preprocessing:
    """What open_clip's config of a pretrained tag says, for a model with this architecture."""
    values = {name: config[name] for name in NAMES if config.get(name) is not None}
    base = Preprocessing(quick_gelu=bool(architecture.get("quick_gelu", False)))
    quick_gelu = base.quick_gelu or bool(values.pop("quick_gelu", False))
    return _with(base, values | {"quick_gelu": quick_gelu}, "open_clip's own config")


def of_weights_file(
    model: str,
    given: GivenPreprocessing,
    architecture: Mapping[str, Any],
    tag: str | None,
    tags: Mapping[str, Mapping[str, Any]],
    beside: Path | None,
) -> Preprocessing:
    """The preprocessing of a model whose weights come from a file, apart from what is ``given``.

    The first of these that there is: the ``tag`` that the user names; ``beside``, a file of the form of
    ``open_clip_config.json`` that belongs to the weights; what all ``tags`` of the model agree on; open_clip's
    defaults. Raises BackboneError where the tags differ and nothing says which of them applies.
    """
    usual = Preprocessing(quick_gelu=bool(architecture.get("quick_gelu", False)))
    if tag is not None:
        return of_tag(tags[tag], architecture)
    if beside is not None:
        return _of_config_file(beside, architecture)
    choices = {tag: of_tag(config, architecture) for tag, config in tags.items()}
    unclear = [name for name in NAMES if len({getattr(choice, name) for choice in choices.values()}) > 1]
    if set(unclear) - given.values.keys():
        raise _unclear(model, choices, unclear)
    return next(iter(choices.values()), usual)


def apply(given: GivenPreprocessing, preprocessing: Preprocessing) -> Preprocessing:
    """``preprocessing`` with the settings that are given."""
    return replace(preprocessing, **given.values)


def _of_config_file(path: Path, architecture: Mapping[str, Any]) -> Preprocessing:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        model, preprocess = config.get("model_cfg", {}), config.get("preprocess_cfg", {})
        size, own = model.get("vision_cfg", {}).get("image_size"), architecture["vision_cfg"].get("image_size")
        values = {name: preprocess[name] for name in NAMES if preprocess.get(name) is not None}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise BackboneError(f"{path}: cannot be read as a model config: {error}") from error
    if None not in (size, own) and size != own:
        raise BackboneError(
            f"{path} describes a model with images of {size} pixels, but the chosen architecture takes {own}: choose "
            f"its architecture with backbone.model, or use this one with backbone.model_config={path}"
        )
    quick_gelu = bool(model.get("quick_gelu", architecture.get("quick_gelu", False)))
    return _with(Preprocessing(), values | {"quick_gelu": quick_gelu}, str(path))


def _with(preprocessing: Preprocessing, values: Mapping[str, Any], source: str) -> Preprocessing:
    try:
        given = GivenPreprocessing.checked(*(values.get(name) for name in NAMES))
    except CondsimError as error:
        raise BackboneError(f"{source}: {str(error).removeprefix('backbone.')}") from None
    return apply(given, preprocessing)


def _unclear(model: str, choices: Mapping[str, Preprocessing], unclear: Sequence[str]) -> BackboneError:
    groups: dict[str, list[str]] = {}
    for tag, choice in choices.items():
        groups.setdefault(", ".join(f"{name}={_text(getattr(choice, name))}" for name in unclear), []).append(tag)
    lines = [f"  {settings}: {first_of(tags)}" for settings, tags in groups.items()]
    return BackboneError(
        f"open_clip has {model} with different settings, and a weights file does not say which of them it needs:\n"
        + "\n".join(lines)
        + f"\nName the tag of these weights with backbone.pretrained=TAG beside backbone.weights, set backbone."
        f"{', backbone.'.join(unclear)}, or put the model's {CONFIG_BESIDE} beside the file"
    )


def _triple(label: str, value: float | Sequence[float] | None) -> Triple | None:
    if value is None:
        return None
    numbers = [value] * 3 if isinstance(value, (int, float)) else list(value)
    if len(numbers) != 3 or not all(
        isinstance(n, (int, float)) and not isinstance(n, bool) and math.isfinite(n) for n in numbers
    ):
        raise CondsimError(f"backbone.{label}={value}: expected three numbers, as in backbone.{label}=[0.5,0.5,0.5]")
    red, green, blue = map(float, numbers)
    return red, green, blue


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "[" + ",".join(f"{number!r}" for number in value) + "]" if isinstance(value, tuple) else str(value)
