"""Choose the device and precision of networks, and bring images to it."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .registry import DEPTH, FEATURES, build_labeller, check_labeller

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_FORM = re.compile(r'(cpu|cuda|mps|xpu|npu|mlu)(?::(\d+))?')
_PARTS = {'features': FEATURES, 'depth': DEPTH}


def choose_device(name: str) -> str:
    """Resolve 'auto', and check any other name.

    'auto' is a GPU where torch is loaded and sees one, else the CPU: what needs no network has
    not loaded torch, and there is nothing to put on a GPU.

    Raises:
        ValueError: not a device, or this machine does not have it.
    """
    if name != 'auto':
        check_device(name)
        return name
    torch = sys.modules.get('torch')
    return 'cuda' if torch is not None and torch.cuda.is_available() else 'cpu'


def check_device(name: str) -> None:
    """Check a device; torch is imported for those only that a machine may not have.

    Raises:
        ValueError: not a device, or this machine does not have it.
    """
    if name in ('auto', 'cpu'):
        return
    form = _FORM.fullmatch(name)
    if form is None:
        raise ValueError(f"device must be 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps', got {name!r}")
    if form[1] not in ('cuda', 'mps'):
        return
    import torch

    if form[1] == 'mps' and not torch.backends.mps.is_available():
        raise ValueError(f'device {name} must be a Mac with Metal; use --device cpu or auto')
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if form[1] == 'cuda' and int(form[2] or 0) >= count:
        raise ValueError(
            f'device {name} must be a GPU of this machine, PyTorch {torch.__version__} sees '
            f"{count}; use --device cpu or auto, or see what 'cuts3d doctor' says"
        )


def with_precision(model: dict[str, Any], device: str, precision: str) -> dict[str, Any]:
    """Set the precision of the networks that a generator config names.

    Half precision is for features alone. A depth network runs in float32 unless its config has
    `half=True`: in bfloat16 the head of ZoeDepth tells 170 to 350 depths apart in place of 4096,
    in steps that are as large as the thresholds of LocalCut.

    Args:
        precision: 'fp32' for all networks; 'bf16' for features; or 'auto': features in bfloat16
            on a GPU, in float32 on the CPU, and as the config says where it says something.

    Raises:
        ValueError: bfloat16 for a config without a network that could use it.
    """
    if precision == 'auto' and device.partition(':')[0] == 'cpu':
        return model
    changes = {}
    for part, registry in _PARTS.items():
        config: Any = model.get(part)
        kind = None if config is None else registry.get(config['type'])
        if kind is None or 'half' not in inspect.signature(kind).parameters:
            continue
        half = part == 'features' and precision in ('auto', 'bf16')
        if precision == 'auto' or (precision == 'bf16' and part == 'depth'):
            half = config.get('half', half)
        changes[part] = {**config, 'half': half}
    if precision == 'bf16' and 'features' not in changes:
        raise ValueError(
            'precision bf16 needs features by a network that can use it, this config has none'
        )
    return {**model, **changes}


def build_on(model: dict[str, Any], device: str) -> Any:
    """Build a labeller on a device, in the precision that `cuts3d generate` has by default.

    Args:
        device: device of the networks, such as 'cuda:0'; 'auto' for a GPU where there is one.

    Raises:
        ValueError: the config is malformed, or this machine does not have the device.
    """
    check_labeller(model)  # imports torch where a network needs it
    device = choose_device(device)
    return build_labeller(with_precision(model, device, 'auto')).to(device)


def to_device(images: Sequence[NDArray[Any]], device: torch.device) -> Tensor:
    """Stack arrays of one shape on a device; the copy to a GPU is not waited for."""
    import torch

    dtype = torch.from_numpy(np.empty(0, images[0].dtype)).dtype
    shape = (len(images), *images[0].shape)
    batch = torch.empty(shape, dtype=dtype, pin_memory=device.type == 'cuda')
    np.stack(images, out=batch.numpy())
    return batch.to(device, non_blocking=device.type == 'cuda')
