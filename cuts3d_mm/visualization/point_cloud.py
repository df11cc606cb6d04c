"""Draw the point cloud of an image: as a figure that can be turned, and from the side."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from matplotlib.axes import Axes

from cuts3d_mm.algorithm.depth import project_depth
from cuts3d_mm.arrays import Double
from cuts3d_mm.visualization.overlays import instance_color
from cuts3d_mm.visualization.stages import Stages

_POINT_PX = 3
_YAW, _PITCH = np.deg2rad(-28), np.deg2rad(24)  # from which the still picture is seen
_MARGIN = 0.04  # around the points, as a share of their extent
_POINT_SPACINGS = 1.25  # size of a point of the still picture
_BACKGROUND = '#eef0f3'


def draw_point_cloud(stages: Stages) -> Any:
    """Draw a point per patch where the cut sees it: instances coloured, the rest as in the photo.

    Args:
        stages: of one image; without depth all points lie in a plane.

    Returns:
        A plotly `Figure`: x to the right, depth away from the viewer, y up, in [0, 1].
    """
    from plotly import graph_objects

    x, y, z = _points(stages).T
    owner, colors = stages.owners().ravel(), _colors(stages)
    figure = graph_objects.Figure()
    for index in range(-1, len(stages.instances)):
        chosen = owner == index
        figure.add_trace(
            graph_objects.Scatter3d(
                x=x[chosen].tolist(),
                y=z[chosen].tolist(),
                z=(-y[chosen]).tolist(),
                mode='markers',
                marker={'size': _POINT_PX, 'color': [_css(color) for color in colors[chosen]]},
                name='not in an instance' if index < 0 else f'instance {index + 1}',
            )
        )
    axes = {'xaxis': 'x', 'yaxis': 'depth', 'zaxis': 'y'}
    eye = {'x': 0.4, 'y': -1.9, 'z': 0.5}
    scene = {axis: {'title': {'text': text}} for axis, text in axes.items()}
    figure.update_layout(
        scene={'aspectmode': 'data', 'camera': {'eye': eye}, **scene},
        margin={'l': 0, 'r': 0, 't': 0, 'b': 0},
        height=420,
    )
    return figure


def draw_cloud_from_the_side(axes: Axes, stages: Stages, panel_hw: tuple[float, float]) -> None:
    """Draw the cloud as seen from above and from the side, so that steps of depth show.

    Args:
        axes: to draw on; their limits and background are set.
        stages: of one image.
        panel_hw: height and width of the axes in inches.
    """
    height, width = stages.image.shape[:2]
    x, y, z = (_points(stages) - 0.5).T * np.array([[1], [height / width], [1]])
    across, away = x * np.cos(_YAW) + z * np.sin(_YAW), z * np.cos(_YAW) - x * np.sin(_YAW)
    down, away = (
        y * np.cos(_PITCH) - away * np.sin(_PITCH),
        away * np.cos(_PITCH) + y * np.sin(_PITCH),
    )
    order = np.argsort(-away, kind='stable')  # far points first, near ones over them
    points_per_unit = _fit(axes, across, down, panel_hw)
    spacing = points_per_unit / stages.owners().shape[1]
    axes.scatter(
        across[order],
        down[order],
        s=(_POINT_SPACINGS * spacing) ** 2,
        c=_colors(stages)[order] / 255,
        marker='s',
        linewidths=0,
    )


def _fit(axes: Axes, across: Double, down: Double, panel_hw: tuple[float, float]) -> float:
    """Make the points fill the axes at equal scales; typographic points per unit."""
    extent_hw = np.ptp(down) * (1 + 2 * _MARGIN), np.ptp(across) * (1 + 2 * _MARGIN)
    inches_per_unit = min(panel_hw[0] / extent_hw[0], panel_hw[1] / extent_hw[1])
    half_h, half_w = (size / inches_per_unit / 2 for size in panel_hw)
    middle_x, middle_y = (float(v.min() + v.max()) / 2 for v in (across, down))
    axes.set(
        xlim=(middle_x - half_w, middle_x + half_w),
        ylim=(middle_y + half_h, middle_y - half_h),
        facecolor=_BACKGROUND,
    )
    return float(72 * inches_per_unit)


def _points(stages: Stages) -> Double:
    """(N, 3) x, y and z of the patches in [0, 1]."""
    depth = stages.depth
    if depth is None:
        depth = np.zeros(stages.owners().shape, np.float32)
    return project_depth(depth).astype(np.float64)


def _colors(stages: Stages) -> Double:
    """(N, 3) RGB of the patches in [0, 255]: of their instances, or else of the photo."""
    owner = stages.owners()
    size_wh = owner.shape[1], owner.shape[0]
    small = cv2.resize(stages.image, size_wh, interpolation=cv2.INTER_AREA)
    colors = small.reshape(-1, 3).astype(np.float64)
    for index in range(len(stages.instances)):
        colors[owner.ravel() == index] = instance_color(index)
    return colors


def _css(color: Any) -> str:
    red, green, blue = (int(value) for value in color)
    return f'rgb({red},{green},{blue})'
