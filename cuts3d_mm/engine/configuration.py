"""A config file and changes to it in, a runner of MMEngine out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from cuts3d_mm.command_line import parse_options
from cuts3d_mm.shipped_files import find_config


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
    path = find_config(name)
    config = Config.fromfile(str(path))
    config.merge_from_dict(parse_options(options))
    config.launcher = launcher
    config.work_dir = work_dir or config.get('work_dir') or f'work_dirs/{Path(path).stem}'
    return config


def build_runner(config: Config) -> Any:
    """Build the runner that a config asks for."""
    setup_cache_size_limit_of_dynamo()
    if 'runner_type' in config:
        return RUNNERS.build(config)
    return Runner.from_cfg(config)
