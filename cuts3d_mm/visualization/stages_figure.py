"""Draw how the recipe came to the instances of one image."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cuts3d_mm.algorithm.cut_instances import Instance, RejectedCut
from cuts3d_mm.arrays import Double, Mask, Pixels
from cuts3d_mm.visualization.overlays import draw_instances, draw_outlines, instance_color
from cuts3d_mm.visualization.point_cloud import draw_cloud_from_the_side
from cuts3d_mm.visualization.stages import Stages

_PANEL = 2.4  # width of a small panel; all lengths in inches
_GAP = 0.1
_TITLE = 0.27
_TITLE_PT = 10
_REASON_COLUMNS = 2  # kept for the reasons of rejected cuts, at least
_LETTERS = 'abc'
_LETTERS_PER_INCH = 12
_PALENESS = 0.8  # off a mask
_PAPER, _GREY = '#eef0f3', np.full(3, 90.0)


def draw_stages(stages: Stages, title: str = '') -> Figure:
    """Draw all instances on the image and in space, then a row for each cut.

    Args:
        stages: of one image.
        title: over the figure, or ''.

    Returns:
        Above, large, the image with its instances and their point cloud, with depth and
        spatial importance; for a recipe without depth, the image and its instances. Then a
        row for each instance from the eigenvector to the final mask, and one of the first
        cuts that were rejected, with the reasons.
    """
    sheet = _Sheet(stages, 1 + len(stages.instances) + bool(stages.rejected), title)
    _draw_summary(sheet, stages)
    for index, instance in enumerate(stages.instances):
        _draw_instance(sheet, index, instance)
    if stages.rejected:
        _draw_rejected(sheet, 2 + len(stages.instances), stages.rejected)
    return sheet.figure


class _Sheet:
    """Panels of an image's shape in rows under two large ones."""

    def __init__(self, stages: Stages, num_rows: int, title: str) -> None:
        self.image = stages.image
        self.is_3d = stages.depth is not None
        self._aspect = stages.image.shape[0] / stages.image.shape[1]
        self.num_columns = 5 if self.is_3d else 4
        self._top = _TITLE + 0.1 if title else 0.0
        width = self.num_columns * (_PANEL + _GAP) + _GAP
        self._row = _PANEL * self._aspect + _TITLE
        self._height = self._top + _GAP + (num_rows + 1) * self._row
        self.figure = Figure(figsize=(width, self._height))
        self._size = width, self._height
        self.figure.suptitle(title, fontsize=_TITLE_PT + 2, y=1 - 0.1 / self._height, va='top')

    def panel(self, row: float, column: int, title: str, scale: float = 1) -> Axes:
        """Axes of a panel without ticks; rows are as high as a small panel."""
        width, height = self.panel_wh(scale)
        left = _GAP + column * (_PANEL + _GAP)
        top = self._top + row * self._row + _TITLE
        total_w, total_h = self._size
        place = (left / total_w, 1 - (top + height) / total_h, width / total_w, height / total_h)
        axes = self.figure.add_axes(place)
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_title(title, fontsize=_TITLE_PT, loc='left', pad=4)
        return axes

    def panel_wh(self, scale: float) -> tuple[float, float]:
        """Size of a panel; a large one is as wide as two small ones and the gap."""
        width = scale * _PANEL + (scale - 1) * _GAP
        return width, width * self._aspect

    def show(
        self,
        place: tuple[float, int],
        title: str,
        picture: NDArray[Any],
        colors: str | None = None,
        is_share: bool = True,
        scale: float = 1,
    ) -> None:
        """Show pixels, or a map of patches stretched to the shape of the image."""
        low, high = (0, 1) if is_share else (None, None)
        axes = self.panel(*place, title, scale)
        axes.imshow(picture, cmap=colors, vmin=low, vmax=high, aspect='auto')

    def write(self, place: tuple[int, int], lines: Sequence[str]) -> None:
        """Write lines into the rest of a row."""
        row, column = place
        num_columns = self.num_columns - column
        axes = self.panel(row, column, '')
        box = axes.get_position()
        width = num_columns * _PANEL + (num_columns - 1) * _GAP
        axes.set_position((box.x0, box.y0, width / self._size[0], box.height))
        axes.set_facecolor(_PAPER)
        text = '\n'.join(fill(line, int(width * _LETTERS_PER_INCH)) for line in lines)
        axes.text(0.03, 0.5, text, va='center', fontsize=_TITLE_PT, linespacing=1.5)

    def cut_out(self, mask: Mask, color: Double) -> Pixels:
        """The image, pale off a mask of patches, which is outlined."""
        size_wh = self.image.shape[1], self.image.shape[0]
        full = cv2.resize(mask.astype(np.uint8), size_wh, interpolation=cv2.INTER_NEAREST) > 0
        pale = (1 - _PALENESS) * self.image + _PALENESS * 255
        picture = np.where(full[..., None], self.image, pale).astype(np.uint8)
        return draw_outlines(picture, [full], [color])


def _draw_summary(sheet: _Sheet, stages: Stages) -> None:
    found = f'{len(stages.instances)} found'
    if stages.rejected:
        found += f', {len(stages.rejected)} rejected'
    drawn = draw_instances(stages.image, [instance.mask for instance in stages.instances])
    if stages.depth is None:
        sheet.show((0, 0), 'image', stages.image, scale=2)
        sheet.show((0, 2), found, drawn, scale=2)
        return
    sheet.show((0, 0), found, drawn, scale=2)
    width, height = sheet.panel_wh(2)
    axes = sheet.panel(0, 2, 'the same in space, a point per patch', 2)
    draw_cloud_from_the_side(axes, stages, (height, width))
    sheet.show((0, 4), 'depth (bright: near)', stages.depth, 'magma_r')
    if stages.importance is None:
        sheet.show((1, 4), 'image', stages.image)
    else:
        sheet.show((1, 4), 'spatial importance', stages.importance, 'magma')


def _draw_instance(sheet: _Sheet, index: int, instance: Instance) -> None:
    cut, row, color = instance.cut, 2 + index, instance_color(index)
    sheet.show((row, 0), f'{index + 1}: eigenvector', cut.eigenvector, 'viridis', is_share=False)
    sheet.show((row, 1), 'its foreground', sheet.cut_out(cut.semantic_mask, color))
    sheet.show((row, 2), _cut_name(sheet), sheet.cut_out(cut.mask, color))
    if sheet.is_3d:
        title = f'confidence, mean {instance.score:.2f}'
        sheet.show((row, 3), title, instance.confidence, 'inferno')
    final = draw_instances(sheet.image, [instance.mask], first=index)
    sheet.show((row, 4 if sheet.is_3d else 3), 'final mask', final)


def _draw_rejected(sheet: _Sheet, row: int, cuts: Sequence[RejectedCut]) -> None:
    """Draw the first cuts that were rejected, and write down why, in one row."""
    shown = cuts[: sheet.num_columns - _REASON_COLUMNS]
    for column, cut in enumerate(shown):
        picture = sheet.cut_out(cut.mask, _GREY)
        sheet.show((row, column), f'rejected {_LETTERS[column]}', picture)
    lines = [f'{letter}: {cut.reason}' for letter, cut in zip(_LETTERS, shown, strict=False)]
    if len(cuts) > len(shown):
        lines.append(f'and {len(cuts) - len(shown)} more')
    sheet.write((row, len(shown)), lines)


def _cut_name(sheet: _Sheet) -> str:
    return 'cut in 3D' if sheet.is_3d else 'connected part'
