"""Train the detector of a learning run, and follow it."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGKILL
from typing import Any

import numpy as np
from mmengine.config import ConfigDict

from cuts3d_mm.configs import load_config
from cuts3d_mm.engine.runner import build_detector, require_training
from cuts3d_mm.engine.self_training import training_labels
from cuts3d_mm.files.atomic import open_atomically, write_whole
from cuts3d_mm.hub.publishing import (
    NO_LICENCE,
    PICTURE_FILE,
    Learned,
    ReleaseFacts,
    write_release,
)
from cuts3d_mm.pipeline.progress import RemainingTime
from cuts3d_mm.processes import run_command_in_child
from cuts3d_mm.visualization.charts import percent
from cuts3d_mm.weights import read_state

from .plan import IMAGENET_IMAGES, Folders, Plan, Schedule, scale_schedulers

Say = Callable[[str], None]
_STEP = re.compile(
    r'Iter\(train\)\s+\[\s*(\d+)/(\d+)\].*?eta: (?:(\d+) days?, )?(\d+):(\d+):(\d+)'
    r'.*?\sloss: (\S+)'
)
_AGREEMENT = re.compile(
    r'Iter\(val\)\s+\[\s*\d+/(\d+)\].*coco/segm_mAP_50: (\S+).*?(?<!_)time: (\S+)'
)
_NEWS = re.compile(r'(Round \d+: .*|resume from .*|left out: .*)')
_EVALUATIONS, _CHECKPOINTS, _LOG_LINES = 8, 20, 50  # in a training, about
_KEPT_CHECKPOINTS = 2
_LOOP = 'SelfTrainingLoop'
_KIB = 1024


class TrainingFailed(RuntimeError):
    """A training has ended with an error."""


class TrainingLog:
    """Says in a few words what a training logs, with the time that all of a run will take.

    Evaluations, rounds and the detections at the end of a run take time next to the steps; all
    of them run the detector. The first evaluation measures it, the first round its own labels.

    Args:
        num_objects: objects of the held-out images; None: not said.
        schedule: steps of a run; None: the training is all there is to do.
        interval: steps between evaluations of the run.
        num_watched: images that evaluations and the end of the run detect in.
        clock: seconds since any moment.
    """

    def __init__(
        self,
        num_objects: int | None = None,
        schedule: Schedule | None = None,
        interval: int = 1,
        num_watched: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._num_objects, self._schedule, self._interval = num_objects, schedule, interval
        self._num_watched, self._clock = max(1, num_watched), clock
        self._remaining = RemainingTime(clock)
        self._pass_s: float | None = None  # for all watched images
        self._round_s: float | None = None  # for the labels of a round
        self._round_began = 0.0

    def shorten(self, line: str) -> str | None:
        """Say what a line of MMEngine's log says; None: nothing of interest."""
        step, score, news = (pattern.search(line) for pattern in (_STEP, _AGREEMENT, _NEWS))
        if step:
            days, hours, minutes, seconds = (int(part or 0) for part in step.groups()[2:6])
            left_s = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
            done = f'step {step[1]} of {step[2]}: loss {float(step[7]):.2f}'
            return f'{done}, {self._describe_rest(int(step[1]), left_s)}'
        if score:
            self._pass_s = int(score[1]) * float(score[3])
            count = '' if self._num_objects is None else f' of {self._num_objects:,} objects'
            return f'mask AP50 on held-out images: {percent(float(score[2]))} %{count}'
        if news and news[1].startswith('Round '):
            if 'labelling' in news[1]:
                self._round_began = self._clock()
            elif self._round_began:
                self._round_s, self._round_began = self._clock() - self._round_began, 0.0
        return news[1].strip() if news else None

    def _describe_rest(self, step: int, left_s: float) -> str:
        """Write the time that is left after a step, whose further steps take `left_s`."""
        if self._schedule is None:
            return self._remaining.describe(left_s)
        if self._pass_s is None:
            steps = self._remaining.describe(left_s)
            return f'{steps} (steps alone, detection is not yet measured)'
        total, begins = self._schedule.total_steps, self._schedule.begins
        evaluations = math.ceil(total / self._interval) - step // self._interval
        rounds = sum(begin >= step for begin in begins)
        round_s = self._round_s or self._pass_s * self._schedule.num_images / self._num_watched
        passes = evaluations + len(begins) + 1
        return self._remaining.describe(left_s + passes * self._pass_s + rounds * round_s)


