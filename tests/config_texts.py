"""Texts of configs without the layout that yapf gives them for MMEngine, which takes seconds."""

from __future__ import annotations

from contextlib import contextmanager
from importlib.util import find_spec

import pytest


@contextmanager
def left_as_they_are():
    """Leave the layout out; yields what makes it, or None where MMEngine is not installed."""
    if find_spec('mmengine') is None:
        yield None
        return
    from yapf.yapflib import yapf_api

    made_by = yapf_api.FormatCode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yapf_api, 'FormatCode', _as_it_is)
        # Older versions of MMEngine import the function when they are loaded.
        patch.setattr('mmengine.config.config.FormatCode', _as_it_is, raising=False)
        yield made_by


def _as_it_is(text, **style):
    return text, True
