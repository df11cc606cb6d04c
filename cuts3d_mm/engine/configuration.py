"""Load a config with changes and build its runner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS, init_default_scope
from mmengine.runner import Runner

from cuts3d_mm.command_line import parse_options
from cuts3d_mm.engine.resume import settle_resume
from cuts3d_mm.inference.detector_labeller import digest_weights
from cuts3d_mm.registry import MODELS
from cuts3d_mm.shipped_files import find_config
from cuts3d_mm.weights import read_state
from cuts3d_mm.weights.mmengine_loader import install


def load_config(
    name: str, options: list[str], launcher: str = 'none', work_dir: str | None = None
) -> Config:
    """Load the config of a training or a test.

    Args:
        name: path, or file name of a shipped config.
        options: `key=value` changes.
        launcher: `none`, `pytorch`, `slurm` or `mpi`.
        work_dir: folder of logs and checkpoints; by default `work_dirs/` and the config's name.

    Raises:
        ValueError: no such config, a malformed option.
    """
    install()
    path = find_config(name)
    config = Config.fromfile(str(path))
    config.merge_from_dict(parse_options(options))
    config.launcher = launcher
    config.work_dir = work_dir or config.get('work_dir') or f'work_dirs/{Path(path).stem}'
    return config


def build_runner(config: Config) -> Any:
    """Build the runner that a config asks for; several ranks may be CPU processes."""
    settle_resume(config)
    if config.launcher == 'pytorch' and not torch.cuda.is_available():
        _join_cpu_ranks(config)
    if 'runner_type' in config:
        return RUNNERS.build(config)
    return Runner.from_cfg(config)


def build_detector(config: Config) -> Any:
    """Build the detector of a config, without weights."""
    init_default_scope(config.get('default_scope', 'mmdet'))
    return MODELS.build(config.model)


def _join_cpu_ranks(config: Config) -> None:
    """Do what MMEngine does for ranks with a GPU each."""
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
    # MMEngine otherwise gives every rank the GPU of its number.
    wrapper = {'type': 'MMDistributedDataParallel', 'device_ids': None}
    config.setdefault('model_wrapper_cfg', wrapper)


def labeller_config(config: Config, checkpoint: str, **options: Any) -> dict[str, Any]:
    """Turn the config of a detector into that of a `DetectorLabeller`.

    Args:
        config: of a training or a test; its `test_dataloader` has the pipeline.
        checkpoint: weights, as for `read_state`.
        options: other arguments of `DetectorLabeller`.

    Raises:
        ValueError: the config is of no detector, or the checkpoint holds no weights.
    """
    if 'model' not in config or 'test_dataloader' not in config:
        raise ValueError('CONFIG must define model and test_dataloader, it does not')
    plain = config.to_dict()
    return {
        'type': 'cuts3d_mm.DetectorLabeller',
        'detector': plain['model'],
        'pipeline': plain['test_dataloader']['dataset']['pipeline'],
        'checkpoint': checkpoint,
        'weights_sha256': digest_weights(read_state(checkpoint).weights),
        **options,
    }
