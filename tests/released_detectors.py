"""A tiny detector as a training leaves it, with its config beside it."""

from __future__ import annotations

import torch
from mmdet.registry import MODELS
from mmengine.logging.history_buffer import HistoryBuffer
from tiny_detectors import TINY, tiny_config


def write_checkpoint(path, seed=0):
    """Random weights beside the logs that MMEngine pickles; the config's name."""
    torch.manual_seed(seed)
    config = tiny_config()
    history = HistoryBuffer()
    history.update(1.0)
    torch.save(
        {
            'meta': {'dataset_meta': {'classes': ('object',)}, 'cfg': config.pretty_text},
            'state_dict': MODELS.build(config.model).state_dict(),
            'optimizer': {'state': {0: torch.ones(3)}},
            'message_hub': {'loss': history},
        },
        path,
    )
    return TINY
