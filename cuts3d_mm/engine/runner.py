"""Build the runner or the detector of a config, and choose the checkpoint to resume from."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS, init_default_scope
from mmengine.runner import Runner

from cuts3d_mm.datasets.pseudo_labels import ReadableImages
from cuts3d_mm.registry import DATASETS, MODELS
from cuts3d_mm.weights import StateFile, read_state
from cuts3d_mm.weights.mmengine_loader import install, reading_as_data

_CHECKPOINT = re.compile(r'(?:iter|epoch)_(\d+)\.pth|round_(\d+)/begin\.pth')


def build_runner(config: Config) -> Any:
    """Build the runner that a config names, with `FiniteLossHook`; without a GPU on the CPU."""
    install()
    hooks = config.get('custom_hooks') or []
    if not any(str(hook.get('type')).endswith('FiniteLossHook') for hook in hooks):
        config.custom_hooks = [*hooks, {'type': 'cuts3d_mm.FiniteLossHook'}]
    _name_file_of_failures(config)
    settle_resume(config)
    if config.launcher == 'pytorch' and not torch.cuda.is_available():
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group('gloo')
        # Without this, MMEngine gives every rank the GPU of its number.
        wrapper = {'type': 'MMDistributedDataParallel', 'device_ids': None}
        config.setdefault('model_wrapper_cfg', wrapper)
    if 'runner_type' in config:
        return RUNNERS.build(config)
    return Runner.from_cfg(config)


def _name_file_of_failures(config: Config) -> None:
    """Let the data sets of a training name images that they cannot read in a file."""
    failures = str(Path(config.work_dir, 'unreadable_images.txt').absolute())
    for part in ('train', 'val'):
        dataset = (config.get(f'{part}_dataloader') or {}).get('dataset')
        while isinstance(dataset, dict):
            kind = DATASETS.get(str(dataset.get('type')))
            if isinstance(kind, type) and issubclass(kind, ReadableImages):
                dataset.setdefault('failures', failures)
            dataset = dataset.get('dataset')


def require_doubt(config: Config) -> None:
    """Check that labels carry the doubt by which a mask head weighs pixels.

    Otherwise the first loss would raise, after the labels of all images are read.
    """
    heads = [
        one
        for one in _dicts_in(config.model)
        if _type_of(one) == 'SCMaskHead' and one.get('confidence_source') != 'none'
    ]
    loaded = {_type_of(one) for one in _dicts_in(config.get('train_dataloader'))}
    if heads and 'LoadAnnotations' in loaded and 'LoadPseudoLabels' not in loaded:
        raise ValueError(
            'the pipeline of train_dataloader must load masks with doubt for SCMaskHead, got '
            "LoadAnnotations; load by dict(type='cuts3d_mm.LoadPseudoLabels'), or set "
            "confidence_source='none' in the head"
        )


def _dicts_in(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        yield part
    for child in part.values() if isinstance(part, dict) else part or ():
        if isinstance(child, dict | list | tuple):
            yield from _dicts_in(child)


def _type_of(part: dict[str, Any]) -> str:
    kind = part.get('type')
    return str(getattr(kind, '__name__', kind)).rpartition('.')[2]


@reading_as_data()
def build_detector(config: Config) -> Any:
    """Build the detector of a config, without weights."""
    init_default_scope(config.get('default_scope', 'mmdet'))
    return MODELS.build(config.model)


def settle_resume(config: Config) -> None:
    """Choose the checkpoint to resume from; MMEngine would take the last one unchecked.

    `resume` of the config is False, 'auto' (continue from the latest whole checkpoint of the work
    dir; if there is no checkpoint, begin with `load_from`), or True (continue from `load_from`;
    if that is not set, as 'auto'). It and `load_from` are set to what MMEngine must do.

    Raises:
        ValueError: no checkpoint of the work dir is whole, or `load_from` is not.
    """
    if not config.get('resume'):
        return
    if config.resume != 'auto' and config.get('load_from'):
        _accept(config, read_state(config.load_from))
        return
    folder = Path(config.work_dir)
    damaged = []
    for path in _candidates(folder):
        try:
            _accept(config, read_state(str(path)))
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


def _accept(config: Config, state: StateFile) -> None:
    """Check a checkpoint, and take its seed if the config has none.

    MMEngine restores the seed too, but only after the order of the data is drawn.
    """
    require_training(state)
    seed = state.meta.get('seed')
    if type(seed) is int and config.get('randomness', {}).get('seed') is None:
        config.merge_from_dict({'randomness': {'seed': seed}})


def require_training(state: StateFile) -> None:
    """Check that a file is the checkpoint of a training, not weights only, and whole."""
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


def _candidates(folder: Path) -> list[Path]:
    """List the checkpoints in a work dir once each; the best to resume from comes first."""
    order = {}
    for path in [*folder.glob('*.pth'), *folder.glob('round_*/begin.pth')]:
        found = _CHECKPOINT.fullmatch(path.relative_to(folder).as_posix())
        if found:  # the checkpoint at which a round begins comes last
            order[path] = found[1] is not None, int(found[1] or found[2])
    newest_first = sorted(order, key=order.__getitem__, reverse=True)
    return list(dict.fromkeys([*_noted(folder), *newest_first]))


def _noted(folder: Path) -> list[Path]:
    """Read which checkpoint MMEngine notes as the last; empty if that is not in the work dir."""
    note = folder / 'last_checkpoint'
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
    """Write a line to stderr, on the first rank only; the log of the training comes later."""
    if os.environ.get('RANK', '0') == '0':
        sys.stderr.write(f'{line}\n')
