"""Scale a training schedule to a number of images and a batch size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

IMAGENET_IMAGES = 1_281_167  # of the training set
_ONE_PERCENT_OF_COCO = 1_183  # images of train2017
# CutLER's steps of 16 images at both ends of what it trains on: ImageNet (initial round, yaml)
# and 1 % of COCO (fine-tuning, yaml). A power law goes through them: about the square root.
_IMAGENET_STEPS, _ONE_PERCENT_STEPS = 160_000, 3_600
_EXPONENT = math.log(_IMAGENET_STEPS / _ONE_PERCENT_STEPS) / math.log(
    IMAGENET_IMAGES / _ONE_PERCENT_OF_COCO
)
_LONGEST_WARM_UP = 0.25  # share of a stage; CutLER's longest is 1000 of 3600 steps


@dataclass(frozen=True)
class Schedule:
    """Steps of a training, for a number of images and a batch size."""

    num_images: int
    batch_size: int  # images of a step, of all GPUs together
    initial_steps: int
    round_steps: tuple[int, ...] = ()  # of each round of self-training

    @property
    def total_steps(self) -> int:
        """Steps of all rounds."""
        return self.initial_steps + sum(self.round_steps)

    @property
    def begins(self) -> tuple[int, ...]:
        """First step of each round of self-training."""
        ends = [self.initial_steps]
        for steps in self.round_steps:
            ends.append(ends[-1] + steps)
        return tuple(ends[:-1])

    def with_rounds(self, count: int) -> Schedule:
        """Keep the first rounds, or repeat the last one until there are as many.

        Raises:
            ValueError: there is no round to repeat.
        """
        if count > len(self.round_steps) and not self.round_steps:
            raise ValueError('a schedule must have a round to repeat, it has none')
        missing = max(0, count - len(self.round_steps))
        steps = self.round_steps[:count] + self.round_steps[-1:] * missing
        return replace(self, round_steps=steps)


def scale_steps(steps: int, images: tuple[int, int], batch_sizes: tuple[int, int]) -> int:
    """Number of steps for other images and another batch size, at least 1.

    Steps of a fixed batch size grow with the number of images to the power of 0.543, the power
    law through CutLER's own schedules: 160,000 steps for ImageNet, 3,600 for 1 % of COCO, with
    16 images each. A smaller batch takes as many more steps, so that the detector sees as many
    images.

    Args:
        steps: of the schedule to scale.
        images: number of images that it is for, and that there are.
        batch_sizes: number of images of a step that it is for, and that there are.
    """
    growth = (images[1] / images[0]) ** _EXPONENT
    return max(1, round(steps * growth * batch_sizes[0] / batch_sizes[1]))


def scale_schedule(schedule: Schedule, num_images: int, batch_size: int) -> Schedule:
    """Scale all stages of a schedule by `scale_steps`."""
    images, sizes = (schedule.num_images, num_images), (schedule.batch_size, batch_size)
    rounds = tuple(scale_steps(steps, images, sizes) for steps in schedule.round_steps)
    return Schedule(
        num_images, batch_size, scale_steps(schedule.initial_steps, images, sizes), rounds
    )


def shorten(schedule: Schedule, most_steps: int) -> Schedule:
    """Shorten a schedule to a number of steps: first rounds go, then all stages shrink.

    A stage keeps at least half of its steps as long as there is a round to leave out; what is
    left is shortened by one factor.

    Args:
        schedule: to shorten.
        most_steps: of all stages together, at least one for each.
    """
    while schedule.round_steps and schedule.total_steps > 2 * most_steps:
        schedule = schedule.with_rounds(len(schedule.round_steps) - 1)
    share = min(1.0, most_steps / schedule.total_steps)
    if share == 1.0:
        return schedule
    rounds = tuple(max(1, int(steps * share)) for steps in schedule.round_steps)
    return replace(
        schedule, initial_steps=max(1, int(schedule.initial_steps * share)), round_steps=rounds
    )


def scale_schedulers(
    schedulers: Sequence[dict[str, Any]], steps: tuple[int, int]
) -> list[dict[str, Any]]:
    """Scale the learning rate schedule of a stage, of MMEngine's `param_scheduler`.

    A warm-up keeps its steps, as CutLER's does, but takes a quarter of the stage at most; other
    moments keep their place within the stage.

    Args:
        schedulers: of the stage, counted in steps.
        steps: of the stage as it was, and as it is to be.
    """
    before, after = steps
    scaled = []
    for one in schedulers:
        new = dict(one)
        is_warm_up = str(one['type']).endswith('LinearLR')
        if 'end' in one:
            limit = max(1, int(_LONGEST_WARM_UP * after))
            new['end'] = min(one['end'], limit) if is_warm_up else after
        if 'milestones' in one:
            moments = [max(1, round(step * after / before)) for step in one['milestones']]
            new['milestones'] = sorted(set(moments))
        scaled.append(new)
    return scaled
