"""The plan of a learning run: what was asked for, and the folders that result."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cuts3d_mm.files.atomic import write_whole

_VERSION = 1
_UNITS_S = {'s': 1.0, 'm': 60.0, 'h': 3600.0, 'd': 86400.0}
_DURATION = re.compile(r'(\d+(?:\.\d+)?)([smhd])')
IMAGENET_IMAGES = 1_281_167  # of the training set
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


@dataclass(frozen=True)
class Settings:
    """What a run keeps for as long as it lives."""

    images: str  # folder, list or COCO JSON
    generator: str  # config
    depth: str | None  # folder of depth maps
    detector: str  # config of the training
    load_from: str | None  # weights to begin with
    is_offline: bool  # embedded features, tiny detector
    gpus: int  # 0: the CPU
    seed: int


@dataclass(frozen=True)
class Pass:
    """One set of images, one training on it with its rounds."""

    num_images: int
    num_to_cut: int  # images that no earlier pass has cut
    num_held_out: int
    num_rounds: int  # that were asked for, before a budget
    budget_s: float | None
    schedule: Schedule
    load_from: str | None


@dataclass(frozen=True)
class Plan:
    """All that is to be done; every pass but the last is done or given up."""

    settings: Settings
    passes: tuple[Pass, ...]

    @property
    def current(self) -> Pass:
        """The last pass."""
        return self.passes[-1]


def write_plan(path: Path, plan: Plan) -> None:
    """Write a plan, whole or not at all."""
    write_whole(path, json.dumps({'version': _VERSION, **asdict(plan)}, indent=1) + '\n')


def read_plan(path: Path) -> Plan | None:
    """Read a plan; None where there is none.

    Raises:
        ValueError: the file is none of ours.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        if content['version'] != _VERSION:
            raise ValueError(f'version must be {_VERSION}, got {content["version"]}')
        passes = tuple(_pass(one) for one in content['passes'])
        if not passes:
            raise ValueError('there must be a pass')
        return Plan(Settings(**content['settings']), passes)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'{path} must be the plan of a run of this version ({error}); choose another OUT'
        ) from error


def _pass(content: dict[str, Any]) -> Pass:
    schedule = dict(content['schedule'])
    schedule['round_steps'] = tuple(schedule['round_steps'])
    counts = [value for key, value in schedule.items() if key != 'round_steps']
    counts += schedule['round_steps']
    if not all(type(count) is int and count > 0 for count in counts):
        raise ValueError(f'numbers of a schedule must be integers above 0, got {schedule}')
    return Pass(**{**content, 'schedule': Schedule(**schedule)})


@dataclass(frozen=True)
class Request:
    """The command line; None leaves a choice to the plan."""

    images: Path
    out: Path
    config: str | None = None  # of the generator of pseudo-labels
    detector: str | None = None  # config of a training
    depth: Path | None = None
    offline: bool = False
    rounds: int | None = None
    gpus: int | None = None
    budget_s: float | None = None
    annotations: Path | None = None
    labels: Path | None = None  # COCO JSON with classes, of a few images
    exclude: Path | None = None
    load_from: str | None = None
    seed: int | None = None
    workers: int | None = None


