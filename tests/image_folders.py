"""Image folders on disk for tests of the whole pipeline, and small generator configs."""

from __future__ import annotations

import numpy as np
from drawn import photo
from PIL import Image

FEATURES = {'type': 'cuts3d_mm.ColorTextureFeatures'}
MASKCUT = {
    'type': 'cuts3d_mm.PseudoLabelGenerator',
    'features': FEATURES,
    'recipe': {'preset': 'maskcut'},
    'input_hw': (96, 128),
}


def cuts3d_model(depth_folder):
    depth = {'type': 'cuts3d_mm.DepthFromFile', 'root': str(depth_folder)}
    return {**MASKCUT, 'depth': depth, 'recipe': {'preset': 'cuts3d'}}


def write_images(folder, count, rng, image_hw=(60, 88)):
    """Images in two folders, every second one of the same name as another."""
    names = []
    for index in range(count):
        name = f'{"ab"[index % 2]}/{index // 2:03d}.png'
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(rng, image_hw)).save(path)
        names.append(name)
    return sorted(names)


def write_depths(folder, names, rng):
    for name in names:
        path = (folder / name).with_suffix('.npy')
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = np.mgrid[:30, :44][1]
        depth = np.where(columns < 22, 1.0, 3.0) + 0.01 * rng.standard_normal((30, 44))
        np.save(path, depth.astype(np.float32))


def annotations_of(names, image_hw):
    """COCO annotations by people: a rectangle in each image, of two classes by turns."""
    images = [
        {'id': number, 'file_name': name, 'height': image_hw[0], 'width': image_hw[1]}
        for number, name in enumerate(names)
    ]
    annotations = [
        {'id': n + 1, 'image_id': n, 'category_id': 1 + n % 2, 'iscrowd': 0, 'area': 1200.0,
         'bbox': [10, 10, 40, 30], 'segmentation': [[10, 10, 50, 10, 50, 40, 10, 40]]}
        for n in range(len(names))
    ]  # fmt: skip
    classes = [{'id': 1, 'name': 'person'}, {'id': 2, 'name': 'bicycle'}]
    return {'images': images, 'annotations': annotations, 'categories': classes}
