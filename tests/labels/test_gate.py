from __future__ import annotations

import numpy as np
import pytest
from helpers.drawn import disc

from cuts3d_mm.labels.gate import check_labels
from cuts3d_mm.labels.record import ImageRecord, encode_instance

HW = (40, 70)
LARGE, SMALL = disc((20, 30), 12, HW), disc((20, 30), 2, HW)


def record(name, *masks):
    return ImageRecord(name, HW, tuple(encode_instance(mask, None, 1.0) for mask in masks))


def records(large=0, small=0, empty=0):
    masks = [(LARGE,)] * large + [(SMALL,)] * small + [()] * empty
    return [record(f'{number}.jpg', *one) for number, one in enumerate(masks)]


def test_a_small_mask_of_this_test_covers_less_than_one_percent():
    assert SMALL.any() and np.mean(SMALL) < 0.01 < np.mean(LARGE)


def test_labels_within_the_limits_have_no_fault_and_their_figures_are_given():
    found = check_labels(records(large=16, small=4, empty=4))
    assert not found.faults
    assert str(found) == (
        '4 of 24 images without a label (16.7 %, at most 20%); '
        '4 of 20 masks under 1% of the image (20.0 %, at most 20%)'
    )


def test_a_third_of_the_images_without_a_label_is_a_fault():
    assert check_labels(records(large=16, empty=8)).faults == ('too many images without a label',)


def test_an_image_that_failed_has_no_label():
    failed = [ImageRecord(f'f{number}.jpg', (0, 0), failure='no depth') for number in range(8)]
    found = check_labels([*records(large=16), *failed])
    assert found.faults == ('too many images without a label',)


def test_half_of_the_masks_under_one_percent_is_a_fault():
    assert check_labels(records(large=10, small=10)).faults == ('too many small masks',)


@pytest.mark.parametrize(('mask_ap', 'is_fault'), [(0.9, True), (2.2, False), (8.0, True)])
def test_an_ap_out_of_range_is_a_fault(mask_ap, is_fault):
    found = check_labels(records(large=10), mask_ap, (1.1, 7.5))
    assert bool(found.faults) == is_fault
    assert str(found).endswith(f'mask AP {mask_ap:.2f} % (from 1.1 to 7.5)')