def parse_duration(text: str) -> float:
    """Read a duration such as 30m, 6h or 1.5d, in seconds.

    Raises:
        ValueError: it is none.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None or not float(found[1]):
        raise ValueError(f'a duration must be a number and s, m, h or d, such as 6h, got {text!r}')
    return float(found[1]) * _UNITS_S[found[2]]


def format_duration(seconds: float) -> str:
    """Write a duration in its largest unit: 45 s, 12 min, 3.5 h, 2.1 days."""
    for unit, length, digits in (('days', 86400.0, 1), ('h', 3600.0, 1), ('min', 60.0, 0)):
        if seconds >= 1.5 * length:
            return f'{seconds / length:.{digits}f} {unit}'
    return f'{seconds:.0f} s'


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


@dataclass(frozen=True)
class PassFolders:
    """Of one pass: one set of images, one training with its rounds."""

    folder: Path

    @property
    def images(self) -> Path:
        """Names of the images of the pass, and of those that it cuts, JSON."""
        return self.folder / 'images.json'

    @property
    def cut(self) -> Path:
        """Label store of the images that this pass was the first to see."""
        return self.folder / 'cut'

    @property
    def is_cut(self) -> bool:
        """Whether `cut` holds labels; a run that was killed early has only claimed it."""
        return any(self.cut.glob('labels-*.parquet'))

    @property
    def labels(self) -> Path:
        """Label store to train on."""
        return self.folder / 'labels'

    @property
    def held_out(self) -> Path:
        """Pseudo-labels of the held-out images, COCO JSON."""
        return self.folder / 'held_out.json'

    @property
    def config(self) -> Path:
        """Config of the training."""
        return self.folder / 'training.py'

    @property
    def work_dir(self) -> Path:
        """Checkpoints and logs of the training."""
        return self.folder / 'training'

    def predictions(self, number: int) -> Path:
        """Label store of the images to train on, by the detector before a round (from 1)."""
        return self.work_dir / f'round_{number}' / 'predictions'

    def detections(self, number: int) -> Path:
        """Label store of the held-out images, by the detector after a round (0: initial)."""
        return self.folder / 'detections' / f'round_{number}'


@dataclass(frozen=True)
class Folders:
    """Of a whole run."""

    out: Path

    @property
    def plan(self) -> Path:
        """What is done, with all schedules, JSON."""
        return self.out / 'plan.json'

    @property
    def steps(self) -> Path:
        """Time and memory of each step, JSON."""
        return self.out / 'steps.json'

    @property
    def contact_sheet(self) -> Path:
        """Pseudo-labels of some images, drawn."""
        return self.out / 'contact_sheet.jpg'

    @property
    def report(self) -> Path:
        """The page about all of it."""
        return self.out / 'report.html'

    @property
    def release(self) -> Path:
        """The detector, as others load it."""
        return self.out / 'release'

    @property
    def class_release(self) -> Path:
        """The detector that was fine-tuned on a few labels."""
        return self.out / 'release_classes'

    def of_pass(self, number: int) -> PassFolders:
        """Folders of a pass, counted from 1."""
        return PassFolders(self.out / f'pass_{number}')


@dataclass(frozen=True)
class PassImages:
    """Names of the images of a pass."""

    names: tuple[str, ...]
    to_cut: tuple[str, ...]  # that no earlier pass has cut
    held_out: tuple[str, ...]  # that are watched, not trained on


def write_pass_images(path: Path, images: PassImages) -> None:
    """Write the names, whole or not at all."""
    write_whole(path, json.dumps(asdict(images)))


def read_pass_images(path: Path) -> PassImages:
    """Read the names.

    Raises:
        ValueError: the file is missing or none of ours.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        lists = {key: _names(content[key]) for key in PassImages.__annotations__}
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'{path} must hold the image names of a pass ({error}); choose another OUT'
        ) from error
    return PassImages(**lists)


def watched_names(folders: PassFolders) -> tuple[str, ...]:
    """Held-out images of a pass that its training is watched on, in random order."""
    held_out = read_pass_images(folders.images).held_out
    return in_random_order(held_out, 'watched')[:MOST_WATCHED]


def _names(content: object) -> tuple[str, ...]:
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise TypeError('names must be in a list')
    return tuple(content)


def held_out_names(
    names: Sequence[str],
    held_before: Set[str] = frozenset(),
    trained_before: Set[str] = frozenset(),
) -> tuple[str, ...]:
    """Choose a tenth of the images, at least one, to watch the training on; sorted.

    An image is held out or not by its name alone, however many others there are, and stays on its
    side in later passes. Where that chooses none, one that was not trained on is held out if there
    is one; where it chooses all, one of several is trained on.

    Args:
        names: of the images.
        held_before: names that earlier passes have held out.
        trained_before: names that earlier passes have trained on.
    """
    ordered = in_random_order(names, 'held out')
    held_out = [
        name
        for name in ordered
        if name in held_before
        or (name not in trained_before and _hash(name, 'held out') < _HELD_OUT_SHARE)
    ]
    if not held_out:
        held_out = [name for name in ordered if name not in trained_before][:1] or [ordered[0]]
    if len(held_out) == len(names) > 1:
        held_out.pop()
    return tuple(sorted(held_out))


def in_random_order(names: Sequence[str], purpose: str) -> tuple[str, ...]:
    """Order images at random; the same order whenever it is asked for.

    Args:
        names: of the images.
        purpose: orders for different purposes do not depend on each other.
    """
    return tuple(sorted(names, key=lambda name: (_hash(name, purpose), name)))


def _hash(name: str, purpose: str) -> float:
    """A number in [0, 1) that looks random."""
    digest = hashlib.sha256(f'{purpose}\n{name}'.encode()).digest()
    return float(int.from_bytes(digest[: _BITS // 8], 'big') / 2**_BITS)
