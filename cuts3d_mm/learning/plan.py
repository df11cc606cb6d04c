"""The plan of a learning run: request, schedule, files and held-out images."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec.structs import replace

from cuts3d_mm.files.atomic import write_whole

_VERSION = 3
IMAGENET_IMAGES = 1_281_167  # images of the training set
_ONE_PERCENT_OF_COCO = 1_183  # images of train2017
# CutLER's steps of 16 images at both ends of what it trains on: ImageNet (initial round, yaml)
# and 1 % of COCO (fine-tuning, yaml). A power law goes through them: about the square root.
_IMAGENET_STEPS, _ONE_PERCENT_STEPS = 160_000, 3_600
_EXPONENT = math.log(_IMAGENET_STEPS / _ONE_PERCENT_STEPS) / math.log(
    IMAGENET_IMAGES / _ONE_PERCENT_OF_COCO
)
_LONGEST_WARM_UP = 0.25  # share of a stage; CutLER's longest is 1000 of 3600 steps
MOST_WATCHED = 1000  # held-out images that detectors are compared on
_HELD_OUT_SHARE = 0.1
_BITS = 64
_Count = Annotated[int, msgspec.Meta(gt=0)]


@dataclass(frozen=True)
class Request:
    """The command line; None leaves a choice to the plan."""

    images: Path
    out: Path
    config: str | None = None  # config of the generator of pseudo-labels
    detector: str | None = None  # config of a training
    depth: Path | None = None  # folder of depth maps, or a pattern
    larger_is: str | None = None  # what larger values of depth maps are: 'far' or 'near'
    offline: bool = False
    rounds: int | None = None
    steps: int | None = None  # steps of the initial round
    select: str | None = None  # labels to train on, as `LabelSelection` reads it
    gpus: int | None = None
    annotations: Path | None = None
    labels: Path | None = None  # COCO JSON with classes, of a few images
    exclude: Path | None = None
    load_from: str | None = None
    seed: int | None = None
    workers: int | None = None
    yes: bool = False  # go on whatever the first pseudo-labels look like


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a run keeps for as long as it lives."""

    images: str  # folder, list or COCO JSON
    generator: str  # config
    depth: str | None  # folder of depth maps, or a pattern
    detector: str  # config of the training
    select: str  # labels to train on, as `LabelSelection` reads it
    load_from: str | None  # weights to begin with
    is_offline: bool  # embedded features, tiny detector
    gpus: int  # 0: the CPU
    seed: int
    larger_is: str | None = None  # 'far' or 'near' of depth maps; None: as the generator says


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that is to be done: the images are cut, then a training with its rounds."""

    settings: Settings
    num_images: _Count  # held-out images included
    schedule: Schedule


def write_plan(path: Path, plan: Plan) -> None:
    """Write a plan, whole or not at all."""
    content = {'version': _VERSION, **msgspec.to_builtins(plan)}
    write_whole(path, json.dumps(content, indent=1) + '\n')


def read_plan(path: Path) -> Plan | None:
    """Read a plan; None where there is no file, or it is damaged.

    Raises:
        ValueError: the file is the plan of a run of another version.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        version = content.pop('version')
        if version == _VERSION:
            return msgspec.convert(content, Plan)
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None
    raise ValueError(
        f'{path} must be the plan of a run of this version (version must be {_VERSION}, got '
        f'{version}); choose another OUT{advise_weights(path.parent)}'
    )


def advise_weights(out: Path) -> str:
    """Say how another run begins with the detector of this one, if there is a detector."""
    release = Folders(out).release
    return f', and --load-from {release} to begin with its weights' if release.is_dir() else ''


class Schedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Steps of a training, for a number of images and a batch size."""

    num_images: _Count  # images to train on
    batch_size: _Count  # images of a step, on all GPUs together
    initial_steps: _Count
    round_steps: tuple[_Count, ...] = ()  # steps of each round of self-training

    @property
    def total_steps(self) -> int:
        """Steps of all rounds."""
        return self.initial_steps + sum(self.round_steps)

    @property
    def begins(self) -> tuple[int, ...]:
        """First step of each round of self-training."""
        numbers = range(len(self.round_steps))
        return tuple(self.initial_steps + sum(self.round_steps[:number]) for number in numbers)

    def with_rounds(self, count: int) -> Schedule:
        """Keep the first rounds, or repeat the last round until there are as many.

        Raises:
            ValueError: there is no round to repeat.
        """
        missing = max(0, count - len(self.round_steps))
        if missing and not self.round_steps:
            raise ValueError('a schedule must have a round to repeat, it has no round')
        steps = self.round_steps[:count] + self.round_steps[-1:] * missing
        return replace(self, round_steps=steps)

    def with_initial_steps(self, steps: int) -> Schedule:
        """Set the steps of the initial round; the others change by the same factor."""
        factor = steps / self.initial_steps
        rounds = tuple(max(1, round(factor * one)) for one in self.round_steps)
        return replace(self, initial_steps=steps, round_steps=rounds)


def scale_steps(steps: int, images: tuple[int, int], batch_sizes: tuple[int, int]) -> int:
    """Number of steps for other images and another batch size, at least 1.

    Steps of a fixed batch size grow with the number of images to the power of 0.543, the power
    law through CutLER's own schedules: 160,000 steps for ImageNet, 3,600 for 1 % of COCO, with
    16 images each. A smaller batch takes as many more steps, so that the detector sees as many
    images.

    Args:
        steps: steps of the schedule to scale.
        images: number of images that the schedule is for, and that there are.
        batch_sizes: number of images of a step that the schedule is for, and that there are.
    """
    growth = (images[1] / images[0]) ** _EXPONENT
    return max(1, round(steps * growth * batch_sizes[0] / batch_sizes[1]))


def scale_schedule(schedule: Schedule, num_images: int, batch_size: int) -> Schedule:
    """Scale all stages of a schedule by `scale_steps`."""
    images, sizes = (schedule.num_images, num_images), (schedule.batch_size, batch_size)
    initial, *rounds = (
        scale_steps(steps, images, sizes)
        for steps in (schedule.initial_steps, *schedule.round_steps)
    )
    return Schedule(num_images, batch_size, initial, tuple(rounds))


def scale_schedulers(
    schedulers: Sequence[dict[str, Any]], steps: tuple[int, int]
) -> list[dict[str, Any]]:
    """Scale the learning rate schedule of a stage, of MMEngine's `param_scheduler`.

    A warm-up keeps its steps, as CutLER's does, but takes a quarter of the stage at most; other
    moments keep their place within the stage.

    Args:
        schedulers: schedulers of the stage, counted in steps.
        steps: length of the stage as it was, and as it is to be.
    """
    before, after = steps
    scaled = []
    for scheduler in schedulers:
        new = dict(scheduler)
        if 'end' in new:
            is_warm_up = str(new['type']).endswith('LinearLR')
            limit = max(1, int(_LONGEST_WARM_UP * after))
            new['end'] = min(new['end'], limit) if is_warm_up else after
        if 'milestones' in new:
            moments = [max(1, round(step * after / before)) for step in new['milestones']]
            new['milestones'] = sorted(set(moments))
        scaled.append(new)
    return scaled


class Folders:
    """Files and folders of a run."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.plan = out / 'plan.json'
        self.costs = out / 'steps.json'  # time and memory of each step
        self.cut = out / 'cut'  # label store of all images
        self.contact_sheet = out / 'contact_sheet.jpg'  # pseudo-labels of some images, drawn
        self.labels = out / 'labels'  # label store to train on
        self.held_out = out / 'held_out.json'  # pseudo-labels of watched images, COCO JSON
        self.config = out / 'training.py'
        self.work_dir = out / 'training'  # checkpoints and logs
        self.report = out / 'report.html'
        self.release = out / 'release'  # the detector, as others load it
        self.class_release = out / 'release_classes'  # fine-tuned on a few labels

    def round(self, number: int) -> Path:
        """Folder of the labels of a round (from 1), and of how they were made."""
        return self.work_dir / f'round_{number}'

    def read_held_out(self) -> dict[str, Any]:
        """Read `held_out.json`."""
        return dict(json.loads(self.held_out.read_text(encoding='utf-8')))

    def detections(self, number: int) -> Path:
        """Label store of the watched images, by the detector after a round (0: initial)."""
        return self.out / 'detections' / f'round_{number}'


def held_out_names(names: Sequence[str]) -> tuple[str, ...]:
    """Choose a tenth of the images, at least one, to watch the training on; sorted.

    An image is held out or not by its name alone, however many others there are. Where that
    chooses no image, an image is held out nevertheless; where it chooses all of several, one is
    trained on.
    """
    ordered = in_random_order(names, 'held out')
    count = sum(_hash(name, 'held out') < _HELD_OUT_SHARE for name in names)
    return tuple(sorted(ordered[: max(1, min(count, len(names) - 1))]))


def watched_names(held_out: Sequence[str]) -> tuple[str, ...]:
    """Held-out images that the training is watched on, in random order."""
    return in_random_order(held_out, 'watched')[:MOST_WATCHED]


def in_random_order(names: Sequence[str], purpose: str) -> tuple[str, ...]:
    """Order images at random, for each purpose in another way, which is always the same."""
    return tuple(sorted(names, key=lambda name: (_hash(name, purpose), name)))


def _hash(name: str, purpose: str) -> float:
    """A number in [0, 1) that looks random."""
    digest = hashlib.sha256(f'{purpose}\n{name}'.encode()).digest()
    return float(int.from_bytes(digest[: _BITS // 8], 'big') / 2**_BITS)
