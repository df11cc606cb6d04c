"""Draw what becomes of one image, one label and one checkpoint, on a rendered scene.

python docs/figures/data_flow.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

import cuts3d_mm
from cuts3d_mm.algorithm.confidence import LOWER_BOUND
from cuts3d_mm.algorithm.cut_instances import Instance
from cuts3d_mm.arrays import Mask
from cuts3d_mm.scenes.rendering import Scene, render_scenes
from cuts3d_mm.visualization.overlays import draw_instances
from cuts3d_mm.visualization.pictures import save_figure

_PICTURES = Path(__file__).parents[1] / 'pictures'
_SCENE = 10  # two balls that touch
_PANEL_INCHES, _DPI = 2.6, 100
_STEPS = (  # position in columns and rows, name, what it holds
    (0, 0, 'images', 'a folder'),
    (1, 0, 'label store', 'masks, confidence'),
    (2, 0, 'iter_N.pth', 'weights, optimizer, seeds'),
    (3, 0, 'release', 'model.safetensors\nconfig.json, README.md'),
    (2, 1, 'predictions', 'labels by the detector'),
    (1, 1, 'merged labels', 'of the next round'),
)
_ARROWS = (
    ((0, 0), (1, 0), 'generate'),
    ((1, 0), (2, 0), 'train'),
    ((2, 0), (3, 0), 'publish'),
    ((2, 0), (2, 1), 'predict'),
    ((2, 1), (1, 1), 'merge-labels'),
    ((1, 1), (2, 0), 'train'),
)


def main() -> None:
    """Write the three pictures."""
    scene = render_scenes(_SCENE + 1)[_SCENE]
    generator = cuts3d_mm.load_generator('cuts3d_color-texture_file-depth')
    instances = generator.predict(scene.image, depth=scene.depth)
    parted = max(instances, key=lambda one: (one.semantic_mask != one.patches).sum())
    figures = {
        'flow_image': draw_image_flow(scene, parted, [one.mask for one in instances]),
        'flow_label': draw_label_flow(scene, parted),
        'flow_checkpoint': draw_checkpoint_flow(),
    }
    for name, figure in figures.items():
        save_figure(_PICTURES / f'{name}.png', figure, _DPI)


def draw_image_flow(scene: Scene, instance: Instance, masks: list[Mask]) -> Figure:
    """From an image to its row, in two rows of four panels."""
    panels = {
        'image': scene.image,
        'depth, larger is farther': scene.depth,
        'eigenvector of the patches': instance.eigenvector,
        'cut in 2D': instance.semantic_mask,
        'cut in 3D': instance.patches,
        'confidence': instance.confidence,
        'refined to the image': draw_instances(scene.image, [instance.mask]),
        'all instances, as stored': draw_instances(scene.image, masks),
    }
    return _panels(panels, scene.image.shape[:2], 2)


def draw_label_flow(scene: Scene, instance: Instance) -> Figure:
    """From a stored label to its weights in a loss."""
    full = cv2.resize(instance.confidence, scene.image.shape[1::-1])
    weight = np.where(instance.mask, np.maximum(full, LOWER_BOUND), 1.0)
    rows, columns = np.nonzero(instance.mask)
    box = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
    panels = {
        'mask at image size': draw_instances(scene.image, [instance.mask]),
        'confidence per patch': instance.confidence,
        f'weight, at least {LOWER_BOUND}': weight,
        'weight of the 28 x 28 target': cv2.resize(weight[box], (28, 28)),
    }
    return _panels(panels, scene.image.shape[:2], 1)


def draw_checkpoint_flow() -> Figure:
    """From images to a release, with a round of self-training."""
    figure = Figure(figsize=(4 * _PANEL_INCHES, 3.4))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-0.45, 3.45), ylim=(-1.4, 0.4))
    axes.axis('off')
    for column, row, name, content in _STEPS:
        box = FancyBboxPatch(
            (column - 0.28, -row - 0.25), 0.56, 0.5, boxstyle='round,pad=0.02', fc='#e6f2f1'
        )
        axes.add_patch(box)
        axes.text(column, -row + 0.1, name, ha='center', va='center', weight='bold')
        axes.text(column, -row - 0.1, content, ha='center', va='center', size=7)
    for start, end, name in _ARROWS:
        _draw_arrow(axes, start, end, name)
    return figure


def _draw_arrow(axes: Any, start: tuple[int, int], end: tuple[int, int], name: str) -> None:
    step = np.sign(np.subtract(end, start)) * (0.31, 0.28)
    first, last = np.add(start, step), np.subtract(end, step)
    axes.annotate(
        '', last * (1, -1), first * (1, -1), arrowprops={'arrowstyle': '->', 'color': '#555555'}
    )
    middle = (first + last) / 2 * (1, -1)
    white = {'facecolor': 'white', 'edgecolor': 'none', 'pad': 2}
    axes.text(*middle, name, ha='center', va='center', size=8, color='#00695c', bbox=white)


def _panels(panels: dict[str, Any], image_hw: tuple[int, ...], num_rows: int) -> Figure:
    columns = len(panels) // num_rows
    height = _PANEL_INCHES * image_hw[0] / image_hw[1] + 0.3
    figure = Figure(figsize=(columns * _PANEL_INCHES, num_rows * height), layout='constrained')
    for index, (title, pixels) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(num_rows, columns, index)
        axes.set_title(title, size=9)
        axes.imshow(pixels, cmap='viridis', interpolation='nearest', aspect='auto')
        axes.set_axis_off()
    return figure


if __name__ == '__main__':
    main()
