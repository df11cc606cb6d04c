"""Say in lines of text what a plan will do, and how long it may take."""

from __future__ import annotations

from cuts3d_mm.learning.choices import EMBEDDED_2D
from cuts3d_mm.learning.look import Look
from cuts3d_mm.learning.plan import Pass, Plan, Settings
from cuts3d_mm.learning.request import format_duration
from cuts3d_mm.learning.speed import SOURCE, cut_seconds, num_cutting, speed_of, train_seconds


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
