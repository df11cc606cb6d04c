from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from cuts3d_mm.labels.rle import check_codes, pack_runs, tidy_code, unpack_runs


def random_mask(rng):
    height, width = rng.integers(1, 40, 2)
    return rng.random((height, width)) < rng.random()


def runs_of(mask):
    runs, value, length = [], False, 0
    for pixel in mask.T.ravel():
        if pixel != value:
            runs.append(length)
            value, length = pixel, 0
        length += 1
    return [*runs, length]


def encode(mask):
    return coco_mask.encode(np.asfortranarray(mask, np.uint8))['counts']


def test_runs_of_random_masks_are_read_and_written_as_pycocotools_writes_them(rng):
    for _ in range(100):
        mask = random_mask(rng)
        check_codes([encode(mask)], mask.shape)
        assert unpack_runs(encode(mask)).tolist() == runs_of(mask)
        assert pack_runs(runs_of(mask), mask.shape) == encode(mask)


def test_empty_runs_are_joined(rng):
    for _ in range(100):
        mask = random_mask(rng)
        split = []
        for run in runs_of(mask):
            first = int(rng.integers(run + 1))
            split += [first, 0, run - first]
        assert pack_runs(split, mask.shape) == encode(mask)
        size = {'size': list(mask.shape), 'counts': split}
        loose = coco_mask.frPyObjects(size, *map(int, mask.shape))['counts']
        assert tidy_code(loose, mask.shape) == encode(mask)


@pytest.mark.parametrize(
    ('code', 'message'),
    [
        (b'', 'from 1 to'),
        (b'o' * 3, 'end within a number'),
        (b'1o', 'end within a number'),
        (b'1 2', "characters from '0' to 'o'"),
        (b'1\xff2', "characters from '0' to 'o'"),
        (b'o' * 30 + b'1', 'at most 7 characters'),
        (b'oooooo1', 'add up to the 12 pixels of 3 x 4'),
        (b'O', 'add up to'),
        (b'01', 'add up to'),
        (b'0' * (2**21 + 1), 'from 1 to'),
        (b'4044', 'must not be empty'),
    ],
)
def test_codes_that_would_harm_pycocotools_are_refused(code, message):
    with pytest.raises(ValueError, match=message):
        check_codes([code], (3, 4))


@pytest.mark.parametrize('runs', [[], [5], [13], [13, -1], [2**40], [-12, 24]])
def test_runs_that_do_not_add_up_are_refused(runs):
    with pytest.raises(ValueError, match='add up to the 12 pixels'):
        pack_runs(runs, (3, 4))


def is_sound(code, num_pixels):
    """Walk over a code, one character at a time."""
    runs, number, num_digits = [], 0, 0
    for character in code:
        if not 48 <= character <= 111 or num_digits == 7:
            return False
        digit = character - 48
        number |= (digit & 31) << (5 * num_digits)
        num_digits += 1
        if not digit & 32:
            number -= 1 << (5 * num_digits) if digit & 16 else 0
            runs.append(number + runs[-2] if len(runs) > 2 else number)
            number = num_digits = 0
    whole = not num_digits and all(run >= 0 for run in runs) and all(runs[1:])
    return whole and sum(runs) == num_pixels


def test_damaged_codes_are_found_as_a_walk_over_them_finds_them(rng):
    found = []
    for _ in range(500):
        mask = random_mask(rng)
        code = np.frombuffer(encode(mask), np.uint8).copy()
        code[rng.integers(len(code), size=rng.integers(3))] = rng.integers(40, 120)
        code = code[: rng.integers(1, len(code) + 1)].tobytes()
        try:
            check_codes([code], mask.shape)
        except ValueError:
            found.append(False)
        else:
            found.append(True)
        assert found[-1] == is_sound(code, mask.size)
    assert 0 < sum(found) < 500
