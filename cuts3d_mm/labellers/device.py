"""Check and choose the device of networks."""

from __future__ import annotations

import re
import sys

_FORM = re.compile(r'(cpu|cuda|mps|xpu|npu|mlu)(?::(\d+))?')


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
    if form[1] == 'cuda':
        _check_cuda(name, int(form[2] or 0))
    elif form[1] == 'mps':
        _check_mps(name)


def _check_cuda(name: str, index: int) -> None:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= count:
        raise ValueError(
            f'device {name} must be a GPU of this machine, PyTorch {torch.__version__} sees '
            f"{count}; use --device cpu or auto, or see what 'cuts3d doctor' says"
        )


def _check_mps(name: str) -> None:
    import torch

    if not torch.backends.mps.is_available():
        raise ValueError(f'device {name} must be a Mac with Metal; use --device cpu or auto')
