"""Choose images by a hash of their names, so that more images change no earlier choice."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence, Set

_HELD_OUT_SHARE = 0.1
_BITS = 64


def held_out_names(
    names: Sequence[str],
    held_before: Set[str] = frozenset(),
    trained_before: Set[str] = frozenset(),
) -> tuple[str, ...]:
    """Choose a tenth of the images, at least one, to watch the training on; sorted.

    An image is held out or not by its name alone, however many others there are, and stays on its
    side in later passes. Where that chooses none, one that was not trained on is held out if there
    is one; where it chooses all, one of several is trained on.

    Args:
        names: of the images.
        held_before: names that earlier passes have held out.
        trained_before: names that earlier passes have trained on.
    """
    ordered = in_random_order(names, 'held out')
    held_out = [
        name
        for name in ordered
        if name in held_before
        or (name not in trained_before and _hash(name, 'held out') < _HELD_OUT_SHARE)
    ]
    if not held_out:
        held_out = [name for name in ordered if name not in trained_before][:1] or [ordered[0]]
    if len(held_out) == len(names) > 1:
        held_out.pop()
    return tuple(sorted(held_out))


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
