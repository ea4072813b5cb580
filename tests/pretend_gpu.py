"""A GPU without a GPU: tensors that say they are on a device, and that refuse what a GPU refuses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

from condsim.harness.method import Gallery, TrainFeatures

DEVICE = torch.device("lazy")
"""A kind of device that torch knows and that needs no driver."""
INDEXED = ("index.Tensor", "index_put.default", "index_put_.default")
"""Operations that a real GPU computes with indices on the CPU too: it copies them."""


class OnGpu(Tensor):
    """A tensor on the pretended GPU; ``on_cpu`` has its values."""

    on_cpu: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> OnGpu:
        made: OnGpu = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, values.shape, values.stride(), values.storage_offset(), dtype=values.dtype, device=DEVICE
        )
        made.on_cpu = values
        return made

    def tolist(self) -> Any:
        return self.cpu().tolist()  # torch has none for subclasses

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        raise AssertionError("tensors of the pretended GPU are for use within `with PretendGpu()`")


class PretendGpu(TorchDispatchMode):
    """Within it ``DEVICE`` is a device. ``copied`` counts the numbers that go "to the GPU" and "to the CPU"."""

    def __init__(self) -> None:
        super().__init__()
        self.copied: Counter[str] = Counter()

    def __enter__(self) -> Any:
        torch._C._set_only_lift_cpu_tensors(True)  # else torch.tensor(list, device=...) never comes here
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        torch._C._set_only_lift_cpu_tensors(False)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        leaves = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
        on_gpu = any(isinstance(leaf, OnGpu) for leaf in leaves)
        result_on_gpu = on_gpu
        if kwargs.get("device") is not None:
            result_on_gpu = torch.device(kwargs["device"]).type == DEVICE.type
            kwargs["device"] = torch.device("cpu")
        if func is torch.ops.aten.copy_.default:
            result_on_gpu, on_gpu = (isinstance(tensor, OnGpu) for tensor in args[:2])
        elif func is not torch.ops.aten._to_copy.default and on_gpu:
            self._check_devices(func.__name__, args, leaves)
        if func is torch.ops.aten._local_scalar_dense.default:
            result_on_gpu = False
        if leaves and result_on_gpu != on_gpu:
            self.copied["to the GPU" if result_on_gpu else "to the CPU"] += leaves[-1].numel()
        plain, named = tree_map(lambda leaf: leaf.on_cpu if isinstance(leaf, OnGpu) else leaf, (args, kwargs))
        out = func(*plain, **named)
        if not result_on_gpu:
            return args[0] if func is torch.ops.aten.copy_.default else out
        wrapped = tree_map(lambda leaf: OnGpu(leaf) if isinstance(leaf, Tensor) else leaf, out)
        return return_and_correct_aliasing(func, args, kwargs, wrapped)

    def _check_devices(self, name: str, args: tuple[Any, ...], leaves: Sequence[Tensor]) -> None:
        """Raises RuntimeError, as a GPU does, for tensors that are not all on one device."""
        others = [leaf for leaf in leaves if not isinstance(leaf, OnGpu) and leaf.ndim]  # a single number may be
        if others and name in INDEXED and isinstance(args[0], OnGpu):
            self.copied["to the GPU"] += sum(other.numel() for other in others)
        elif others:
            raise RuntimeError(f"{name}: expected all tensors on one device, found some on the CPU and some on the GPU")


def on_device(gallery: Gallery, device: torch.device) -> Gallery:
    """``gallery`` with all features and encoders on ``device``."""

    def moved(encode: Callable[..., Tensor] | None) -> Any:
        def encode_there(*inputs: Any) -> Tensor:
            assert encode is not None
            on_cpu = [part.cpu() if isinstance(part, Tensor) else part for part in inputs]
            with _disable_current_modes():  # the encoder is not under test, and runs many small operations
                features = encode(*on_cpu)
            return features.to(device)

        return None if encode is None else encode_there

    def train() -> TrainFeatures:
        split = gallery.train()
        return replace(split, images=split.images.to(device))

    return replace(
        gallery,
        features=gallery.features.to(device),
        condition_features=gallery.condition_features.to(device),
        encode_texts=moved(gallery.encode_texts),
        train=train,
        encode_images=moved(gallery.encode_images),
        encode_texts_with=moved(gallery.encode_texts_with),
        encode_jointly=moved(gallery.encode_jointly),
    )
