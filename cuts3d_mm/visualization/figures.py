"""Draw how an image was cut: the stages, a comparison with MaskCut, the point cloud."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from numpy.typing import NDArray

from cuts3d_mm.algorithm.cut_instances import ImageCuts, Instance
from cuts3d_mm.algorithm.depth import project_depth
from cuts3d_mm.arrays import Double, Mask, Pixels

from .overlays import draw_instances, draw_outlines, instance_color, resize_mask

_PANEL = 2.4  # width of a small panel; all lengths in inches
_GAP = 0.1
_TITLE = 0.27
_TITLE_PT = 10
_HEADING, _HEADING_PT = 0.22, 12  # a line of the title of a figure
_REASON_COLUMNS = 2  # columns that the reasons of rejected cuts have at least
_LETTERS = 'abc'
_LETTERS_PER_INCH = 12
_PALENESS = 0.8  # share of white in the image outside of a mask
_PAPER, _GREY = '#eef0f3', np.full(3, 90.0)  # background; outlines of rejected cuts
_COMPARISON_PANEL = 4.2  # width in inches
_COMPARISON_GAP, _COMPARISON_TITLE = 0.1, 0.3
_COMPARISON_TITLE_PT = 12
_POINT_PX, _MID_GREY = 3, '#7f868e'
_YAW, _PITCH = np.deg2rad(-28), np.deg2rad(24)  # angles of view of the still picture
_MARGIN = 0.04  # space around the points, as a share of their extent
_POINT_SPACINGS = 1.25  # size of a point of the still picture, in spacings of the grid


def draw_stages(image: Pixels, cuts: ImageCuts, title: str = '') -> Figure:
    """Draw all instances on the image and in space, then a row for each cut.

    Returns:
        Above, large, the image with its instances and their point cloud, with depth and
        spatial importance; for a recipe without depth, the image and its instances. Then a
        row for each instance from the eigenvector to the final mask, and two rows with the
        eigenvectors of the first cuts that were rejected, the cuts and the reasons.
    """
    return draw_recipes(image, [(title, cuts)])


def draw_recipes(image: Pixels, recipes: Sequence[tuple[str, ImageCuts]]) -> Figure:
    """Draw what recipes, by their titles, make of an image, each as `draw_stages` does."""
    sheets = [_Sheet(image, cuts, title) for title, cuts in recipes]
    widths, height = [one.width for one in sheets], max(one.height for one in sheets)
    figure = Figure(figsize=(sum(widths), height))
    parts: Any = [figure]
    if len(sheets) > 1:
        parts = figure.subfigures(1, len(sheets), width_ratios=widths, wspace=0)
    for sheet, part, (_, cuts) in zip(sheets, parts, recipes, strict=True):
        sheet.draw_on(part, height)
        _draw_summary(sheet, cuts)
        for index, instance in enumerate(cuts.instances):
            _draw_instance(sheet, index, instance)
        if cuts.rejected:
            _draw_rejected(sheet, 2 + len(cuts.instances), cuts)
    return figure


def _num_columns(cuts: ImageCuts) -> int:
    return 4 if cuts.depth is None else 5


def letters_of_rejected(cuts: ImageCuts) -> str:
    """Letters by which the figure of an image names the first cuts that were rejected."""
    return _LETTERS[: min(_num_columns(cuts) - _REASON_COLUMNS, len(cuts.rejected))]


class _Sheet:
    """Panels of an image's shape in rows under two large ones."""

    def __init__(self, image: Pixels, cuts: ImageCuts, title: str) -> None:
        self.image, self.is_3d = image, cuts.depth is not None
        self._aspect = image.shape[0] / image.shape[1]
        self.num_columns = _num_columns(cuts)
        self.width = self.num_columns * (_PANEL + _GAP) + _GAP
        letters = int(self.width * _LETTERS_PER_INCH * _TITLE_PT / _HEADING_PT)
        self._title = fill(title, letters, break_on_hyphens=False)
        num_lines = len(self._title.splitlines())
        self._top = 0.1 + _HEADING * num_lines if title else 0.0
        num_rows = 2 + len(cuts.instances) + 2 * bool(cuts.rejected)
        self._row = _PANEL * self._aspect + _TITLE
        self.height = self._top + _GAP + num_rows * self._row

    def draw_on(self, figure: FigureBase, height: float) -> None:
        """Take a figure, or a part of a figure, of a height in inches to draw on."""
        self._figure, self._size = figure, (self.width, height)
        place = {'x': _GAP / self.width, 'y': 1 - 0.1 / height, 'ha': 'left', 'va': 'top'}
        figure.suptitle(self._title, fontsize=_HEADING_PT, **place)

    def panel(self, row: float, column: int, title: str, scale: float = 1) -> Axes:
        """Axes of a panel without ticks; rows are as high as a small panel."""
        width, height = self.panel_wh(scale)
        left = _GAP + column * (_PANEL + _GAP)
        top = self._top + row * self._row + _TITLE
        total_w, total_h = self._size
        place = (left / total_w, 1 - (top + height) / total_h, width / total_w, height / total_h)
        axes = self._figure.add_axes(place)
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
        """Write lines into the rest of two rows."""
        row, column = place
        num_columns = self.num_columns - column
        axes = self.panel(row, column, '')
        box = axes.get_position()
        width = num_columns * _PANEL + (num_columns - 1) * _GAP
        below = self._row / self._size[1]
        size = width / self._size[0], box.height + below
        axes.set_position((box.x0, box.y0 - below, *size))
        axes.set_facecolor(_PAPER)
        text = '\n'.join(fill(line, int(width * _LETTERS_PER_INCH)) for line in lines)
        axes.text(0.03, 0.5, text, va='center', fontsize=_TITLE_PT, linespacing=1.5)

    def cut_out(self, mask: Mask, color: Double) -> Pixels:
        """Draw the image with a mask of patches outlined, and pale outside of the mask."""
        full = resize_mask(mask, self.image.shape[:2])
        pale = (1 - _PALENESS) * self.image + _PALENESS * 255
        picture = np.where(full[..., None], self.image, pale).astype(np.uint8)
        return draw_outlines(picture, [full], [color])