def train(
    config: Path, work_dir: Path, gpus: int, say: Say, log: TrainingLog | None = None
) -> None:
    """Run a training until it ends, from its latest checkpoint if it has one.

    Args:
        config: config of the training.
        work_dir: folder of logs and checkpoints.
        gpus: processes of torchrun; 0 or 1: one process without it.
        say: is given the lines about progress.
        log: shortens them; None: with nothing but the steps to do.

    Raises:
        TrainingFailed: the message is the error that it names, or the end of its output.
    """
    command = train_command(config, work_dir, gpus, has_checkpoint(work_dir))
    hidden = None if gpus else {'CUDA_VISIBLE_DEVICES': ''}
    log = log or TrainingLog()

    def report(line: str) -> None:
        if text := log.shorten(line):
            say(text)

    done = run_command_in_child([sys.executable, '-m', *command], report, hidden)
    if done.returncode:
        said = [line for line in done.stdout.splitlines() if line.startswith('cuts3d train: ')]
        reason = said[-1] if said else done.stdout[-2000:].strip()
        if done.returncode == -SIGKILL:
            reason = (
                'it was ended by SIGKILL, most likely out of memory; run the same command again, '
                'with more memory, to resume'
            )
        if os.strerror(errno.ENOSPC) in reason and 'make room' not in reason:
            reason += f': {work_dir} is full; make room, then run the same command again'
        raise TrainingFailed(f'training failed: {reason}')


def train_command(config: Path, work_dir: Path, gpus: int, resumes: bool) -> list[str]:
    """The module of Python that trains, and its arguments."""
    arguments = ['train', str(config), '--work-dir', str(work_dir)]
    if resumes:
        arguments.append('--resume')
    if gpus <= 1:
        return ['cuts3d_mm', *arguments]
    launcher = ['torch.distributed.run', '--standalone', f'--nproc_per_node={gpus}']
    return [*launcher, '-m', 'cuts3d_mm', *arguments, '--launcher', 'pytorch']


def has_checkpoint(work_dir: Path) -> bool:
    """Tell whether a training has saved a whole checkpoint, which it can resume from."""
    return any(map(is_saved, (*work_dir.glob('iter_*.pth'), *work_dir.glob('round_*/begin.pth'))))


def weights_after(folders: Folders, number: int) -> Path:
    """Checkpoint at the end of a round, 0 for the initial one; the next round begins with it."""
    return folders.work_dir / f'round_{number + 1}' / 'begin.pth'


def checkpoint_after(work_dir: Path, num_steps: int) -> Path:
    """Checkpoint that MMEngine saves after a number of steps."""
    return work_dir / f'iter_{num_steps}.pth'


def keep_rounds(folders: Folders, schedule: Schedule) -> bool:
    """Keep the checkpoints that rounds begin with, and the last one for a round to come.

    A checkpoint that is damaged, or was not written, is that of the same step.

    Returns:
        Whether the training has ended.
    """
    for number, end in enumerate([*schedule.begins, schedule.total_steps]):
        kept, saved = weights_after(folders, number), checkpoint_after(folders.work_dir, end)
        is_kept = is_saved(kept)
        if not is_kept and is_saved(saved):
            kept.parent.mkdir(parents=True, exist_ok=True)
            with saved.open('rb') as source, open_atomically(kept) as target:
                shutil.copyfileobj(source, target)
            is_kept = True
    return is_kept


def read_log(work_dir: Path) -> list[dict[str, Any]]:
    """Read what a training has logged, resumed runs joined, each step once, in order."""
    lines: dict[tuple[int, bool], dict[str, Any]] = {}
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for text in path.read_text().splitlines():
            with suppress(json.JSONDecodeError):  # the last line, where a run was killed
                line = json.loads(text)
                lines[line['step'], 'loss' in line] = line
    return [lines[key] for key in sorted(lines)]


def is_saved(checkpoint: Path) -> bool:
    """Tell whether a checkpoint is there, and not torn by a kill."""
    try:
        require_training(read_state(str(checkpoint)))
    except (ValueError, FileNotFoundError):
        return False
    return True


def write_training_config(plan: Plan, folders: Folders, images: Path) -> Any:
    """Write `training.py`, which `cuts3d train` takes, and return the config."""
    settings, schedule = plan.settings, plan.schedule
    config = load_detector_config(settings.detector)
    _set_schedule(config, schedule)
    # More rounds leave the periods as they are.
    set_periods(config, schedule.initial_steps + sum(schedule.round_steps[:1]))
    _set_data(config, folders, images.absolute(), settings.select)
    config.merge_from_dict({'randomness': {'seed': settings.seed}})
    if settings.load_from is not None:
        config.load_from = settings.load_from
    if not settings.gpus:
        for wrapper in (config.optim_wrapper, config.train_cfg.get('optim_wrapper', {})):
            _remove_amp(wrapper)
    write_whole(folders.config, config.pretty_text)
    return config


