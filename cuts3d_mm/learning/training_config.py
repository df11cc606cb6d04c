"""Write the config of a pass's training."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from mmengine.config import ConfigDict

from cuts3d_mm.engine.self_training import training_labels
from cuts3d_mm.files.atomic import write_whole
from cuts3d_mm.learning.detector_config import load_detector_config, schedule_of
from cuts3d_mm.learning.folders import PassFolders
from cuts3d_mm.learning.plan import Pass, Settings
from cuts3d_mm.learning.schedule import Schedule, scale_schedulers

_EVALUATIONS, _CHECKPOINTS, _LOG_LINES = 8, 20, 50  # of a training, about
_KEPT_CHECKPOINTS = 2


def write_training_config(
    settings: Settings, one: Pass, folders: PassFolders, images: Path
) -> Any:
    """Write `training.py`, which `cuts3d train` takes.

    Args:
        settings: of the run.
        one: the pass.
        folders: of the pass, with its labels.
        images: folder of the images.

    Returns:
        The config.
    """
    config = load_detector_config(settings.detector)
    _set_schedule(config, one.schedule)
    # More rounds leave the periods as they are.
    set_periods(config, one.schedule.initial_steps + sum(one.schedule.round_steps[:1]))
    _set_data(config, folders, images.absolute())
    config.merge_from_dict({'randomness': {'seed': settings.seed}})
    if one.load_from is not None:
        config.load_from = one.load_from
    if not settings.gpus:
        for wrapper in (config.optim_wrapper, config.train_cfg.get('optim_wrapper', {})):
            without_amp(wrapper)
    write_whole(folders.config, config.pretty_text)
    return config


def set_periods(config: Any, total_steps: int) -> None:
    """Set how often a training logs, evaluates and saves."""
    config.train_cfg.val_interval = math.ceil(total_steps / _EVALUATIONS)
    hooks = config.default_hooks
    hooks.checkpoint.interval = math.ceil(total_steps / _CHECKPOINTS)
    hooks.checkpoint.max_keep_ckpts = _KEPT_CHECKPOINTS
    hooks.logger.interval = min(hooks.logger.interval, math.ceil(total_steps / _LOG_LINES))


def without_amp(wrapper: Any) -> None:
    """Change an optimizer wrapper to one without mixed precision, which the CPU does not need."""
    kind = str(wrapper.get('type', ''))
    wrapper['type'] = kind.replace('AmpOptim', 'Optim').replace('.AmpPer', '.Per')
    for key in ('loss_scale', 'dtype'):
        wrapper.pop(key, None)


def _set_schedule(config: Any, schedule: Schedule) -> None:
    """Set the stages; the rate grows with the batch size (Goyal et al. 2017)."""
    base, loop = schedule_of(config), config.train_cfg
    growth = schedule.batch_size / base.batch_size
    config.optim_wrapper.optimizer.lr *= growth
    loop.optim_wrapper.optimizer.lr *= growth
    steps = base.initial_steps, schedule.initial_steps
    config.param_scheduler = scale_schedulers(config.param_scheduler, steps)
    thresholds = [one.score_thr for one in loop.rounds]
    thresholds += thresholds[-1:] * max(0, len(schedule.round_steps) - len(thresholds))
    total = {'max_iters': schedule.total_steps}
    if not schedule.round_steps:
        config.train_cfg = ConfigDict(type='IterBasedTrainLoop', **total)
        return
    loop.update(total)
    loop.rounds = [
        {'begin': begin, 'score_thr': threshold}
        for begin, threshold in zip(schedule.begins, thresholds, strict=False)
    ]
    steps = base.round_steps[0], schedule.round_steps[0]
    loop.param_scheduler = scale_schedulers(loop.param_scheduler, steps)


def _set_data(config: Any, folders: PassFolders, images: Path) -> None:
    """Train on the labels of the pass, watch the held-out images."""
    prefix = {'img': str(images)}
    labels = training_labels(config.train_dataloader.dataset)
    labels.update(data_root='', ann_file=str(folders.labels.absolute()), data_prefix=prefix)
    held_out = str(folders.held_out.absolute())
    for part in ('val', 'test'):
        config[f'{part}_dataloader'].dataset.update(
            data_root='', ann_file=held_out, data_prefix=prefix
        )
        config[f'{part}_evaluator'].ann_file = held_out
    if not json.loads(folders.held_out.read_text(encoding='utf-8'))['annotations']:
        config.val_dataloader = config.val_evaluator = config.val_cfg = None
