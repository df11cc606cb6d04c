"""Build what a config describes: its runner, or its detector alone."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS, init_default_scope
from mmengine.runner import Runner

from cuts3d_mm.registry import MODELS
from cuts3d_mm.weights import StateFile, read_state
from cuts3d_mm.weights.mmengine_loader import install

_NUMBERED = re.compile(r'(?:iter|epoch)_(\d+)\.pth')
_ROUND = re.compile(r'round_(\d+)')
_LAST = 'last_checkpoint'  # where MMEngine notes the path of the last one


def build_runner(config: Config) -> Any:
    """Build the runner that a config asks for; several ranks may be CPU processes."""
    install()
    settle_resume(config)
    if config.launcher == 'pytorch' and not torch.cuda.is_available():
        _join_cpu_ranks(config)
    if 'runner_type' in config:
        return RUNNERS.build(config)
    return Runner.from_cfg(config)


def build_detector(config: Config) -> Any:
    """Build the detector of a config, without weights."""
    install()
    init_default_scope(config.get('default_scope', 'mmdet'))
    return MODELS.build(config.model)


def _join_cpu_ranks(config: Config) -> None:
    """Do what MMEngine does for ranks with a GPU each."""
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
    # MMEngine otherwise gives every rank the GPU of its number.
    wrapper = {'type': 'MMDistributedDataParallel', 'device_ids': None}
    config.setdefault('model_wrapper_cfg', wrapper)


def settle_resume(config: Config) -> None:
    """Choose the checkpoint to resume from; MMEngine would take the last one without checking it.

    Args:
        config: of a training. `resume` is False, True (from `load_from`, if that is set) or
            'auto': from the latest checkpoint of the work dir, and without one the training
            begins with `load_from`. Both are set to what MMEngine does then.

    Raises:
        ValueError: no checkpoint of the training is whole, or the one that is named is not.
    """
    if not config.get('resume'):
        return
    if config.resume != 'auto' and config.get('load_from'):
        _settle(config, read_state(config.load_from))
        return
    folder = Path(config.work_dir)
    damaged = []
    for path in _candidates(folder):
        try:
            _settle(config, read_state(str(path)))
        except ValueError as error:
            damaged.append(path.name)
            _say(f'left out: {error}')
            continue
        _say(f'resume from {path}')
        config.update(load_from=str(path), resume=True)
        return
    if damaged:
        raise ValueError(
            f'{folder} must hold a whole checkpoint to resume from, it holds damaged ones: '
            f'{", ".join(damaged)}; remove them to begin again'
        )
    config.resume = False


class ResumeInRound(Hook):
    """Make the optimizer of a round before MMEngine loads its state, which no loop can."""

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Make the optimizer and schedule whose state is about to be loaded."""
        loop = runner.train_loop
        if runner._resume and checkpoint['meta']['iter'] > loop.begins[0]:
            loop.reset_schedule()


def _settle(config: Config, state: StateFile) -> None:
    """Check a checkpoint, and take its seed if the config has none.

    MMEngine restores the seed too, but only after the order of the data is drawn.
    """
    require_training(state)
    seed = state.meta.get('seed')
    if type(seed) is int and config.get('randomness', {}).get('seed') is None:
        config.merge_from_dict({'randomness': {'seed': seed}})


def require_training(state: StateFile) -> None:
    """Check that a file is the checkpoint of a training.

    Raises:
        ValueError: it holds weights only, or is damaged.
    """
    state.weights  # noqa: B018  raises
    counts = [state.meta.get(key) for key in ('epoch', 'iter')]
    hub = state.content.get('message_hub')
    keys = ('log_scalars', 'runtime_info', 'resumed_keys')
    is_training = isinstance(hub, dict) and all(isinstance(hub.get(key), dict) for key in keys)
    if not is_training or any(type(count) is not int or count < 0 for count in counts):
        raise ValueError(
            f'{state.location} must be the checkpoint of a training, it holds weights only; name '
            'it by load_from to begin with its weights'
        )


def _candidates(folder: Path) -> Iterator[Path]:
    """Checkpoints in a work dir, each once, the best to resume from first."""
    noted = _noted(folder)
    numbered = [path for path in folder.glob('*.pth') if _NUMBERED.fullmatch(path.name)]
    numbered.sort(key=lambda path: int(_number(_NUMBERED, path.name)), reverse=True)
    begins = sorted(
        folder.glob('round_*/begin.pth'),
        key=lambda path: int(_number(_ROUND, path.parent.name)),
        reverse=True,
    )
    yield from dict.fromkeys([*noted, *numbered, *begins])


def _noted(folder: Path) -> list[Path]:
    """The checkpoint that MMEngine notes as the last, if it is in the work dir."""
    note = folder / _LAST
    try:
        text = note.read_text(encoding='utf-8').strip()
    except FileNotFoundError:
        return []
    except UnicodeDecodeError:
        text = ''
    path = Path(text)
    is_inside = '\0' not in text and path.resolve().is_relative_to(folder.resolve())
    if not text or not is_inside or not path.is_file():
        _say(f'{note} names no checkpoint of its folder')
        return []
    return [folder / path.resolve().relative_to(folder.resolve())]


def _say(line: str) -> None:
    """Write a line, once for all ranks; the log of the training does not exist yet."""
    if os.environ.get('RANK', '0') == '0':
        sys.stderr.write(f'{line}\n')


def _number(pattern: re.Pattern[str], name: str) -> Any:
    found = pattern.fullmatch(name)
    return found[1] if found else -1
