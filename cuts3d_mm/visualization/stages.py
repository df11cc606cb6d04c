"""What the recipe saw and did in, one figure out: the stages side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cuts3d_mm.algorithm.cut_instances import Instance
from cuts3d_mm.visualization.overlays import draw_instances

Float = NDArray[np.float32]

_PANEL_INCHES = 1.9


@dataclass(frozen=True)
class Stages:
    """Everything that the figure of one image shows."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    depth: Float | None  # (h, w) in [0, 1] on the patch grid; None for a 2D recipe
    importance: Float | None  # (h, w) in [beta, 1]; None where it is off
    instances: tuple[Instance, ...]


def draw_stages(stages: Stages, title: str = '') -> Figure:
    """Draw a row per instance.

    Image with all instances, depth, spatial importance, then per instance eigenvector,
    semantic mask, LocalCut, confidence and the refined mask.
    """
    num_rows = max(1, len(stages.instances))
    aspect = stages.image.shape[0] / stages.image.shape[1]
    size = (8 * _PANEL_INCHES, num_rows * (_PANEL_INCHES * aspect + 0.3) + 0.3)
    figure = Figure(figsize=size, layout='constrained')
    axes = figure.subplots(num_rows, 8, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    masks = [instance.mask for instance in stages.instances]
    _show(axes[0, 0], draw_instances(stages.image, masks), f'instances: {len(masks)}', aspect)
    if stages.depth is not None:
        _show(axes[0, 1], stages.depth, 'depth', aspect, 'turbo')
    if stages.importance is not None:
        _show(axes[0, 2], stages.importance, 'spatial importance', aspect, 'magma', (0, 1))
    for row, instance in zip(axes, stages.instances, strict=False):
        _draw_instance(row[3:], instance, stages.image, aspect)
    figure.suptitle(title, fontsize=9)
    return figure


def _draw_instance(
    row: NDArray, instance: Instance, image: NDArray[np.uint8], aspect: float
) -> None:
    cut = instance.cut
    _show(row[0], cut.eigenvector, f'eigenvector, gap {cut.eigengap:.1e}', aspect, 'viridis')
    _show(row[1], cut.semantic_mask, 'semantic mask', aspect, 'gray', (0, 1))
    _show(row[2], cut.mask, 'LocalCut', aspect, 'gray', (0, 1))
    title = f'confidence, mean {instance.score:.2f}'
    _show(row[3], instance.confidence, title, aspect, 'inferno', (0, 1))
    _show(row[4], draw_instances(image, [instance.mask]), 'refined', aspect)


def _show(
    axis: Axes,
    picture: NDArray,
    title: str,
    aspect: float,
    colors: str | None = None,
    limits: tuple[float, float] | tuple[None, None] = (None, None),
) -> None:
    # Patch maps are stretched to the image's own shape.
    extent = (0.0, 1.0, aspect, 0.0)
    axis.imshow(picture, cmap=colors, vmin=limits[0], vmax=limits[1], extent=extent)
    axis.set_title(title, fontsize=8)
