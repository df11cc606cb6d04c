"""A training's checkpoint and config in, a folder that others can load from out."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from safetensors.torch import save
from torch import Tensor

from cuts3d_mm import __version__
from cuts3d_mm.hub.literal_config import read_literal_config
from cuts3d_mm.hub.publishing.local_paths import without_absolute_paths
from cuts3d_mm.hub.publishing.model_card import ModelCardText
from cuts3d_mm.labels.atomic import open_atomically
from cuts3d_mm.labels.coco import DATASET_META
from cuts3d_mm.weights import read_state
from cuts3d_mm.weights.fit import check_weights_fit

CONFIG_FILE, WEIGHTS_FILE = 'config.py', 'model.safetensors'
CHECKPOINT_FILE, CARD_FILE = 'model.pth', 'README.md'
# Of one machine or one run.
_LOCAL_KEYS = ('work_dir', 'load_from', 'resume', 'launcher', 'experiment_name')


@dataclass(frozen=True)
class ReleaseFacts:
    """What a model card tells beside what the files say."""

    repo_id: str
    scores: dict[str, dict[str, float]]  # data set -> metric -> value in [0, 1]
    licence: str


def write_release(
    checkpoint: str,
    config: Config,
    expected: Mapping[str, Tensor],
    facts: ReleaseFacts,
    folder: Path,
) -> list[Path]:
    """Write the files of a release.

    Where a training kept an exponential moving average, MMEngine stores it as `state_dict`, so
    that its weights are the ones released.

    Args:
        checkpoint: a file as `cuts3d train` writes it, or a Hub location.
        config: of the training.
        expected: state dict of the config's detector.
        facts: for the model card.
        folder: to write into.

    Returns:
        The files.

    Raises:
        ValueError: the weights do not fit the config, or the config cannot be told as data.
    """
    state = read_state(checkpoint)
    weights = state.weights
    check_weights_fit(weights, expected)
    weights = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    text = flatten_config(config)
    meta = {'dataset_meta': _dataset_meta(state.meta), 'cfg': text, 'cuts3d_mm': __version__}
    buffer = io.BytesIO()
    torch.save({'state_dict': weights, 'meta': meta}, buffer)
    card = ModelCardText(facts.repo_id, facts.scores, facts.licence)
    files = {
        CONFIG_FILE: text.encode(),
        WEIGHTS_FILE: save(weights, metadata={'format': 'pt'}),
        CHECKPOINT_FILE: buffer.getvalue(),
        CARD_FILE: card.render().encode(),
    }
    for name, data in files.items():
        with open_atomically(folder / name) as file:
            file.write(data)
    read_literal_config(folder / CONFIG_FILE)
    return [folder / name for name in files]


def flatten_config(config: Config) -> str:
    """Write a config as one file of literals, without what belongs to one machine."""
    plain = {key: value for key, value in config.to_dict().items() if key not in _LOCAL_KEYS}
    plain.pop('custom_imports', None)
    text: str = Config(without_absolute_paths(plain)).pretty_text
    return f'# Written by cuts3d_mm {__version__}: data only, safe to read.\n{text}'


def _dataset_meta(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Names and colours of the classes, as plain values."""
    found = meta.get('dataset_meta')
    found = found if isinstance(found, Mapping) else {}
    classes = found.get('classes') or DATASET_META['classes']
    palette = found.get('palette') or DATASET_META['palette']
    return {
        'classes': tuple(str(name) for name in classes),
        'palette': [tuple(int(value) for value in color) for color in palette],
    }
