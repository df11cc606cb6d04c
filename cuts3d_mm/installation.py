"""Look up the installed packages, and whether the critical ones can be imported."""

from __future__ import annotations

import importlib
import platform
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import distributions

from cuts3d_mm import __version__

FAMILIES = (
    ('mmdet', 'onedl-mmdetection'),
    ('mmcv', 'onedl-mmcv'),
    ('mmengine', 'onedl-mmengine'),
    ('mmpretrain', 'onedl-mmpretrain'),
)
OPENCV = ('opencv-python', 'opencv-python-headless', 'opencv-contrib-python')
_SHOWN = (
    *('torch', 'torchvision', 'numpy', 'scipy', 'numba', 'pyarrow', 'transformers'),
    *(name for family in FAMILIES for name in family),
    *OPENCV,
)
_TRIED = ('cv2', 'mmcv._ext', 'mmdet.models', 'mmpretrain.models', 'torchvision')
OPERATOR = 'mmcv.ops.nms'  # runs, if mmcv fits torch


@dataclass(frozen=True)
class Facts:
    """All that the checks look at."""

    versions: Mapping[str, str]  # distribution -> version
    import_errors: Mapping[str, str]  # module that cannot be imported -> why


def describe_environment(facts: Facts) -> dict[str, str]:
    """Versions to quote in a bug report."""
    shown = {name: facts.versions[name] for name in _SHOWN if name in facts.versions}
    system = f'{platform.system()} {platform.machine()}'
    return {
        'cuts3d_mm': __version__,
        'python': f'{platform.python_version()} on {system}',
        **shown,
        'GPU': _describe_gpu(),
    }


def gather_facts() -> Facts:
    """Look up the installed distributions and try the critical imports."""
    versions = {
        re.sub('[-_.]+', '-', distribution.metadata['Name']).lower(): distribution.version
        for distribution in distributions()
    }
    errors = {name: why for name in _TRIED if (why := _import_error(name))}
    why = None if 'mmcv._ext' in errors else _operator_error()
    return Facts(versions, {**errors, OPERATOR: why} if why else errors)


def _import_error(name: str) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            importlib.import_module(name)
    except (ImportError, AttributeError, RuntimeError, AssertionError) as error:
        return f'{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ""}'
    return None


def _operator_error() -> str | None:
    """Why a compiled operator of mmcv does not run, if it does not; needs no GPU."""
    import torch
    from mmcv.ops import nms

    try:
        nms(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([1.0]), 0.5)
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return None


def _describe_gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        return 'none that torch can use'
    return ', '.join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
