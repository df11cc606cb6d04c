"""Draw what two recipes find in one image next to each other."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from cuts3d_mm.arrays import Mask
from cuts3d_mm.visualization.overlays import draw_instances
from cuts3d_mm.visualization.point_cloud import draw_cloud_from_the_side
from cuts3d_mm.visualization.stages import Stages

_PANEL = 4.2  # width in inches
_GAP, _TITLE = 0.1, 0.3
_TITLE_PT = 12


def draw_comparison(flat: Sequence[Mask], stages: Stages) -> Figure:
    """Draw MaskCut, CutS3D and the point cloud of CutS3D.

    Args:
        flat: (H, W) masks of MaskCut.
        stages: of CutS3D on the same image.
    """
    image = stages.image
    panel_hw = _PANEL * image.shape[0] / image.shape[1], _PANEL
    total_wh = 3 * _PANEL + 2 * _GAP, panel_hw[0] + _TITLE
    figure = Figure(figsize=total_wh)
    masks = [instance.mask for instance in stages.instances]
    titles = 'MaskCut: cut in 2D', 'CutS3D: cut in 3D', 'CutS3D in space, a point per patch'
    for column, title in enumerate(titles):
        left = column * (_PANEL + _GAP) / total_wh[0]
        place = (left, 0, _PANEL / total_wh[0], panel_hw[0] / total_wh[1])
        axes = figure.add_axes(place, xticks=[], yticks=[], frame_on=column == len(titles) - 1)
        axes.set_title(title, fontsize=_TITLE_PT, loc='left', pad=5)
        if column < len(titles) - 1:
            axes.imshow(draw_instances(image, (flat, masks)[column]), aspect='auto')
            continue
        axes.spines[:].set_visible(False)
        draw_cloud_from_the_side(axes, stages, panel_hw)
    return figure
