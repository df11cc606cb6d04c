from __future__ import annotations

import numpy as np
import pytest
from helpers.drawn import disc
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cuts3d_mm.labels.record import (
    crop_confidence,
    decode_confidence,
    decode_mask,
    encode_instance,
)


def test_mask_survives_on_a_non_square_image():
    mask = disc((20, 70), 15, (41, 97))
    record = encode_instance(mask, None, 0.5)
    assert (decode_mask(record, (41, 97)) == mask).all()
    assert record.area == mask.sum()
    assert record.box_xywh == (55.0, 5.0, 31.0, 31.0)


@given(arrays(np.float32, (5, 8), elements=st.floats(0, 1, width=32)))
def test_confidence_survives_to_half_a_step(confidence):
    steps = decode_confidence(crop_confidence(confidence))
    assert np.abs(steps / 255 - confidence).max() <= 0.5 / 255 + 1e-6


def test_confidence_is_stored_as_the_cuts_say_it():
    crop = crop_confidence(np.full((2, 3), 1 / 6, np.float32))
    assert crop.lower_bound == 0 and set(crop.values) == {round(255 / 6)}


def test_confidence_is_cropped_to_where_it_is():
    confidence = np.zeros((6, 9), np.float32)
    confidence[2:4, 5:8] = 0.7
    crop = crop_confidence(confidence)
    assert crop.crop_xywh == (5, 2, 3, 2) and len(crop.values) == 6


def test_empty_mask_is_refused():
    with pytest.raises(ValueError, match='mask must not be empty'):
        encode_instance(np.zeros((3, 4), bool), None, 1)


def test_confidence_beyond_one_is_refused():
    with pytest.raises(ValueError, match=r'confidence must lie in \[0, 1\]'):
        crop_confidence(np.full((2, 3), 1.5, np.float32))
