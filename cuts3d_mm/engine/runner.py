"""Build what a config describes: its runner, or its detector alone."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS, init_default_scope
from mmengine.runner import Runner

from cuts3d_mm.engine.resume import settle_resume
from cuts3d_mm.registry import MODELS
from cuts3d_mm.weights.mmengine_loader import install


def build_runner(config: Config) -> Any:
    """Build the runner that a config asks for; several ranks may be CPU processes."""
    install()
    settle_resume(config)
    if config.launcher == 'pytorch' and not torch.cuda.is_available():
        _join_cpu_ranks(config)
    if 'runner_type' in config:
        return RUNNERS.build(config)
    return Runner.from_cfg(config)


def build_detector(config: Config) -> Any:
    """Build the detector of a config, without weights."""
    install()
    init_default_scope(config.get('default_scope', 'mmdet'))
    return MODELS.build(config.model)


def _join_cpu_ranks(config: Config) -> None:
    """Do what MMEngine does for ranks with a GPU each."""
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
    # MMEngine otherwise gives every rank the GPU of its number.
    wrapper = {'type': 'MMDistributedDataParallel', 'device_ids': None}
    config.setdefault('model_wrapper_cfg', wrapper)
