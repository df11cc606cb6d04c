"""Find what is wrong with a run-length code, in one pass over its characters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SOUND, BAD_CHARACTER, CUT_SHORT, TOO_LONG_NUMBER, NEGATIVE_RUN, WRONG_SUM, EMPTY_RUN = range(7)
FIRST_CHARACTER, LAST_CHARACTER = 48, 111  # 6 bits each: 5 of a number, one for "more to come"
MAX_DIGITS = 7  # of 5 bits: numbers below 2**34


def find_fault(code: NDArray[np.uint8], num_pixels: int) -> int:
    """Check a compressed code of COCO's: runs of 0 and 1 in turn, 0 first.

    From the fourth run on, a run is stored as its difference to the run two before it.

    Args:
        code: (C,) characters.
        num_pixels: of the image, which the runs must add up to.

    Returns:
        SOUND or the first fault. EMPTY_RUN, an empty run after the first, is reported only if
        there is no other fault: pycocotools decodes such masks, but miscounts their overlap.
    """
    number, num_digits, index, total = 0, 0, 0, 0
    before, run, has_empty_run = 0, 0, False  # the last run but one, and the last
    for character in code:
        if character < FIRST_CHARACTER or character > LAST_CHARACTER:
            return BAD_CHARACTER
        digit = int(character) - FIRST_CHARACTER
        number |= (digit & 31) << (5 * num_digits)
        num_digits += 1
        if digit & 32:
            if num_digits == MAX_DIGITS:
                return TOO_LONG_NUMBER
            continue
        if digit & 16:
            number -= 1 << (5 * num_digits)
        before, run = run, number + before if index > 2 else number
        if run < 0:
            return NEGATIVE_RUN
        has_empty_run |= run == 0 and index > 0
        total += run
        number, num_digits, index = 0, 0, index + 1
    if num_digits:
        return CUT_SHORT
    if total != num_pixels:
        return WRONG_SUM
    return EMPTY_RUN if has_empty_run else SOUND
