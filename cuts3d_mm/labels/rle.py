"""Check run-length codes before pycocotools, which trusts them, decodes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

MAX_CODE_BYTES = 2**21  # for each mask; photos of 10,000 x 10,000 pixels need less than 2**18
MAX_IMAGE_PIXELS = 178_956_970  # the largest image that Pillow opens
_FIRST_CHARACTER, _LAST_CHARACTER = 48, 111  # 6 bits: 5 bits of a number, 1 for "more follow"
_MAX_DIGITS = 7  # digits of 5 bits: numbers below 2**34


def check_codes(codes: Iterable[bytes], image_hw: tuple[int, int]) -> None:
    """Check that compressed codes hold masks of an image, without empty runs inside.

    Raises:
        ValueError: a code does not.
    """
    for code in codes:
        if not _checked_runs(code, image_hw)[1:].all():
            # pycocotools decodes such masks, but miscounts their overlap.
            raise ValueError('runs after the first must not be empty')


def tidy_code(code: bytes, image_hw: tuple[int, int]) -> bytes:
    """Check a compressed code, and join two runs where the run between them is empty.

    Raises:
        ValueError: the code does not hold a mask of the image.
    """
    runs = _checked_runs(code, image_hw)
    return code if runs[1:].all() else pack_runs(runs, image_hw)


def pack_runs(runs: Sequence[int] | NDArray[np.int64], image_hw: tuple[int, int]) -> bytes:
    """Compress runs of 0 and 1 in turn, 0 first; empty runs are removed.

    Raises:
        ValueError: a run is negative, or the runs do not add up to the pixels of the image.
    """
    lengths = np.asarray(runs, np.int64)
    _require_whole(lengths, image_hw)
    if not lengths[1:].all():
        # Two changes at the same pixel cancel each other.
        changes, times = np.unique(np.cumsum(lengths), return_counts=True)
        num_pixels = image_hw[0] * image_hw[1]
        kept = changes[(times % 2 == 1) & (changes < num_pixels)]
        lengths = np.diff(kept, prepend=0, append=num_pixels)
    code = {'size': list(image_hw), 'counts': lengths.tolist()}
    return coco_mask.frPyObjects(code, *image_hw)['counts']


def unpack_runs(code: bytes) -> NDArray[np.int64]:
    """Unpack the runs of a valid compressed code; it may have empty runs."""
    digits = np.frombuffer(code, np.uint8).astype(np.int64) - _FIRST_CHARACTER
    is_last = digits & 32 == 0
    starts = np.flatnonzero(np.concatenate([[True], is_last[:-1]]))
    lengths = np.diff(starts, append=len(digits))
    place = np.arange(len(digits)) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((digits & 31) << 5 * place, starts)
    numbers -= np.where(digits[is_last] & 16, 1 << 5 * lengths, 0)
    # From the fourth run on, a run is stored as its difference to the run two before it.
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def _checked_runs(code: bytes, image_hw: tuple[int, int]) -> NDArray[np.int64]:
    """Unpack the runs of a code; ValueError says what is wrong with it."""
    if not 0 < len(code) <= MAX_CODE_BYTES:
        raise ValueError(f'a run-length code must have from 1 to {MAX_CODE_BYTES} characters')
    characters = np.frombuffer(code, np.uint8)
    if characters.min() < _FIRST_CHARACTER or characters.max() > _LAST_CHARACTER:
        raise ValueError("a run-length code must consist of ASCII characters from '0' to 'o'")
    ends = np.flatnonzero((characters - _FIRST_CHARACTER) & 32 == 0)
    if not len(ends) or ends[-1] != len(code) - 1:
        raise ValueError('a run-length code must not end within a number')
    if np.diff(ends, prepend=-1).max() > _MAX_DIGITS:
        raise ValueError(f'a run must have at most {_MAX_DIGITS} characters')
    runs = unpack_runs(code)
    _require_whole(runs, image_hw)
    return runs


def _require_whole(runs: NDArray[np.int64], image_hw: tuple[int, int]) -> None:
    height, width = image_hw
    if not runs.size or runs.min() < 0 or runs.sum() != height * width:
        raise ValueError(
            f'runs must add up to the {height * width} pixels of {height} x {width} (H x W)'
        )
