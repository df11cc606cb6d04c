"""Let MMEngine load weights through our reader: in our own loads, or in a whole process.

`load_from`, `--resume`, `init_cfg`, teachers and tools of MMDetection all use MMEngine's
`CheckpointLoader`. Its own loaders run code in a pickle; ours replace them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint

from cuts3d_mm.hub.client import HUB_PREFIX

from .checkpoints import read_state, require_tensors
from .unpickling import LogHistory

_TEXT_OF_CONFIGS = ('cfg', 'config')  # MMEngine runs these texts as Python
_ZOOS = {  # name of a model zoo -> MMEngine's function that lists its models
    'modelzoo': 'get_torchvision_models',
    'torchvision': 'get_torchvision_models',
    'open-mmlab': 'get_external_models',
    'openmmlab': 'get_external_models',
    'mmcls': 'get_mmcls_models',
}

_EVERYWHERE = 'cuts3d_mm.weights.everywhere'  # its import installs our reader


@contextmanager
def reading_as_data() -> Iterator[None]:
    """Replace every loader of MMEngine by ours for a while.

    Afterwards MMEngine and MMDetection load as they did before, also if a config that was read
    meanwhile has installed our reader.
    """
    before, is_everywhere = dict(CheckpointLoader._schemes), _EVERYWHERE in sys.modules
    install()
    try:
        yield
    finally:
        CheckpointLoader._schemes = before
        if not is_everywhere:
            sys.modules.pop(_EVERYWHERE, None)


def install() -> None:
    """Replace every loader of MMEngine by ours, in a process that is ours."""
    prefixes = [HUB_PREFIX, *CheckpointLoader._schemes]
    CheckpointLoader.register_scheme(prefixes, load_from_cuts3d, force=True)


def load_from_cuts3d(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Load a checkpoint for MMEngine, as data; the caller copies the weights to the device.

    Args:
        filename: location as for `read_state`, or a name in MMEngine's model zoos, such as
            `torchvision://resnet50`.
        map_location: not used.

    Raises:
        ValueError, OSError: as for `read_state`.
    """
    location = find_in_zoo(filename)
    content = dict(read_state(location).content)
    if 'state_dict' in content:
        require_tensors(content['state_dict'], filename)
    if isinstance(content.get('meta'), dict):
        content['meta'] = {k: v for k, v in content['meta'].items() if k not in _TEXT_OF_CONFIGS}
    if isinstance(content.get('message_hub'), dict):
        content['message_hub'] = _message_hub(content['message_hub'], Path(location).parent)
    if filename.startswith('mmcls://'):
        return dict(mmengine_checkpoint._process_mmcls_checkpoint(content))
    return content


def _message_hub(state: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Convert logs to MMEngine's class; drop code that it would run and files it would delete."""
    scalars, info = state.get('log_scalars'), state.get('runtime_info')
    if not isinstance(scalars, dict) or not isinstance(info, dict):
        return state
    histories = {
        key: HistoryBuffer(value.values, value.counts, value.max_length)
        for key, value in scalars.items()
        if isinstance(value, LogHistory)
    }
    kept = {key: value for key, value in info.items() if _is_harmless(key, value, folder)}
    return {**state, 'log_scalars': histories, 'runtime_info': kept}


def _is_harmless(key: Any, value: Any, folder: Path) -> bool:
    """Whether a part of the state of a training is safe for MMEngine.

    MMEngine deletes the checkpoints that are named as kept or best once there are better ones.
    """
    if not isinstance(key, str) or key in _TEXT_OF_CONFIGS:
        return False
    if key == 'keep_ckpt_ids':
        return isinstance(value, list) and all(type(step) is int for step in value)
    if key.startswith('best_ckpt'):
        path = Path(value) if isinstance(value, str) else Path()
        return path.name.startswith('best_') and path.resolve().parent == folder.resolve()
    return True


def find_in_zoo(filename: str) -> str:
    """Give the address or file of a model in a zoo of MMEngine; other locations as they are.

    Raises:
        ValueError: the zoo has no such model.
    """
    zoo, _, name = filename.partition('://')
    if not name or zoo not in _ZOOS:
        return filename
    urls: dict[str, str] = getattr(mmengine_checkpoint, _ZOOS[zoo])()
    if _ZOOS[zoo] == 'get_external_models':
        name = mmengine_checkpoint.get_deprecated_model_names().get(name, name)
    if name not in urls:
        raise ValueError(f'{filename} must name a model of MMEngine, it knows no {name}')
    found = urls[name]
    return found if '://' in found else str(Path(mmengine_checkpoint._get_mmengine_home()) / found)
