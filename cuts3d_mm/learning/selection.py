"""Choose images by a hash of their names, so that more images change no earlier choice."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

_HELD_OUT_SHARE = 0.1
_BITS = 64


def held_out_names(names: Sequence[str]) -> tuple[str, ...]:
    """Choose a tenth of the images, at least one, to watch the training on; sorted.

    An image is held out or not by its name alone, however many others there are. Where that
    chooses none, the image with the smallest hash is held out.
    """
    held_out = [name for name in names if _hash(name, 'held out') < _HELD_OUT_SHARE]
    return tuple(sorted(held_out or in_random_order(names, 'held out')[:1]))


def in_random_order(names: Sequence[str], purpose: str) -> tuple[str, ...]:
    """Order images at random; the same order whenever it is asked for.

    Args:
        names: of the images.
        purpose: orders for different purposes do not depend on each other.
    """
    return tuple(sorted(names, key=lambda name: (_hash(name, purpose), name)))


def _hash(name: str, purpose: str) -> float:
    """A number in [0, 1) that looks random."""
    digest = hashlib.sha256(f'{purpose}\n{name}'.encode()).digest()
    return float(int.from_bytes(digest[: _BITS // 8], 'big') / 2**_BITS)
