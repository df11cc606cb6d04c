"""Which images annotations mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from cuts3d_mm.learning.classes import match_names

TRUTH = Path('truth.json')


@pytest.mark.parametrize(
    ('annotated', 'names', 'expected'),
    [
        (['1.jpg', '9.jpg'], ['cats/1.jpg', 'cats/2.jpg'], {'1.jpg': 'cats/1.jpg'}),
        (['cats/1.jpg'], ['cats/1.jpg', 'dogs/1.jpg'], {'cats/1.jpg': 'cats/1.jpg'}),
        (['val/1.jpg'], ['1.jpg'], {'val/1.jpg': '1.jpg'}),
        (['1.jpg', 'old/1.jpg'], ['1.jpg'], {'1.jpg': '1.jpg'}),
        (['birds/1.jpg'], ['cats/1.jpg', 'dogs/1.jpg'], {}),
    ],
)
def test_images_are_found_by_full_name_then_by_a_unique_last_part(annotated, names, expected):
    assert match_names(annotated, names, TRUTH) == expected


@pytest.mark.parametrize(
    ('annotated', 'names', 'message'),
    [
        (['1.jpg'], ['cats/1.jpg', 'dogs/1.jpg'], r'1\.jpg can be cats/1\.jpg or dogs/1\.jpg'),
        (['cats/1.jpg', 'dogs/1.jpg'], ['1.jpg'], r'cats/1\.jpg can be 1\.jpg, and 2 of the'),
    ],
)
def test_a_name_that_could_mean_several_images_is_refused(annotated, names, message):
    with pytest.raises(ValueError, match=message):
        match_names(annotated, names, TRUTH)
