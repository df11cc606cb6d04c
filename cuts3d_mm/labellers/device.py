"""Choose the device of networks."""

from __future__ import annotations

import sys


def choose_device(name: str) -> str:
    """Resolve 'auto': a GPU where torch is loaded and sees one, else the CPU.

    What needs no network has not loaded torch, and there is nothing to put on a GPU.
    """
    if name != 'auto':
        return name
    torch = sys.modules.get('torch')
    return 'cuda' if torch is not None and torch.cuda.is_available() else 'cpu'
