"""Resolve the name of a detector to its config and weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import Tensor

from cuts3d_mm.configs import find_config
from cuts3d_mm.hub.client import CONFIG_FILE, WEIGHTS_FILE, find_release
from cuts3d_mm.hub.trusted_config import (
    parse_release_config,
    plain_dataset_meta,
    read_release_config,
)
from cuts3d_mm.weights import read_state


@dataclass(frozen=True)
class DetectorSource:
    """A detector's config and weights."""

    config: Config
    weights: dict[str, Tensor]
    dataset_meta: dict[str, Any]  # names and colours of the classes
    is_release: bool  # the config comes from elsewhere and was checked


def find_detector(model: str | Path | Config | None, weights: str | None = None) -> DetectorSource:
    """Find a detector.

    Args:
        model: `owner/repo[@revision]` on the Hugging Face Hub; a folder that `cuts3d download`
            made; a config, as an object, a path or the name of a shipped one; None, if the
            weights hold their config.
        weights: a file, `https://` or `hf://` location; needed with a config.

    Raises:
        ValueError: there is no such config, no weights for it, or it is of a release and names
            what a release may not name.
        FileNotFoundError: no such file.
        HubError: the Hub does not give it.
    """
    if isinstance(model, Path):
        model = str(model)
    if isinstance(model, str) and weights is None:
        release = find_release(model)
        if release is not None:
            checked = read_release_config(release / CONFIG_FILE)
            return _release(checked, str(release / WEIGHTS_FILE))
    if model is None and weights is None:
        raise ValueError('a model or weights must be named, got neither')
    if model is None:
        return _release(None, str(weights))
    if weights is None:
        raise ValueError(
            f'{model} is a config without published weights; pass weights, a file or an hf:// '
            'location, or name a repository as owner/repo'
        )
    config = model if isinstance(model, Config) else Config.fromfile(str(find_config(model)))
    state = read_state(weights)
    names = plain_dataset_meta(state.meta)
    return DetectorSource(config, state.weights, names, is_release=False)


def _release(checked: dict[str, Any] | None, weights: str) -> DetectorSource:
    """Add its weights to a checked config; without one, the weights hold it."""
    state = read_state(weights)
    if checked is None:
        if not isinstance(state.meta.get('cfg'), str):
            raise ValueError(f'{weights} holds no config; name the model as well')
        checked = parse_release_config(state.meta['cfg'], weights)
    names = plain_dataset_meta(state.meta)
    return DetectorSource(Config(checked), state.weights, names, is_release=True)