def set_periods(config: Any, total_steps: int) -> None:
    """Set how often a training logs, evaluates and saves."""
    config.train_cfg.val_interval = math.ceil(total_steps / _EVALUATIONS)
    hooks = config.default_hooks
    hooks.checkpoint.interval = math.ceil(total_steps / _CHECKPOINTS)
    hooks.checkpoint.max_keep_ckpts = _KEPT_CHECKPOINTS
    hooks.logger.interval = min(hooks.logger.interval, math.ceil(total_steps / _LOG_LINES))


def _remove_amp(wrapper: Any) -> None:
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
    thresholds += thresholds[-1:] * len(schedule.round_steps)  # more than enough
    if not schedule.round_steps:
        config.train_cfg = ConfigDict(type='IterBasedTrainLoop', max_iters=schedule.total_steps)
        return
    loop.max_iters = schedule.total_steps
    loop.rounds = [
        {'begin': begin, 'score_thr': threshold}
        for begin, threshold in zip(schedule.begins, thresholds, strict=False)
    ]
    steps = base.round_steps[0], schedule.round_steps[0]
    loop.param_scheduler = scale_schedulers(loop.param_scheduler, steps)


def _set_data(config: Any, folders: Folders, images: Path, select: str) -> None:
    """Train on the labels of the run, watch the held-out images."""
    prefix = {'img': str(images)}
    labels = training_labels(config.train_dataloader.dataset)
    labels.update(data_root='', ann_file=str(folders.labels.absolute()), data_prefix=prefix)
    labels.filter_cfg = {**(labels.get('filter_cfg') or {}), 'select': select}
    held_out = str(folders.held_out.absolute())
    for part in ('val', 'test'):
        config[f'{part}_dataloader'].dataset.update(
            data_root='', ann_file=held_out, data_prefix=prefix
        )
        config[f'{part}_evaluator'].ann_file = held_out
    if not selected_annotations(folders.read_held_out()):
        config.val_dataloader = config.val_evaluator = config.val_cfg = None


def selected_annotations(truth: dict[str, Any]) -> list[dict[str, Any]]:
    """Annotations of held-out images that detections are to agree with."""
    return [one for one in truth['annotations'] if not one.get('iscrowd')]


def load_detector_config(name: str) -> Any:
    """Load the config of a training with rounds.

    Raises:
        ValueError: there is no such config, or it describes another training.
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
    """The schedule of a config, for `schedule_images` images, or for ImageNet without it."""
    begins = [one.begin for one in config.train_cfg.get('rounds', ())]
    initial, *rounds = np.diff([0, *begins, config.train_cfg.max_iters]).tolist()
    images = config.get('schedule_images', IMAGENET_IMAGES)
    return Schedule(images, config.auto_scale_lr.base_batch_size, initial, tuple(rounds))


# seconds; peak_bytes: main memory of the largest process so far, 0 where it is not known
Cost = dict[str, float]


def read_costs(path: Path) -> dict[str, Cost]:
    """Costs by the name of the step, in the order in which the steps began."""
    return dict(json.loads(path.read_text(encoding='utf-8'))) if path.is_file() else {}


@contextmanager
def timed(path: Path, name: str) -> Iterator[None]:
    """Note the cost of a block when it has ended; interrupted time is not counted.

    The longest run counts: a later run finds the step done.
    """
    began = time.monotonic()
    yield
    costs, seconds = read_costs(path), time.monotonic() - began
    if name not in costs or seconds > costs[name]['seconds']:
        costs[name] = {'seconds': seconds, 'peak_bytes': _peak_bytes()}
        write_whole(path, json.dumps(costs, indent=1))


def _peak_bytes() -> int:
    """Largest resident size of this process or of a child that has ended."""
    if sys.platform == 'win32':
        return 0
    import resource

    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == 'darwin' else _KIB
    return unit * max(resource.getrusage(one).ru_maxrss for one in who)


def release(
    config: Any,
    checkpoint: Path,
    folder: Path,
    notes: Sequence[str] = (),
    learned: Learned | None = None,
) -> None:
    """Write a release of trained weights.

    Args:
        config: config of the training.
        checkpoint: weights at its end.
        folder: folder to write; a picture that lies in it is shown in the model card.
        notes: sentences of the model card.
        learned: figures of the model card.
    """
    facts = ReleaseFacts(
        '/'.join(folder.parts[-2:]),
        {},
        NO_LICENCE,
        tuple(notes),
        learned,
        has_picture=(folder / PICTURE_FILE).is_file(),
        is_published=False,
    )
    folder.mkdir(parents=True, exist_ok=True)
    expected = build_detector(config).state_dict()
    write_release(str(checkpoint), config, expected, facts, folder)
