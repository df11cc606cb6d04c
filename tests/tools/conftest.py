"""What tests of commands share."""

from __future__ import annotations

import pytest
from helpers.tiny_detectors import write_checkpoint


@pytest.fixture(scope='session')
def detector(tmp_path_factory):
    """Options that name a tiny detector."""
    path = tmp_path_factory.mktemp('detector') / 'iter_1.pth'
    return ('--model', write_checkpoint(path), '--weights', path, '--device', 'cpu')
