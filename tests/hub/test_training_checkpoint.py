from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging.history_buffer import HistoryBuffer

from cuts3d_mm.hub.training_checkpoint import load_detector_weights

STATE = OrderedDict(a=torch.arange(6.0).reshape(2, 3), b=torch.tensor(3))


class Harmful:
    def __reduce__(self):
        return (print, ('this must never be run',))


def training_checkpoint():
    history = HistoryBuffer()
    history.update(np.float64(1.5))
    return {'state_dict': STATE, 'meta': {'iter': 3}, 'message_hub': {'loss': history}}


@pytest.mark.parametrize('content', [STATE, {'state_dict': STATE}, training_checkpoint()])
def test_weights_are_read_from_any_checkpoint(tmp_path, content):
    torch.save(content, tmp_path / 'w.pth')
    found = load_detector_weights(str(tmp_path / 'w.pth'))
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], value) for name, value in STATE.items())


def test_code_beside_the_weights_is_not_run(tmp_path, capsys):
    torch.save({**training_checkpoint(), 'more': Harmful()}, tmp_path / 'w.pth')
    assert load_detector_weights(str(tmp_path / 'w.pth')).keys() == STATE.keys()
    assert 'never be run' not in capsys.readouterr().out


@pytest.mark.parametrize('content', [{'state_dict': {'a': Harmful()}}, {'a': 1}, Harmful()])
def test_files_without_weights_are_refused(tmp_path, content, capsys):
    torch.save(content, tmp_path / 'w.pth')
    with pytest.raises(ValueError, match='must hold the weights of a detector'):
        load_detector_weights(str(tmp_path / 'w.pth'))
    assert 'never be run' not in capsys.readouterr().out
