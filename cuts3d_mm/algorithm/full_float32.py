"""Compute float32 in full on a GPU, which may else round factors to 10 bits (TF32)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def full_float32() -> Iterator[None]:
    """Forbid TF32 in products and convolutions on a GPU, which round factors to 10 bits."""
    import torch

    places: tuple[Any, ...] = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [place.allow_tf32 for place in places]
    for place in places:
        place.allow_tf32 = False
    try:
        yield
    finally:
        for place, allowed in zip(places, before, strict=True):
            place.allow_tf32 = allowed
