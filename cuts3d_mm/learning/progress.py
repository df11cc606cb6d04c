"""Shorten what a training logs to what a person wants to follow."""

from __future__ import annotations

import re

_STEP = re.compile(r'Iter\(train\)\s+\[\s*(\d+)/(\d+)\].*?eta: (\S+).*?\sloss: (\S+)')
_AGREEMENT = re.compile(r'Iter\(val\).*coco/segm_mAP_50: (\S+)')
_NEWS = re.compile(r'(Round \d+: .*|resume from .*|left out: .*)')


def shorten_line(line: str) -> str | None:
    """Say in a few words what a line of MMEngine's log says; None: nothing of interest."""
    step, score, news = (pattern.search(line) for pattern in (_STEP, _AGREEMENT, _NEWS))
    if step:
        return f'step {step[1]} of {step[2]}: loss {float(step[4]):.2f}, {step[3]} left'
    if score:
        return f'mask AP50 on held-out images: {100 * float(score[1]):.2f} %'
    return news[1].strip() if news else None
