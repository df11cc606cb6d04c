"""Make and check the plan of a learning run, and describe it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import asdict, replace

from cuts3d_mm.configs import load_config, read_generator_config
from cuts3d_mm.engine.self_training import training_labels
from cuts3d_mm.files.paths import BadName, path_inside
from cuts3d_mm.files.stored_run import require_same_run
from cuts3d_mm.hub.client import (
    CONFIG_FILE,
    HUB_PREFIX,
    WEIGHTS_FILE,
    is_repository_name,
    needs_download,
)
from cuts3d_mm.images.listing import ImageList, list_images, read_exclusions
from cuts3d_mm.images.reading import ImageFailure, most_unreadable, read_image_hw
from cuts3d_mm.labellers.registry import build_params, with_depth_folder
from cuts3d_mm.labels.coco_json import read_ground_truth
from cuts3d_mm.labels.merging import LabelSelection
from cuts3d_mm.pipeline.devices import memory_limit
from cuts3d_mm.pipeline.identity import (
    NO_FILE,
    ImageStats,
    find_changes,
    read_image_stats,
    stat_images,
)
from cuts3d_mm.pipeline.work import ConfiguredLabeller
from cuts3d_mm.weights.mmengine_loader import find_in_zoo

from .classes import Truth, divide_labels, fine_tuning_steps, name_as
from .plan import (
    Folders,
    Plan,
    Request,
    Schedule,
    Settings,
    advise_weights,
    held_out_names,
    in_random_order,
    read_plan,
    scale_schedule,
)
from .training import load_detector_config, schedule_of
from .verdict import FORESEEN

DEFAULT_ROUNDS = 2  # rounds of self-training, as CutLER
DEFAULT_SELECTION = '50%'  # the better half: see docs/recipes/own_images.md
_ARGUMENTS = {  # arguments of the command, where settings have other names
    'generator': '--config',
    'is_offline': '--offline',
    'images': 'IMAGES',
}
EMBEDDED_2D, EMBEDDED_3D = 'maskcut_color-texture', 'cuts3d_color-texture_file-depth'
EMBEDDED_DETECTOR = 'cuts3d_tiny-cascade-mask-rcnn_r18_scenes-self-training'
NETWORKS = 'cuts3d_dino-vitb8_zoedepth'
NETWORKS_DETECTOR = 'cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-400k_learn'
_LEAST_MEMORY = 3 * 2**29  # bytes; `learn --offline` with small images was killed at 1.4 GiB
_MOST_IMAGES = 10_000  # images that are opened; where there are more, these at random
_THREADS = 16  # a network file system answers many questions at a time
_SHOWN = 3  # unreadable files and classes that are named


@dataclass(frozen=True)
class Planned:
    """A plan, the images that it is for, and what an earlier run has planned."""

    request: Request
    plan: Plan
    earlier: Plan | None
    images: ImageList
    held_out: tuple[str, ...]  # names of images that are not trained on
    changes: Sequence[str] = ()  # of the images since they were labelled, in words
    few: Truth | None = None  # labels with classes to fine-tune on

    @property
    def folders(self) -> Folders:
        """Files and folders of the run."""
        return Folders(self.request.out)

    @property
    def root(self) -> Path:
        """Folder of the images."""
        return Path(str(self.images.root))

    @property
    def num_rounds(self) -> int:
        """Rounds of self-training."""
        return len(self.plan.schedule.round_steps)


def plan_run(request: Request) -> Planned:
    """Make the plan for a request, or continue that of the folder; nothing is written.

    Raises:
        ValueError: the request contradicts the plan, or cannot be done.
    """
    images = _list(request)
    few = _check_request(request, images)
    folders = Folders(request.out)
    earlier = read_plan(folders.plan)
    if earlier is None and folders.plan.exists():
        logging.getLogger(__name__).warning(f'{folders.plan} is damaged; made again')
    before = read_image_stats(folders.cut / 'images.arrow')
    images = _with_gone(images, before)
    begun = earlier or _read_training(request, folders.config, images.names)
    settings = choose_settings(request, None if begun is None else begun.settings)
    if settings.depth is not None or settings.larger_is is not None:
        labeller_of(settings)
    held_out, num_images = held_out_names(images.names), len(images.names)
    if num_images == 1:
        raise ValueError('IMAGES must hold at least 2 images: one is held out, got 1')
    if begun is not None:
        changes = _require_same(settings, images, begun, folders, before, held_out)
        schedule = _continue_schedule(request, begun)
    else:
        changes = []
        schedule = _make_schedule(settings, num_images - len(held_out), request.steps)
        schedule = schedule.with_rounds(
            DEFAULT_ROUNDS if request.rounds is None else request.rounds
        )
    plan = Plan(settings, num_images, schedule)
    return Planned(request, plan, earlier, images, held_out, changes, few)


def _read_training(request: Request, path: Path, names: tuple[str, ...]) -> Plan | None:
    """Make the plan again that a training was made from; None where there is no training."""
    if not path.is_file():
        return None
    config = load_config(str(path), [])
    settings = replace(
        choose_settings(request, None),
        select=training_labels(config.train_dataloader.dataset).filter_cfg.select,
        load_from=config.get('load_from'),
        seed=config.randomness.seed,
    )
    if load_detector_config(settings.detector).model != config.model:
        raise ValueError(
            f'--detector must be the config that {path} was made from, {settings.detector} has '
            'another model'
        )
    trained_on = len(names) - len(held_out_names(names))
    batch_size = config.train_dataloader.batch_size * max(1, settings.gpus)
    schedule = replace(schedule_of(config), num_images=trained_on, batch_size=batch_size)
    return Plan(settings, len(names), schedule)


def labeller_of(settings: Settings) -> ConfiguredLabeller:
    """Make the labeller that cuts the images, as `cuts3d generate` does.

    Raises:
        ValueError: there is no such config, or it reads no depth maps and `settings` names some.
    """
    if settings.larger_is is not None and settings.depth is None:
        raise ValueError('--larger-is says how to read the maps of --depth, give both')
    config = read_generator_config(settings.generator, [])
    model = with_depth_folder(config.to_dict()['model'], settings.depth)
    if settings.larger_is is not None:
        model['depth']['larger_is'] = settings.larger_is
    return ConfiguredLabeller(model, config.get('custom_imports'))


def _list(request: Request) -> ImageList:
    images = list_images(request.images)
    if not isinstance(images.root, Path):
        raise ValueError(
            f'IMAGES must be on this machine to train on, copy {request.images} first'
        )
    excluded = read_exclusions(request.exclude) if request.exclude else frozenset()
    return images.without(excluded)


def _check_request(request: Request, images: ImageList) -> Truth | None:
    """Check what a run writes and reads; labels with classes to fine-tune on, if there are any."""
    limit = memory_limit()
    if limit is not None and limit < _LEAST_MEMORY:
        raise ValueError(
            f'learning must have {_LEAST_MEMORY / 2**30:.1f} GiB of memory at least, and most '
            f'trainings more; the limit of this container or job is {limit / 2**30:.1f} GiB'
        )
    out, root = request.out.resolve(), request.images.resolve()
    if root.is_dir() and out.is_relative_to(root):
        raise ValueError(
            f'OUT must not lie in the folder of IMAGES, since pictures in it would be images of '
            f'the next run, got {request.out}; choose another OUT'
        )
    if request.annotations is not None:
        truth = read_ground_truth(request.annotations, needs_masks=True)
        name_as(truth, images.names, request.annotations)
    if request.labels is None:
        return None
    return divide_labels(request.labels, request.annotations, images.names)[0]


def _with_gone(images: ImageList, before: ImageStats | None) -> ImageList:
    """Keep the images of a run whose files are gone: they have labels, or become failures."""
    unlisted = sorted(set(before.names) - set(images.names)) if before is not None else []
    if not unlisted:
        return images
    found = stat_images(ImageList(images.root, tuple(unlisted)))
    gone = (name for name, size in zip(unlisted, found.size, strict=True) if size == NO_FILE)
    return ImageList(images.root, tuple(sorted({*images.names, *gone})))


def _require_same(
    settings: Settings,
    images: ImageList,
    earlier: Plan,
    folders: Folders,
    stats: ImageStats | None,
    held_out: Sequence[str],
) -> list[str]:
    """Check that the settings and the images are those which were planned for.

    Returns:
        Images whose files have changed or are gone, in words: the user is to decide about them.
        More gone images than a training can do without are another plan.
    """
    found = stat_images(images)
    changes = find_changes(folders.cut, images, stats, found)
    if changes is None and len(images.names) != earlier.num_images:
        changes = [f'{earlier.num_images} -> {len(images.names)} images']
    is_gone = dict(zip(images.names, found.size == NO_FILE, strict=True))
    trained_on = [is_gone[name] for name in images.names if name not in set(held_out)]
    may_go_on = sum(trained_on) <= most_unreadable(len(trained_on))
    has_same_names = stats is not None and stats.names == images.names
    others = () if has_same_names and may_go_on else changes or ()
    before, now = (_by_argument(one) for one in (earlier.settings, settings))
    remedy = f'choose another OUT for other settings or images{advise_weights(folders.out)}'
    require_same_run(folders.out, 'the plan', before, now, remedy, others)
    return changes or []


def _by_argument(settings: Settings) -> dict[str, Any]:
    """Settings by the arguments of the command that set them."""
    return {
        _ARGUMENTS.get(name, f'--{name.replace("_", "-")}'): value
        for name, value in asdict(settings).items()
    }


def usual_schedule(settings: Settings, num_images: int) -> Schedule:
    """Scale the schedule of the detector's config to a number of images to train on."""
    config = load_detector_config(settings.detector)
    batch_size = config.train_dataloader.batch_size * max(1, settings.gpus)
    return scale_schedule(schedule_of(config), num_images, batch_size)


