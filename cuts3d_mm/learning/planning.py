"""Make and check the plan of a learning run, and describe it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cuts3d_mm.files.paths import BadName, path_inside
from cuts3d_mm.hub.client import HUB_PREFIX, WEIGHTS_FILE, is_repository_name
from cuts3d_mm.images.listing import ImageList, list_images, read_exclusions
from cuts3d_mm.images.reading import ImageFailure, read_image_hw
from cuts3d_mm.labels.coco_json import read_ground_truth
from cuts3d_mm.labels.table import LabelTable
from cuts3d_mm.pipeline.devices import default_workers
from cuts3d_mm.pipeline.identity import ImageStats, describe_changes, read_image_stats, stat_images

from .classes import divide_labels, name_as
from .plan import (
    Folders,
    Pass,
    PassImages,
    Plan,
    Request,
    Schedule,
    Settings,
    format_duration,
    held_out_names,
    in_random_order,
    read_pass_images,
    read_plan,
    scale_schedule,
    shorten,
    write_pass_images,
    write_plan,
)
from .training import last_weights, load_detector_config, schedule_of

DEFAULT_ROUNDS = 2  # of self-training, as CutLER
_ARGUMENTS = {  # of the command, where settings are named otherwise
    'generator': '--config',
    'is_offline': '--offline',
    'images': 'IMAGES',
}
EMBEDDED_2D, EMBEDDED_3D = 'maskcut_color-texture', 'cuts3d_color-texture_file-depth'
EMBEDDED_DETECTOR = 'cuts3d_tiny-cascade-mask-rcnn_r18_scenes-self-training'
NETWORKS = 'cuts3d_dino-vitb8_zoedepth'
NETWORKS_DETECTOR = 'cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-400k_rounds'
_MOST_IMAGES = 10_000  # that are opened; of more, these at random
_THREADS = 16  # a network file system answers many questions at a time
_SHOWN = 3  # unreadable files that are named
SOURCE = 'from constants in cuts3d_mm/learning/planning.py, not timed on this machine'
_SHARE_OF_DETECTION = 0.4  # time of a prediction over that of a training step, per image


@dataclass(frozen=True)
class Planned:
    """A plan, the images it is for, and what changes against an earlier one."""

    plan: Plan
    images: ImageList
    to_cut: tuple[str, ...]
    held_out: tuple[str, ...]
    news: str  # what this run does that the one before did not, empty if it only resumes


def plan_run(request: Request) -> Planned:
    """Make the plan for a request, or continue that of the folder; nothing is written.

    Raises:
        ValueError: the request contradicts the plan, or cannot be done.
    """
    images = _list(request)
    check_request(request, images)
    folders = Folders(request.out)
    earlier = read_plan(folders.plan)
    settings = choose_settings(request, None if earlier is None else earlier.settings)
    if earlier is None:
        held_out = held_out_names(images.names)
        counts = len(images.names), len(images.names), len(held_out)
        first = _new_pass(request, settings, counts, settings.load_from)
        return Planned(Plan(settings, (first,)), images, images.names, held_out, '')
    _require_same(settings, earlier.settings, request.out)
    passes = range(1, len(earlier.passes) + 1)
    require_unchanged(images, [folders.of_pass(number).cut for number in passes])
    known = read_pass_images(folders.of_pass(len(earlier.passes)).images)
    if known.names != images.names:
        return _with_other_images(request, earlier, images, folders)
    more = _with_rounds(earlier, request)
    news = _describe_changes(earlier, more, request.budget_s)
    return Planned(more, images, known.to_cut, known.held_out, news)


def keep_plan(planned: Planned, folders: Folders) -> None:
    """Write a plan and the names of its images, unless they are there."""
    one = folders.of_pass(len(planned.plan.passes))
    one.folder.mkdir(parents=True, exist_ok=True)
    images = PassImages(planned.images.names, planned.to_cut, planned.held_out)
    write_pass_images(one.images, images)
    if read_plan(folders.plan) != planned.plan:
        write_plan(folders.plan, planned.plan)


def _list(request: Request) -> ImageList:
    images = list_images(request.images)
    if not isinstance(images.root, Path):
        raise ValueError(
            f'IMAGES must be on this machine to train on, copy {request.images} first'
        )
    excluded = read_exclusions(request.exclude) if request.exclude else frozenset()
    return images.without(excluded)


def _new_pass(
    request: Request,
    settings: Settings,
    counts: tuple[int, int, int],  # images, to cut, held out
    load_from: str | None,
) -> Pass:
    config = load_detector_config(settings.detector)
    num_images, num_to_cut, num_held_out = counts
    num_training = num_images - num_held_out
    if not num_training:
        raise ValueError(f'IMAGES must hold at least 2 images: one is held out, got {num_images}')
    batch_size = config.train_dataloader.batch_size * max(1, settings.gpus)
    schedule = scale_schedule(schedule_of(config), num_training, batch_size)
    rounds = DEFAULT_ROUNDS if request.rounds is None else request.rounds
    schedule = schedule.with_rounds(rounds)
    if request.budget_s is not None:
        schedule = _within(request, request.budget_s, schedule, settings, num_to_cut)
    return Pass(*counts, rounds, request.budget_s, schedule, load_from)


def _within(
    request: Request, budget_s: float, schedule: Schedule, settings: Settings, num_to_cut: int
) -> Schedule:
    """Shorten a schedule to a time, less what cutting takes."""
    speed = speed_of(settings.is_offline, settings.gpus)
    parallel = num_cutting(settings.gpus, request.workers)
    left_s = budget_s - cut_seconds(speed, num_to_cut, parallel)
    if left_s <= 0:
        raise ValueError(
            f'--budget must leave time to train: cutting {num_to_cut} images alone takes '
            f'{budget_s - left_s:.0f} s by estimate; give more time or fewer images'
        )
    return shorten(schedule, most_steps(speed, schedule, settings.gpus, left_s))


def _require_same(now: Settings, before: Settings, out: Path) -> None:
    new, old = asdict(now), asdict(before)
    differing = [name for name in old if new[name] != old[name]]
    if differing:
        name = differing[0]
        argument = _ARGUMENTS.get(name, f'--{name.replace("_", "-")}')
        raise ValueError(
            f'{argument} must stay {old[name]}, as the plan in {out} says, got {new[name]}; '
            'choose another OUT for it'
        )


def _with_rounds(earlier: Plan, request: Request) -> Plan:
    current = earlier.current
    planned = len(current.schedule.round_steps)
    rounds = planned if request.rounds is None else request.rounds
    is_same_request = request.budget_s is not None and rounds == current.num_rounds
    if rounds == planned or is_same_request:
        return earlier
    if rounds < planned:
        raise ValueError(
            f'--rounds must be at least the {planned} of the plan in {request.out}, got {rounds}; '
            'choose another OUT for fewer'
        )
    schedule = current.schedule
    if rounds > planned and not planned:
        config = load_detector_config(earlier.settings.detector)
        images = schedule.num_images, schedule.batch_size
        first = scale_schedule(schedule_of(config), *images).round_steps[:1]
        schedule = replace(schedule, round_steps=first)
    current = replace(current, num_rounds=rounds, schedule=schedule.with_rounds(rounds))
    return replace(earlier, passes=(*earlier.passes[:-1], current))


def _describe_changes(before: Plan, now: Plan, budget_s: float | None) -> str:
    changes = []
    counts = [len(plan.current.schedule.round_steps) for plan in (before, now)]
    if counts[0] != counts[1]:
        changes.append(
            f'{counts[1]} rounds instead of {counts[0]}: the training goes on where it ended'
        )
    if budget_s not in (None, before.current.budget_s):
        changes.append('--budget shortens new plans only, the schedule stays as it is')
    return '; '.join(changes)


def _with_other_images(
    request: Request, earlier: Plan, images: ImageList, folders: Folders
) -> Planned:
    """Add a pass: cut what is new, train from the weights that there are."""
    cut, held, trained = set[str](), set[str](), set[str]()
    for number in range(1, len(earlier.passes) + 1):
        one = folders.of_pass(number)
        cut |= set(LabelTable(one.cut).names()) if one.is_cut else set()
        before = read_pass_images(one.images)
        held |= set(before.held_out)
        trained |= set(before.names) - set(before.held_out)
    to_cut = tuple(name for name in images.names if name not in cut)
    last = folders.of_pass(len(earlier.passes))
    load_from: Any = last_weights(last, earlier.current.schedule) or earlier.current.load_from
    rounds = earlier.current.num_rounds if request.rounds is None else request.rounds
    again = replace(request, rounds=rounds)
    held_out = held_out_names(images.names, held, trained)
    counts = len(images.names), len(to_cut), len(held_out)
    new = _new_pass(again, earlier.settings, counts, None if load_from is None else str(load_from))
    gone = len(cut - set(images.names))
    news = (
        f'{len(to_cut)} images are new and {gone} are gone: the new ones are cut, then training '
        f'starts again from {load_from or "the beginning"}'
    )
    plan = replace(earlier, passes=(*earlier.passes, new))
    return Planned(plan, images, to_cut, held_out, news)


def check_request(request: Request, images: ImageList) -> None:
    """Check where a run writes, and the annotations that it reads.

    Raises:
        ValueError: OUT lies in the folder of the images, or annotations are not as they must be.
    """
    out, root = request.out.resolve(), request.images.resolve()
    if root.is_dir() and out.is_relative_to(root):
        raise ValueError(
            f'OUT must not lie in the folder of IMAGES, since pictures in it would be images of '
            f'the next run, got {request.out}; choose another OUT'
        )
    if request.load_from is not None and not is_location(request.load_from):
        raise ValueError(
            '--load-from must be a release folder, a file of weights, an address or owner/repo on '
            f'the Hugging Face Hub, found none at {request.load_from}'
        )
    if request.annotations is not None:
        truth = read_ground_truth(request.annotations, needs_masks=True)
        name_as(truth, images.names, request.annotations)
    if request.labels is not None:
        divide_labels(request.labels, request.annotations, images.names)


def require_unchanged(images: ImageList, stores: Sequence[Path]) -> None:
    """Check that images which were cut are the files that they were then.

    Raises:
        ValueError: some have changed; the message names them.
    """
    present = set(images.names)
    for store in stores:
        stats = read_image_stats(store / 'images.arrow')
        if stats is None or present.isdisjoint(stats.names):
            continue
        is_there = np.array([name in present for name in stats.names], bool)
        names = tuple(name for name in stats.names if name in present)
        before = ImageStats(names, stats.size[is_there], stats.mtime_ns[is_there])
        changes = describe_changes(before, stat_images(ImageList(images.root, names)))
        if changes:
            raise ValueError(
                f'images must stay as they were when {store} was cut, {"; ".join(changes)}; leave '
                'them out by --exclude, or choose another OUT'
            )


def choose_settings(request: Request, earlier: Settings | None) -> Settings:
    """Fill in what a request leaves open: as the plan of its folder says, or by default.

    Raises:
        ValueError: there are fewer GPUs than asked for.
    """
    depth = None if request.depth is None else str(request.depth.resolve())
    if depth is None and earlier is not None:
        depth = earlier.depth
    generator, detector = NETWORKS, NETWORKS_DETECTOR
    if earlier is not None:
        generator, detector = earlier.generator, earlier.detector
    elif request.offline:
        generator = EMBEDDED_2D if depth is None else EMBEDDED_3D
        detector = EMBEDDED_DETECTOR
    before = earlier or Settings('', '', None, '', None, request.offline, count_gpus(), 0)
    return Settings(
        images=str(request.images.resolve()),
        generator=_absolute(request.config) or generator,
        depth=depth,
        detector=_absolute(request.detector) or detector,
        load_from=_find_weights(request.load_from) or before.load_from,
        is_offline=request.offline or before.is_offline,
        gpus=_require_gpus(before.gpus if request.gpus is None else request.gpus),
        seed=before.seed if request.seed is None else request.seed,
    )


def _absolute(config: str | None) -> str | None:
    """Path of a config file from anywhere; the name of a shipped one as it is."""
    return str(Path(config).absolute()) if config and Path(config).is_file() else config


def count_gpus() -> int:
    """GPUs that torch sees."""
    import torch  # takes seconds

    return int(torch.cuda.device_count())


def _require_gpus(gpus: int) -> int:
    present = count_gpus()
    if not 0 <= gpus <= present:
        raise ValueError(
            f'--gpus must be 0 to {present}, the GPUs of this machine, got {gpus}; a plan with '
            'another number needs an OUT of its own'
        )
    return gpus


def _find_weights(model: str | None) -> str | None:
    """Location of the weights of a release, of a repository, or of a file as it is."""
    if model is None:
        return None
    if (Path(model) / WEIGHTS_FILE).is_file():
        return str((Path(model) / WEIGHTS_FILE).absolute())
    if Path(model).is_file():
        return str(Path(model).absolute())
    name = model.removeprefix(HUB_PREFIX)
    return f'{HUB_PREFIX}{name}/{WEIGHTS_FILE}' if is_repository_name(name) else model


def is_location(model: str) -> bool:
    """Tell whether weights may lie there, as far as this machine can tell."""
    found = _find_weights(model) or ''
    return '://' in found or Path(found).is_file()


def describe_plan(plan: Plan, look: Look, news: str, workers: int | None) -> list[str]:
    """Describe the last pass of a plan.

    Args:
        plan: of the run.
        look: at the images.
        news: what changes against an earlier run, or nothing.
        workers: processes that cut; None: all cores.
    """
    settings, one = plan.settings, plan.current
    lines = [
        *look.describe(),
        f'cut: {one.num_to_cut} images by {settings.generator}, {_depth(settings)}',
        _training(settings, one),
        f'watch: held-out images ({one.num_held_out}), by agreement with their pseudo-labels',
        f'time: {_time(settings, one, workers)} ({SOURCE})',
    ]
    if news:
        lines.append(f'new: {news}')
    return lines


def _depth(settings: Settings) -> str:
    if settings.depth is not None:
        return f'depth maps of {settings.depth}'
    if settings.generator == EMBEDDED_2D:
        return 'in 2D, since no --depth is given'
    return 'depth as the config says'


def _training(settings: Settings, one: Pass) -> str:
    schedule = one.schedule
    rounds = ', '.join(str(steps) for steps in schedule.round_steps)
    then = f', then {len(schedule.round_steps)} rounds of {rounds}' if rounds else ''
    device = f'{settings.gpus} GPUs' if settings.gpus else 'the CPU'
    begin = f'from {one.load_from}' if one.load_from else 'from the start that the config names'
    return (
        f'train: {settings.detector}, {begin}: {schedule.initial_steps} steps of '
        f'{schedule.batch_size} images{then}, on {device}'
    )


def _time(settings: Settings, one: Pass, workers: int | None) -> str:
    speed = speed_of(settings.is_offline, settings.gpus)
    cut_s = cut_seconds(speed, one.num_to_cut, num_cutting(settings.gpus, workers))
    train_s = train_seconds(speed, one.schedule, settings.gpus)
    return f'about {format_duration(cut_s)} to cut and {format_duration(train_s)} to train'


@dataclass(frozen=True)
class Look:
    """Number of images, and what those that were opened look like."""

    num_images: int
    num_opened: int
    unreadable: tuple[str, ...]  # names
    smallest_hw: tuple[int, int]  # pixels, by area
    median_hw: tuple[int, int]
    largest_hw: tuple[int, int]

    def describe(self) -> list[str]:
        """Say it in lines of text."""
        height_width = [self.smallest_hw, self.median_hw, self.largest_hw]
        small, median, large = (f'{width} x {height}' for height, width in height_width)
        opened = '' if self.num_opened == self.num_images else f' ({self.num_opened} were opened)'
        lines = [
            f'{self.num_images} images{opened}, {small} to {large} pixels, {median} in the middle'
        ]
        if self.unreadable:
            rest = len(self.unreadable) - _SHOWN
            more = f' and {rest} others' if rest > 0 else ''
            named = ', '.join(self.unreadable[:_SHOWN])
            lines.append(f'{len(self.unreadable)} cannot be read: {named}{more}')
        return lines


def look_at(images: ImageList) -> Look:
    """Open the images, or 10,000 of them, and read their sizes.

    Raises:
        ValueError: none can be read.
    """
    names = in_random_order(images.names, 'look')[:_MOST_IMAGES]
    with ThreadPoolExecutor(_THREADS) as pool:
        sizes = list(pool.map(partial(_size, Path(str(images.root))), names))
    unreadable = tuple(
        sorted(name for name, size in zip(names, sizes, strict=True) if size is None)
    )
    found = sorted((size for size in sizes if size is not None), key=np.prod)
    if not found:
        raise ValueError(
            f'IMAGES must hold an image that can be read, of {len(names)} there is none, such as '
            f'{names[0]}'
        )
    return Look(
        len(images.names), len(names), unreadable, found[0], found[len(found) // 2], found[-1]
    )


def _size(root: Path, name: str) -> tuple[int, int] | None:
    try:
        return read_image_hw(path_inside(root, name))
    except (BadName, ImageFailure):
        return None


@dataclass(frozen=True)
class Speed:
    """Seconds per image, of one GPU or one core; a shared machine may take twice as long."""

    cut_s: float
    train_s: float


# Measured on one core of a shared machine: scenes of 400 x 300 px, tiny detector, 1 thread.
_EMBEDDED = Speed(cut_s=0.5, train_s=0.5)
# Not measured: networks of a ViT-B/8 and ZoeDepth and a ResNet-50 detector at 800 px.
_NETWORKS_GPU = Speed(cut_s=0.1, train_s=0.15)
_NETWORKS_CPU = Speed(cut_s=40.0, train_s=15.0)


def speed_of(is_embedded: bool, gpus: int) -> Speed:
    """Look up the figures for features and a detector.

    Args:
        is_embedded: hand-made features and the tiny detector, not networks.
        gpus: 0 for the CPU.
    """
    if is_embedded:
        return _EMBEDDED
    return _NETWORKS_GPU if gpus else _NETWORKS_CPU


def num_cutting(gpus: int, workers: int | None) -> int:
    """GPUs that cut, or processes on the CPU; workers None: all cores."""
    return gpus or (default_workers(('cpu',)) if workers is None else max(1, workers))


def cut_seconds(speed: Speed, num_images: int, parallel: int) -> float:
    """Seconds to cut images on a number of cores or GPUs."""
    return speed.cut_s * num_images / parallel


def train_seconds(speed: Speed, schedule: Schedule, gpus: int) -> float:
    """Seconds of all steps, and of the predictions between the rounds."""
    detections = len(schedule.round_steps) * schedule.num_images * _SHARE_OF_DETECTION
    images = schedule.total_steps * schedule.batch_size + detections
    return speed.train_s * images / max(1, gpus)


def most_steps(speed: Speed, schedule: Schedule, gpus: int, budget_s: float) -> int:
    """How many steps of a schedule fit into a time; at least one for each stage."""
    whole = train_seconds(speed, schedule, gpus)
    fitting = int(schedule.total_steps * budget_s / whole) if whole else schedule.total_steps
    return max(1 + len(schedule.round_steps), fitting)