def _draw_summary(sheet: _Sheet, cuts: ImageCuts) -> None:
    found = f'{len(cuts.instances)} found'
    if cuts.rejected:
        found += f', {len(cuts.rejected)} rejected'
    drawn = draw_instances(sheet.image, [instance.mask for instance in cuts.instances])
    if cuts.depth is None:
        sheet.show((0, 0), 'image', sheet.image, scale=2)
        sheet.show((0, 2), found, drawn, scale=2)
        return
    sheet.show((0, 0), found, drawn, scale=2)
    width, height = sheet.panel_wh(2)
    axes = sheet.panel(0, 2, 'the same in space, a point per patch', 2)
    draw_cloud_from_the_side(axes, sheet.image, cuts, (height, width))
    sheet.show((0, 4), 'depth (bright: near)', cuts.depth, 'magma_r')
    if cuts.importance is None:
        sheet.show((1, 4), 'image', sheet.image)
    else:
        sheet.show((1, 4), 'spatial importance', cuts.importance, 'magma')


def _draw_instance(sheet: _Sheet, index: int, instance: Instance) -> None:
    row, color = 2 + index, instance_color(index)
    sheet.show(
        (row, 0), f'{index + 1}: eigenvector', instance.eigenvector, 'viridis', is_share=False
    )
    sheet.show((row, 1), 'its foreground', sheet.cut_out(instance.semantic_mask, color))
    cut = 'cut in 3D' if sheet.is_3d else 'connected part'
    sheet.show((row, 2), cut, sheet.cut_out(instance.patches, color))
    if sheet.is_3d:
        title = f'confidence; score {instance.score:.2f}'
        sheet.show((row, 3), title, instance.confidence, 'inferno')
    final = draw_instances(sheet.image, [instance.mask], first=index)
    sheet.show((row, 4 if sheet.is_3d else 3), 'final mask', final)


def _draw_rejected(sheet: _Sheet, row: int, cuts: ImageCuts) -> None:
    """Draw the first cuts that were rejected under their eigenvectors, and write down why."""
    shown = list(zip(letters_of_rejected(cuts), cuts.rejected, strict=False))
    for column, (letter, cut) in enumerate(shown):
        title = f'rejected {letter}'
        sheet.show((row, column), f'{title}: eigenvector', cut.eigenvector, 'viridis', False)
        sheet.show((row + 1, column), title, sheet.cut_out(cut.mask, _GREY))
    lines = [f'{letter}: {cut.reason}' for letter, cut in shown]
    if len(cuts.rejected) > len(shown):
        lines.append(f'and {len(cuts.rejected) - len(shown)} more')
    sheet.write((row, len(shown)), lines)


def _owners(cuts: ImageCuts) -> NDArray[np.int64]:
    """Index of the instance that each patch belongs to, (h, w); -1 for no instance."""
    owner = np.full(cuts.grid_hw, -1)
    for index, instance in enumerate(cuts.instances):
        owner[instance.patches] = index
    return owner


def draw_comparison(image: Pixels, flat: Sequence[Mask], cuts: ImageCuts) -> Figure:
    """Draw the masks of MaskCut, those of CutS3D and the point cloud of CutS3D."""
    panel_hw = _COMPARISON_PANEL * image.shape[0] / image.shape[1], _COMPARISON_PANEL
    total_wh = 3 * _COMPARISON_PANEL + 2 * _COMPARISON_GAP, panel_hw[0] + _COMPARISON_TITLE
    figure = Figure(figsize=total_wh)
    masks = [instance.mask for instance in cuts.instances]
    titles = 'MaskCut: cut in 2D', 'CutS3D: cut in 3D', 'CutS3D in space, a point per patch'
    for column, title in enumerate(titles):
        left = column * (_COMPARISON_PANEL + _COMPARISON_GAP) / total_wh[0]
        place = (left, 0, _COMPARISON_PANEL / total_wh[0], panel_hw[0] / total_wh[1])
        axes = figure.add_axes(place, xticks=[], yticks=[], frame_on=column == len(titles) - 1)
        axes.set_title(title, fontsize=_COMPARISON_TITLE_PT, loc='left', pad=5)
        if column < len(titles) - 1:
            axes.imshow(draw_instances(image, (flat, masks)[column]), aspect='auto')
            continue
        axes.spines[:].set_visible(False)
        draw_cloud_from_the_side(axes, image, cuts, panel_hw)
    return figure


