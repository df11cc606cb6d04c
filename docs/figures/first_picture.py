"""Draw what MaskCut and CutS3D find in a photo and in a scene, readable on a phone.

python docs/figures/first_picture.py
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure

import cuts3d_mm
from cuts3d_mm.demo.photos import motorcycle
from cuts3d_mm.scenes.rendering import render_scenes
from cuts3d_mm.visualization.overlays import draw_instances
from cuts3d_mm.visualization.pictures import save_figure

_OUT = Path(__file__).parents[1] / 'pictures/first.jpg'
_SCENE = 10  # two balls that touch
_RECIPES = {'cut in 2D': 'maskcut_color-texture', 'cut in 3D': 'cuts3d_color-texture_file-depth'}
_PANEL_WH, _INCHES, _DPI, _TITLE_PT = (640, 448), 6.4, 100, 30


def main() -> None:
    """Draw a row for the photo and a row for the scene."""
    scenes = {'near': motorcycle(), 'far': [*render_scenes(_SCENE + 1)][_SCENE]}
    figure = Figure(figsize=(2 * _INCHES, 2 * _INCHES * 0.72 + 0.5), layout='constrained')
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.04, wspace=0, hspace=0)
    axes = figure.subplots(2, 2)
    for row, (larger_is, scene) in zip(axes, scenes.items(), strict=True):
        for axis, (title, config) in zip(row, _RECIPES.items(), strict=True):
            generator = cuts3d_mm.load_generator(config)
            is_flat = config.startswith('maskcut')
            depth = {} if is_flat else {'depth': scene.depth, 'larger_is': larger_is}
            found = generator.predict(scene.image, **depth)
            image = cv2.resize(scene.image, _PANEL_WH, interpolation=cv2.INTER_AREA)
            masks = [
                cv2.resize(one.mask.astype(np.uint8), _PANEL_WH, interpolation=0) > 0
                for one in found
            ]
            axis.imshow(draw_instances(image, masks))
            axis.set_axis_off()
            if row[0] is axes[0, 0]:
                axis.set_title(title, fontsize=_TITLE_PT)
    save_figure(_OUT, figure, _DPI)


if __name__ == '__main__':
    main()
