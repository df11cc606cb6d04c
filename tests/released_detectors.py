"""A tiny detector as a training leaves it, with its config next to it."""

from __future__ import annotations

import torch
from mmdet.registry import MODELS
from mmengine.logging.history_buffer import HistoryBuffer
from tiny_detectors import NARROW, tiny_config


def write_checkpoint(path, seed=0):
    """Random weights with the logs that MMEngine pickles, and a config; the config's path."""
    torch.manual_seed(seed)
    config = tiny_config(NARROW)
    weights = MODELS.build(config.model).state_dict()
    weights['roi_head.mask_head.0.conv_logits.bias'].fill_(1)  # or masks may be empty
    history = HistoryBuffer()
    history.update(1.0)
    torch.save(
        {
            'meta': {'dataset_meta': {'classes': ('object',)}, 'cfg': config.pretty_text},
            'state_dict': weights,
            'optimizer': {'state': {0: torch.ones(3)}},
            'message_hub': {'loss': history},
        },
        path,
    )
    path.with_suffix('.py').write_text(config.pretty_text)
    return str(path.with_suffix('.py'))
