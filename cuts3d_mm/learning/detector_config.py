"""Read from the config of a training what a plan needs to know of it."""

from __future__ import annotations

from typing import Any

from cuts3d_mm.configs import load_config
from cuts3d_mm.learning.schedule import IMAGENET_IMAGES, Schedule

_LOOP = 'SelfTrainingLoop'


def load_detector_config(name: str) -> Any:
    """Load the config of a training with rounds.

    Raises:
        ValueError: there is none, or it is of another training.
    """
    config = load_config(name, [])
    loop = str(config.get('train_cfg', {}).get('type', ''))
    if not loop.endswith(_LOOP) or 'base_batch_size' not in config.get('auto_scale_lr', {}):
        raise ValueError(
            f'--detector must be a config with train_cfg.type cuts3d_mm.{_LOOP} and '
            f'auto_scale_lr.base_batch_size, got {name}; choose one with self-training in its '
            'name, or inherit from one'
        )
    return config


def schedule_of(config: Any) -> Schedule:
    """The schedule that a config has.

    `schedule_images` of the config is the number of images that it is for, those of ImageNet if
    it does not say.
    """
    begins = [one.begin for one in config.train_cfg.rounds]
    ends = [*begins[1:], config.train_cfg.max_iters]
    rounds = tuple(end - begin for begin, end in zip(begins, ends, strict=True))
    images = config.get('schedule_images', IMAGENET_IMAGES)
    return Schedule(images, config.auto_scale_lr.base_batch_size, begins[0], rounds)
