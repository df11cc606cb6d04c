"""Make the plan of a run, or say how it goes on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cuts3d_mm.images.listing import ImageList, list_images, read_exclusions
from cuts3d_mm.labels.table import LabelTable
from cuts3d_mm.learning.choices import choose_settings
from cuts3d_mm.learning.detector_config import load_detector_config, schedule_of
from cuts3d_mm.learning.folders import Folders
from cuts3d_mm.learning.pass_images import PassImages, read_pass_images, write_pass_images
from cuts3d_mm.learning.plan import Pass, Plan, Settings, read_plan, write_plan
from cuts3d_mm.learning.request import Request
from cuts3d_mm.learning.request_check import check_request, require_unchanged
from cuts3d_mm.learning.schedule import Schedule, scale_schedule, shorten
from cuts3d_mm.learning.selection import held_out_names
from cuts3d_mm.learning.speed import cut_seconds, most_steps, num_cutting, speed_of
from cuts3d_mm.learning.training import last_weights

DEFAULT_ROUNDS = 2  # of self-training, as CutLER
_ARGUMENTS = {  # of the command, where settings are named otherwise
    'generator': '--config',
    'is_offline': '--offline',
    'images': 'IMAGES',
}


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
