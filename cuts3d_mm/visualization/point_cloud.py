"""The stages of one image in, its point cloud as a figure that can be turned out."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.algorithm.point_cloud import project_depth
from cuts3d_mm.visualization.overlays import instance_color
from cuts3d_mm.visualization.stages import Stages

_POINT_PX = 3


def draw_point_cloud(stages: Stages) -> Any:
    """Draw a point per patch where the cut sees it: instances coloured, the rest as in the photo.

    Args:
        stages: of one image; without depth all points lie in a plane.

    Returns:
        A plotly `Figure`: x to the right, depth away from the viewer, y up, in [0, 1].
    """
    from plotly import graph_objects

    grid_hw = _grid_hw(stages)
    depth = np.zeros(grid_hw, np.float32) if stages.depth is None else stages.depth
    x, y, z = project_depth(depth).T
    owner = _owners(stages, grid_hw)
    figure = graph_objects.Figure()
    for index in range(-1, len(stages.instances)):
        chosen = owner == index
        name = 'not in an instance' if index < 0 else f'instance {index + 1}'
        color: Any = _css(instance_color(index))
        if index < 0:
            color = _photo_colors(stages.image, grid_hw, chosen)
        figure.add_trace(
            graph_objects.Scatter3d(
                x=x[chosen].tolist(),
                y=z[chosen].tolist(),
                z=(-y[chosen]).tolist(),
                mode='markers',
                marker={'size': _POINT_PX, 'color': color},
                name=name,
            )
        )
    axes = {'xaxis_title': 'x', 'yaxis_title': 'depth', 'zaxis_title': 'y'}
    eye = {'x': 0.4, 'y': -1.9, 'z': 0.5}
    figure.update_layout(
        scene={'aspectmode': 'data', 'camera': {'eye': eye}, **_nested(axes)},
        margin={'l': 0, 'r': 0, 't': 0, 'b': 0},
        height=420,
    )
    return figure


def _nested(titles: dict[str, str]) -> dict[str, Any]:
    return {key.split('_')[0]: {'title': {'text': text}} for key, text in titles.items()}


def _grid_hw(stages: Stages) -> tuple[int, int]:
    if stages.depth is not None:
        return stages.depth.shape[0], stages.depth.shape[1]
    if stages.instances:
        mask = stages.instances[0].cut.mask
        return mask.shape[0], mask.shape[1]
    return 60, 60


def _owners(stages: Stages, grid_hw: tuple[int, int]) -> NDArray[np.int64]:
    """Index of the instance of each patch, -1 for none."""
    owner = np.full(grid_hw, -1)
    for index, instance in enumerate(stages.instances):
        owner[instance.cut.mask] = index
    return owner.ravel()


def _photo_colors(
    image: NDArray[np.uint8], grid_hw: tuple[int, int], chosen: NDArray[np.bool_]
) -> list[str]:
    small = cv2.resize(image, grid_hw[::-1], interpolation=cv2.INTER_AREA).reshape(-1, 3)
    return [_css(color) for color in small[chosen]]


def _css(color: Any) -> str:
    red, green, blue = (int(value) for value in color)
    return f'rgb({red},{green},{blue})'
