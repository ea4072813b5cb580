"""From a picture to a model's input: open_clip's own stock transform, or the same after TargetPad.

A transform is cut in two where it stops being about the picture: the first half (resize, crop, RGB) runs per picture on
loader threads and leaves bytes, the second half (to [0, 1], mean, deviation) runs per batch, on the model's device. The
two together do the same float32 operations as the transform they came from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import Compose, Normalize, ToTensor
from torchvision.transforms.functional import pad

from condsim.harness.errors import CondsimError, did_you_mean
from condsim.harness.features.open_clip.preprocessing import TARGET_RATIO, TRANSFORMS
from condsim.harness.images import Picture


@dataclass(frozen=True)
class Transform:
    """``steps`` (picture -> RGB picture of the model's size), then (x / 255 - mean) / std per channel."""

    steps: Compose
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def pixels(self, image: Picture) -> NDArray[np.uint8]:
        """uint8 [H, W, 3]: what the model sees of ``image``, before normalisation."""
        return np.asarray(self.steps(image))

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 [B, H, W, 3] -> float32 [B, 3, H, W], on the device of ``pixels``; in memory channels come last on a
        processor, as the model has them there (``model.load_model``)."""
        scaled, width = pixels.to(torch.float32).div_(255), pixels.shape[2]
        # Whole rows of pixels at a time: broadcasting three values takes almost twice as long.
        mean, std = (torch.tensor(v, device=scaled.device).repeat(width) for v in (self.mean, self.std))
        scaled.view(-1, 3 * width).sub_(mean).div_(std)
        channels = scaled.permute(0, 3, 1, 2)
        return channels if channels.device.type == "cpu" else channels.contiguous()


def make_transform(stock: Any, kind: str) -> Transform:
    """The transform ``kind`` ("stock" or "targetpad") of a model whose open_clip inference transform is ``stock``."""
    if kind not in TRANSFORMS:
        raise CondsimError(f"there is no transform {kind!r}. {did_you_mean(kind, TRANSFORMS)}")
    *steps, last_but_one, last = stock.transforms
    if not isinstance(last_but_one, ToTensor) or not isinstance(last, Normalize):
        raise CondsimError(
            "the transform of this version of open_clip does not end in ToTensor and Normalize, and condsim does not "
            "know how to run it; version 3.3 is known to work"
        )
    first = [target_pad] if kind == "targetpad" else []
    return Transform(Compose([*first, *steps]), tuple(map(float, last.mean)), tuple(map(float, last.std)))


def target_pad(image: Picture, ratio: float = TARGET_RATIO) -> Picture:
    """Pad the shorter side with black until the sides are at most ``ratio`` apart (CLIP4Cir's TargetPad, code).

    Images that are not longer than that stay as they are; each side gets the floor of half of what is missing.
    """
    width, height = image.size
    longer = max(width, height)
    if longer / min(width, height) < ratio:
        return image
    wanted = longer / ratio
    horizontal, vertical = max(int((wanted - width) / 2), 0), max(int((wanted - height) / 2), 0)
    padded: Picture = pad(image, [horizontal, vertical, horizontal, vertical], 0, "constant")  # type: ignore[arg-type]
    return padded