def _make_schedule(settings: Settings, num_images: int, steps: int | None) -> Schedule:
    """Take the usual schedule, or shorten it to the steps asked for."""
    schedule = usual_schedule(settings, num_images)
    return schedule if steps is None else schedule.with_initial_steps(steps)


def _continue_schedule(request: Request, earlier: Plan) -> Schedule:
    """Keep a schedule, or add rounds to it."""
    schedule = earlier.schedule
    if request.steps not in (None, schedule.initial_steps):
        raise ValueError(
            f'--steps must stay {schedule.initial_steps}, as the plan in {request.out} says, got '
            f'{request.steps}; choose another OUT for it'
        )
    planned = len(schedule.round_steps)
    rounds = planned if request.rounds is None else request.rounds
    if rounds < planned:
        raise ValueError(
            f'--rounds must be at least the {planned} of the plan in {request.out}, got {rounds}; '
            'choose another OUT for fewer'
        )
    if rounds and not planned:
        new = _make_schedule(earlier.settings, schedule.num_images, schedule.initial_steps)
        schedule = replace(schedule, round_steps=new.round_steps)
    return schedule.with_rounds(rounds)


def choose_settings(request: Request, earlier: Settings | None) -> Settings:
    """Fill in what a request leaves open: as the plan of its folder says, or by default."""
    before = earlier or _default_settings(request)
    present, gpus = count_gpus(), before.gpus if request.gpus is None else request.gpus
    if gpus > present:
        raise ValueError(
            f'--gpus must be 0 to {present}, the GPUs of this machine, got {gpus}; a plan with '
            'another number needs an OUT of its own'
        )
    generator = _absolute(request.config) or before.generator
    select = str(LabelSelection.parse(request.select or before.select))
    if (earlier is None or select != earlier.select) and select.endswith('%'):
        select = 'none' if has_equal_scores(generator) else select
    return Settings(
        images=str(request.images.resolve()),
        generator=generator,
        depth=before.depth if request.depth is None else str(request.depth.resolve()),
        detector=_absolute(request.detector) or before.detector,
        select=select,
        load_from=_find_weights(request.load_from) or before.load_from,
        is_offline=request.offline or before.is_offline,
        gpus=gpus,
        seed=before.seed if request.seed is None else request.seed,
        larger_is=request.larger_is or before.larger_is,
    )


