"""Check run-length codes before pycocotools, which trusts them, decodes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from pycocotools import mask as coco_mask

from cuts3d_mm.algorithm import run_length_faults as faults
from cuts3d_mm.algorithm.kernels.kernel import Kernel

MAX_CODE_BYTES = 2**21  # of one mask; photos of 10,000 x 10,000 pixels need less than 2**18
MAX_IMAGE_PIXELS = 178_956_970  # of an image: as many as Pillow opens


def check_codes(codes: Iterable[bytes], image_hw: tuple[int, int]) -> None:
    """Check that compressed codes are of masks of an image, without empty runs inside.

    Raises:
        ValueError: one is not.
    """
    for code in codes:
        fault = _fault_of(code, image_hw)
        if fault:
            raise ValueError(fault)


def tidy_code(code: bytes, image_hw: tuple[int, int]) -> bytes:
    """Check one compressed code and join its runs where one between them is empty.

    Raises:
        ValueError: the code is not of a mask of the image.
    """
    fault = _fault_of(code, image_hw)
    if fault == _EMPTY_RUN:
        return pack_runs(unpack_runs(code), image_hw)
    if fault:
        raise ValueError(fault)
    return code


def pack_runs(runs: Sequence[int], image_hw: tuple[int, int]) -> bytes:
    """Compress runs of 0 and 1 in turn, 0 first; runs are joined where one is empty.

    Raises:
        ValueError: a run is negative, or they do not add up to the pixels of the image.
    """
    lengths = np.asarray(runs, np.int64)
    if not lengths.size or lengths.min() < 0 or lengths.sum() != image_hw[0] * image_hw[1]:
        raise ValueError(_must_add_up(image_hw))
    if not lengths[1:].all():
        # Two changes at the same pixel cancel each other.
        changes, times = np.unique(np.cumsum(lengths), return_counts=True)
        num_pixels = image_hw[0] * image_hw[1]
        kept = changes[(times % 2 == 1) & (changes < num_pixels)]
        lengths = np.diff(kept, prepend=0, append=num_pixels)
    code = {'size': list(image_hw), 'counts': lengths.tolist()}
    return coco_mask.frPyObjects(code, *image_hw)['counts']


def unpack_runs(code: bytes) -> list[int]:
    """Unpack a compressed code that has no fault but empty runs."""
    runs: list[int] = []
    number = num_digits = 0
    for character in code:
        digit = character - 48
        number |= (digit & 31) << 5 * num_digits
        num_digits += 1
        if digit & 32:
            continue
        if digit & 16:
            number -= 1 << 5 * num_digits
        runs.append(number + runs[-2] if len(runs) > 2 else number)
        number = num_digits = 0
    return runs


_find_fault = Kernel('run_length_faults.find_fault', faults.find_fault)
_EMPTY_RUN = 'runs after the first must not be empty'


def _fault_of(code: bytes, image_hw: tuple[int, int]) -> str:
    """Describe what is wrong with a code; empty if nothing is."""
    if not 0 < len(code) <= MAX_CODE_BYTES:
        return f'a run-length code must have from 1 to {MAX_CODE_BYTES} characters'
    fault = _find_fault(np.frombuffer(code, np.uint8), image_hw[0] * image_hw[1])
    if fault == faults.SOUND:
        return ''
    return {
        faults.BAD_CHARACTER: 'a run-length code must consist of the characters 0 to o',
        faults.CUT_SHORT: 'a run-length code must end with the end of a number',
        faults.TOO_LONG_NUMBER: f'a run must have at most {faults.MAX_DIGITS} characters',
        faults.EMPTY_RUN: _EMPTY_RUN,
    }.get(fault, _must_add_up(image_hw))


def _must_add_up(image_hw: tuple[int, int]) -> str:
    height, width = image_hw
    return f'runs must add up to the {height * width} pixels of {height} x {width} (H x W)'
