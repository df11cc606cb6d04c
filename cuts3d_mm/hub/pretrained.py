"""Load a model through a library that knows the Hub by itself, such as transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from cuts3d_mm.hub.connection import HubError, hub_answers, no_connection

Loaded = TypeVar('Loaded')


def load_pretrained(load: Callable[..., Loaded], model: str, **options: Any) -> Loaded:
    """Load a model; where the Hub does not answer, from the cache alone.

    Args:
        load: `from_pretrained` of a class.
        model: Hub id or folder.
        options: of `load`.

    Raises:
        HubError: the Hub does not answer, and the cache does not have the model.
    """
    if Path(model).is_dir():
        return load(model, **options)
    is_offline = not hub_answers()
    try:
        return load(model, local_files_only=is_offline, **options)
    except OSError as error:
        if not is_offline:
            raise
        raise HubError(f'{model}: it is not in the cache; {no_connection()}') from error