def has_equal_scores(generator: str) -> bool:
    """Tell whether all masks of a generator have the score 1, in 2D; then a share chooses all."""
    params = build_params(read_generator_config(generator, []).model.get('recipe'))
    return params.score is None and params.local_cut is None


def _default_settings(request: Request) -> Settings:
    configs = NETWORKS, NETWORKS_DETECTOR
    if request.offline:
        configs = EMBEDDED_2D if request.depth is None else EMBEDDED_3D, EMBEDDED_DETECTOR
    generator, detector = configs
    select = DEFAULT_SELECTION
    return Settings('', generator, None, detector, select, None, request.offline, count_gpus(), 0)


def count_gpus() -> int:
    """GPUs that torch sees."""
    import torch  # takes seconds

    return int(torch.cuda.device_count())


def _absolute(config: str | None) -> str | None:
    """Path of a config file from anywhere; the name of a shipped config as it is."""
    return str(Path(config).absolute()) if config and Path(config).is_file() else config


def _find_weights(model: str | None) -> str | None:
    """Location of the weights of a release or a repository; that of a file as it is."""
    if model is None:
        return None
    for path in (Path(model) / WEIGHTS_FILE, Path(model)):
        if path.is_file():
            return str(path.absolute())
    name = model.removeprefix(HUB_PREFIX)
    found = f'{HUB_PREFIX}{name}/{WEIGHTS_FILE}' if is_repository_name(name) else model
    if '://' not in found:
        raise ValueError(
            '--load-from must be a release folder, a file of weights, an address or owner/repo on '
            f'the Hugging Face Hub, found none at {model}'
        )
    return found