def draw_point_cloud(image: Pixels, cuts: ImageCuts) -> Any:
    """Draw a point for each patch in space: instances in their colours, others in grey.

    Returns:
        A plotly `Figure`: x to the right, depth away from the viewer, y up, in [0, 1]; without
        depth all points lie in a plane.
    """
    from plotly import graph_objects

    x, y, z = _points(cuts).T
    owner = _owners(cuts).ravel()
    colors = _colors(image, cuts)
    colors[owner < 0] = colors[owner < 0].mean(axis=1, keepdims=True)
    css = np.array([f'rgb({r},{g},{b})' for r, g, b in colors.astype(int)])
    figure = graph_objects.Figure()
    for index in range(-1, len(cuts.instances)):
        chosen = owner == index
        figure.add_trace(
            graph_objects.Scatter3d(
                x=x[chosen].tolist(),
                y=z[chosen].tolist(),
                z=(-y[chosen]).tolist(),
                mode='markers',
                marker={'size': _POINT_PX, 'color': css[chosen].tolist()},
                name='not in an instance' if index < 0 else f'instance {index + 1}',
            )
        )
    axes = {'xaxis': 'x', 'yaxis': 'depth', 'zaxis': 'y'}
    eye = {'x': 0.5, 'y': -2.2, 'z': 0.6}
    # Readable on a light and on a dark page.
    style = {'showbackground': False, 'showticklabels': False, 'gridcolor': _MID_GREY}
    scene = {axis: {'title': {'text': text}, **style} for axis, text in axes.items()}
    figure.update_layout(
        scene={'aspectmode': 'data', 'camera': {'eye': eye}, **scene},
        margin={'l': 0, 'r': 0, 't': 0, 'b': 0},
        legend={'orientation': 'h', 'itemsizing': 'constant', 'y': 0},
        font={'color': _MID_GREY},
        paper_bgcolor='rgba(0,0,0,0)',
        height=420,
    )
    return figure


def draw_cloud_from_the_side(
    axes: Axes, image: Pixels, cuts: ImageCuts, panel_hw: tuple[float, float]
) -> None:
    """Draw the cloud as seen from above and from the side, so that steps of depth show.

    Args:
        axes: axes to draw on; their limits and background are set.
        image: the image.
        cuts: its instances and depth.
        panel_hw: height and width of the axes in inches.
    """
    height, width = image.shape[:2]
    x, y, z = (_points(cuts) - 0.5).T * np.array([[1], [height / width], [1]])
    across, away = x * np.cos(_YAW) + z * np.sin(_YAW), z * np.cos(_YAW) - x * np.sin(_YAW)
    down, away = (
        y * np.cos(_PITCH) - away * np.sin(_PITCH),
        away * np.cos(_PITCH) + y * np.sin(_PITCH),
    )
    order = np.argsort(-away, kind='stable')  # far points first, near ones over them
    points_per_unit = _fit(axes, across, down, panel_hw)
    spacing = points_per_unit / cuts.grid_hw[1]
    axes.scatter(
        across[order],
        down[order],
        s=(_POINT_SPACINGS * spacing) ** 2,
        c=_colors(image, cuts)[order] / 255,
        marker='s',
        linewidths=0,
    )


def _fit(axes: Axes, across: Double, down: Double, panel_hw: tuple[float, float]) -> float:
    """Make the points fill the axes at equal scales; return typographic points per unit."""
    extent_hw = np.ptp(down) * (1 + 2 * _MARGIN), np.ptp(across) * (1 + 2 * _MARGIN)
    inches_per_unit = min(panel_hw[0] / extent_hw[0], panel_hw[1] / extent_hw[1])
    half_h, half_w = (size / inches_per_unit / 2 for size in panel_hw)
    middle_x, middle_y = (float(v.min() + v.max()) / 2 for v in (across, down))
    axes.set(
        xlim=(middle_x - half_w, middle_x + half_w),
        ylim=(middle_y + half_h, middle_y - half_h),
        facecolor=_PAPER,
    )
    return float(72 * inches_per_unit)


def _points(cuts: ImageCuts) -> Double:
    """(N, 3) x, y and z of the patches in [0, 1]."""
    depth = np.zeros(cuts.grid_hw, np.float32) if cuts.depth is None else cuts.depth
    return project_depth(depth).astype(np.float64)


def _colors(image: Pixels, cuts: ImageCuts) -> Double:
    """(N, 3) RGB of the patches in [0, 255]: colours of their instances, or else of the image."""
    owner = _owners(cuts)
    small = cv2.resize(image, owner.shape[::-1], interpolation=cv2.INTER_AREA)
    colors = small.reshape(-1, 3).astype(np.float64)
    for index in range(len(cuts.instances)):
        colors[owner.ravel() == index] = instance_color(index)
    return colors
