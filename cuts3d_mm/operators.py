"""Give mmcv NMS and RoIAlign by torchvision where it has no compiled operators.

Our detectors need these two. `import cuts3d_mm` puts a finder for `mmcv._ext` behind all others,
so compiled operators win wherever they are. Neither torch nor mmcv is imported for that.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from cuts3d_mm.mmengine_imports import run_after_import

if TYPE_CHECKING:
    from torch import Tensor

NAME = 'mmcv._ext'
_PYTHON = f'{sys.version_info[0]}.{sys.version_info[1]}'
AVERAGE = 1  # mmcv's number of average pooling
MMWHEELS = 'https://mmwheels.onedl.ai'
OPENMMLAB = 'https://download.openmmlab.com/mmcv/dist'
# torch -> Python, devices and index of ready wheels of mmcv with all operators.
_WHEELS = {
    '2.1.0': ('3.11', 'mmcv==2.1.0', f'{OPENMMLAB} (cpu, cu118, cu121; folder torch2.1.0)'),
    '2.8.0': ('3.12', 'onedl-mmcv', f'{MMWHEELS} (cpu)'),
    '2.9.0': ('3.12', 'onedl-mmcv', f'{MMWHEELS} (cpu, cu129)'),
    '2.10.0': ('3.12', 'onedl-mmcv', f'{MMWHEELS} (cpu, cu129)'),
    '2.12.0': ('3.12', 'onedl-mmcv', f'{MMWHEELS} (cpu, cu130)'),
}


def offer_operators() -> None:
    """Let mmcv import its operators, compiled or not, and explain those that do not load."""
    if not any(isinstance(finder, _Operators) for finder in sys.meta_path):
        sys.meta_path.append(_Operators())
        run_after_import('mmcv.utils.ext_loader', _explain_broken_operators)


def are_compiled() -> bool:
    """Tell whether mmcv, which must be installed, has compiled operators, working or not."""
    spec = find_spec(NAME)
    return spec is not None and not isinstance(spec.loader, _Operators)


def describe_wheels(torch: str, python: str = _PYTHON) -> str:
    """Say where there are ready wheels of mmcv with all operators, by version of torch, Python."""
    wanted, package, place = _WHEELS.get(torch.split('+')[0], ('', '', ''))
    if wanted == python:
        return f'for torch {torch}: {package} from {place}'
    tags = ', '.join(f'{torch} (Python {python})' for torch, (python, *_) in _WHEELS.items())
    return f'none for torch {torch} with Python {python}, but for torch {tags}; docs/install.md'


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Find the boxes that no better box overlaps.

    Args:
        boxes: (N, 4), x1 y1 x2 y2.
        scores: (N,).
        iou_threshold: a box goes if its IoU with a better one is greater.
        offset: 1 where x2 and y2 belong to the box, else 0.

    Returns:
        (K,) indices of the boxes that stay, best first.
    """
    from torchvision.ops import nms as torchvision_nms

    boxes, scores = boxes.float(), scores.float()
    if offset:
        boxes = boxes + boxes.new_tensor([0.0, 0.0, offset, offset])
    kept: Tensor = torchvision_nms(boxes, scores, iou_threshold)
    return kept


def roi_align_forward(
    features: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the mean features of regions into `output`, as mmcv's operator of this name.

    `features` are (B, C, H, W), `rois` (K, 5), index of the image and x1 y1 x2 y2, `output` is
    (K, C, aligned_height, aligned_width); the rest is as in mmcv.

    Raises:
        ImportError: it is maximum pooling, which torchvision lacks.
    """
    from torchvision.ops import roi_align

    _require_average(pool_mode)
    size = (aligned_height, aligned_width)
    output.copy_(roi_align(features, rois, size, spatial_scale, sampling_ratio, aligned))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the gradient of the features into `grad_input`, (B, C, H, W).

    `grad_output` has the shape of `output` of `roi_align_forward`; all else is as there.
    """
    import torch
    import torchvision  # noqa: F401  registers the operator

    _require_average(pool_mode)
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(
            *(grad_output, rois, spatial_scale, aligned_height, aligned_width),
            *(*grad_input.shape, sampling_ratio, aligned),
        )
    )


def _require_average(pool_mode: int) -> None:
    if pool_mode != AVERAGE:
        _raise_missing("roi_align with pool_mode 'max'")


def _raise_missing(name: str, *_: Any, **__: Any) -> NoReturn:
    import torch

    raise ImportError(
        f'mmcv.ops must have the compiled operator {name}, and this mmcv has none (torchvision '
        'gives NMS and RoIAlign only); install a ready wheel, '
        f'{describe_wheels(torch.__version__)}, or compile mmcv: MMCV=compile make setup'
    )


def _get_missing(name: str) -> Callable[..., Any]:
    """Stand in for an operator that is not compiled: mmcv looks for its name when imported."""
    if name.startswith('_'):
        raise AttributeError(f'module {NAME!r} has no attribute {name!r}')
    return partial(_raise_missing, name)


class _Operators(MetaPathFinder, Loader):
    """Finds and fills the module `mmcv._ext` where no finder before it did."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the one name."""
        return ModuleSpec(name, self) if name == NAME else None

    def exec_module(self, module: ModuleType) -> None:
        """Define the operators that torchvision has, and stand-ins for all others."""
        for function in (nms, roi_align_forward, roi_align_backward):
            setattr(module, function.__name__, function)
        for name in ('get_compiler_version', 'get_compiling_cuda_version'):
            setattr(module, name, lambda: 'n/a')  # as MMEngine says it without operators
        module.__getattr__ = _get_missing  # type: ignore[method-assign]


def _explain_broken_operators(ext_loader: Any) -> None:
    """Add the remedy to the error of compiled operators that do not load."""
    load_ext = ext_loader.load_ext

    def load_or_explain(name: str, functions: list[str]) -> ModuleType:
        try:
            return load_ext(name, functions)  # type: ignore[no-any-return]
        except ImportError as error:
            import torch

            raise ImportError(
                f'the compiled operators of mmcv must load with torch {torch.__version__}, but '
                f'they do not: {error}; install the torch that mmcv was compiled for, or mmcv '
                'without operators: pip install --force-reinstall --no-deps onedl-mmcv '
                '(OpenMMLab: mmcv-lite==2.1.0)'
            ) from error

    ext_loader.load_ext = load_or_explain