def describe_plan(planned: Planned) -> list[str]:
    """Describe a plan, a line for each step, and what it changes in an earlier plan."""
    settings, schedule = planned.plan.settings, planned.plan.schedule
    rounds = ', '.join(str(steps) for steps in schedule.round_steps)
    then = f', then {planned.num_rounds} rounds of {rounds}' if rounds else ''
    device = f'{settings.gpus} GPUs' if settings.gpus else 'the CPU'
    is_equal = settings.select == 'none' and has_equal_scores(settings.generator)
    equal = ' (in 2D their scores are equal)' if is_equal else ''
    begin = settings.load_from or 'the start that the config names'
    lines = [
        f'cut: {planned.plan.num_images} images by {settings.generator}, {_depth(settings)}',
        f'train: {settings.detector}, from {begin}: {schedule.initial_steps} steps of '
        f'{schedule.batch_size} images{then}, on {device}',
        f'select: {LabelSelection.parse(settings.select).describe()} are trained on{equal}',
        f'watch: held-out images ({len(planned.held_out)}), by agreement with their pseudo-labels',
    ]
    if planned.few is not None:
        lines.insert(2, _describe_classes(planned.plan, planned.few))
    if settings.detector == NETWORKS_DETECTOR and not settings.gpus:
        lines.append(
            'warning: on a CPU a step of Cascade Mask R-CNN with ResNet-50 takes many seconds; '
            '--offline takes a tiny detector'
        )
    if is_hand_made(settings):
        lines.append(FORESEEN.format(generator=Path(settings.generator).stem))
    if planned.earlier not in (None, planned.plan):
        before = len(planned.earlier.schedule.round_steps) if planned.earlier else 0
        lines.append(
            f'new: {planned.num_rounds} rounds instead of {before}: the training goes on where '
            'it ended'
        )
    return lines


def _describe_classes(plan: Plan, few: Truth) -> str:
    num_images, names = len(few['images']), [one['name'] for one in few['categories']]
    more = f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''
    return (
        f'then fine-tune: {fine_tuning_steps(plan, num_images)} steps of '
        f'{plan.schedule.batch_size} images on {num_images} images with the classes '
        f'{", ".join(names[:_SHOWN])}{more}'
    )


def find_downloads(settings: Settings) -> list[str]:
    """Weights that a run would download, as `locate_file` takes them."""
    model = labeller_of(settings).config
    backbone = load_detector_config(settings.detector).model.get('backbone') or {}
    parts = [model.get('features'), model.get('depth'), backbone.get('init_cfg')]
    named = [part.get('checkpoint') for part in parts if isinstance(part, dict)]
    depth = model.get('depth') or {}
    name, revision = str(depth.get('model')), depth.get('revision')
    if is_repository_name(name) and not Path(name).exists():
        at = f'@{revision}' if revision else ''
        named.append(f'{HUB_PREFIX}{name}{at}/{CONFIG_FILE}')
    locations = [one for one in (*named, settings.load_from) if isinstance(one, str)]
    return [one for one in map(find_in_zoo, locations) if needs_download(one)]


def is_hand_made(settings: Settings) -> bool:
    """Tell whether the generator cuts by features of no network, which fail on photos."""
    features = labeller_of(settings).config.get('features') or {}
    return str(features.get('type')).endswith('ColorTextureFeatures')


def _depth(settings: Settings) -> str:
    if settings.depth is not None:
        meaning = f', larger is {settings.larger_is}' if settings.larger_is else ''
        return f'depth maps of {settings.depth}{meaning}'
    is_flat = settings.generator == EMBEDDED_2D
    return 'in 2D, since no --depth is given' if is_flat else 'depth as the config says'


def look_at(images: ImageList) -> list[str]:
    """Open the images, or 10,000 of them, and say how many they are, and how large."""
    names = in_random_order(images.names, 'look')[:_MOST_IMAGES]
    with ThreadPoolExecutor(_THREADS) as pool:
        sizes = list(pool.map(partial(_size, Path(str(images.root))), names))
    failed = sorted(name for name, size in zip(names, sizes, strict=True) if size is None)
    found = sorted((size for size in sizes if size is not None), key=np.prod)
    if not found:
        raise ValueError(
            f'IMAGES must hold an image that can be read, all of {len(names)} files cannot, such '
            f'as {names[0]}'
        )
    by_area = found[0], found[-1], found[len(found) // 2]
    small, large, middle = (f'{width} x {height}' for height, width in by_area)
    opened = '' if len(names) == len(images.names) else f' ({len(names)} were opened)'
    sizes_text = f'{small} to {large} pixels, {middle} in the middle'
    lines = [f'{len(images.names)} images{opened}, {sizes_text}']
    if failed:
        others = len(failed) - _SHOWN
        more = f' and {others} others' if others > 0 else ''
        lines.append(f'{len(failed)} cannot be read: {", ".join(failed[:_SHOWN])}{more}')
    return lines


def _size(root: Path, name: str) -> tuple[int, int] | None:
    try:
        return read_image_hw(path_inside(root, name))
    except (BadName, ImageFailure):
        return None
