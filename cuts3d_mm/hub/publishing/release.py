"""Write the folder that others load a trained detector from."""

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
from cuts3d_mm.files.atomic import open_atomically
from cuts3d_mm.hub.dataset_meta import plain_dataset_meta
from cuts3d_mm.hub.publishing.model_card import ModelCardText
from cuts3d_mm.hub.publishing.private_text import refuse_secrets, without_local_paths
from cuts3d_mm.hub.publishing.training_facts import describe_training
from cuts3d_mm.hub.release_folder import CONFIG_FILE, WEIGHTS_FILE
from cuts3d_mm.hub.trusted_config import read_release_config, release_config
from cuts3d_mm.weights import read_state
from cuts3d_mm.weights.checkpoints import check_weights_fit

CHECKPOINT_FILE, CARD_FILE = 'model.pth', 'README.md'


@dataclass(frozen=True)
class ReleaseFacts:
    """Facts for the model card that are not in the files."""

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
        ValueError: the weights do not fit the config, the detector is of a class that releases
            may not name, or something looks like a secret.
    """
    state = read_state(checkpoint)
    check_weights_fit(state.weights, expected)
    # Copies, so that no file holds more of a shared storage than the weight itself.
    weights = {name: value.detach().cpu().clone() for name, value in state.weights.items()}
    text = flatten_config(config)
    meta = {
        'dataset_meta': without_local_paths(plain_dataset_meta(state.meta)),
        'cfg': text,
        'cuts3d_mm': __version__,
        'training': describe_training(config.to_dict(), state.meta),
    }
    refuse_secrets(meta, CHECKPOINT_FILE)
    refuse_secrets(vars(facts), CARD_FILE)
    buffer = io.BytesIO()
    torch.save({'state_dict': weights, 'meta': meta}, buffer)
    files = {
        CONFIG_FILE: text.encode(),
        WEIGHTS_FILE: save(weights, metadata={'format': 'pt'}),
        CHECKPOINT_FILE: buffer.getvalue(),
        CARD_FILE: _card(facts, meta).encode(),
    }
    for name, data in files.items():
        with open_atomically(folder / name) as file:
            file.write(data)
    read_release_config(folder / CONFIG_FILE)
    return [folder / name for name in files]


def _card(facts: ReleaseFacts, meta: dict[str, Any]) -> str:
    scores, num_classes = without_local_paths(facts.scores), len(meta['dataset_meta']['classes'])
    card = ModelCardText(facts.repo_id, scores, facts.licence, meta['training'], num_classes)
    return card.render()


def flatten_config(config: Config) -> str:
    """Write what others need of a config: the detector and the sizes of its test images."""
    plain = release_config(config.to_dict(), 'a config that is published')
    text: str = Config(plain).pretty_text
    return f'# Written by cuts3d_mm {__version__}: data only, safe to read.\n{text}'
