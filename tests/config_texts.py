"""Texts of configs without the layout that yapf gives them for MMEngine, which takes seconds."""

from __future__ import annotations

from contextlib import contextmanager

import pytest


@contextmanager
def left_as_they_are():
    """Leave the layout out; yields what makes it, or None where MMEngine is not installed."""
    try:
        from yapf.yapflib import yapf_api
    except ImportError:
        yield None
        return
    with pytest.MonkeyPatch.context() as patch:
        made_by = yapf_api.FormatCode
        patch.setattr(yapf_api, 'FormatCode', lambda text, **_: (text, True))
        yield made_by
