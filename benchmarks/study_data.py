"""Annotated images on the patch grid, with depth as it is, with true borders, and degraded."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from cuts3d_mm.algorithm.params import Similarity
from cuts3d_mm.images.listing import list_images
from cuts3d_mm.images.reading import NamedImage, read_image, resize_rgb
from cuts3d_mm.labellers.depth.files import DepthFromFile
from cuts3d_mm.labellers.features.color_texture import ColorTextureFeatures
from cuts3d_mm.labels.coco_json import read_ground_truth
from cuts3d_mm.scenes.rendering import render_scenes

INPUT_HW, GRID_HW = (480, 480), (60, 60)
SIMILARITY: dict[str, Similarity] = {'semantic': 'cosine', 'color-texture': 'gaussian'}
HALVES = ('choose', 'held-out')
Float = NDArray[np.float32]


@dataclass(frozen=True)
class StudyImage:
    """One image of the study."""

    name: str
    resized: NDArray[np.uint8]  # (480, 480, 3) RGB
    depth: Float  # (H, W), larger is farther
    masks: NDArray[np.uint8]  # (M, H, W) true objects

    @property
    def half(self) -> str:
        """Which half of the study it belongs to, by a hash of its name."""
        return HALVES[int(hashlib.sha256(Path(self.name).stem.encode()).hexdigest(), 16) % 2]

    @property
    def objects(self) -> Float:
        """(M, h, w) share of every patch that an object covers."""
        return np.stack(
            [
                cv2.resize(m.astype(np.float32), GRID_HW, interpolation=cv2.INTER_AREA)
                for m in self.masks
            ]
        )

    def depth_of(self, kind: str) -> Float:
        """Depth as it is ('file'), with true borders, or those degraded, see DEPTHS."""
        if kind == 'file':
            return self.depth
        flat = self._with_true_borders()
        name, _, amount = kind.removeprefix('true borders').strip(', ').partition(' ')
        return _DEGRADATIONS[name](flat, float(amount)) if name else flat

    def _with_true_borders(self) -> Float:
        """Each object flat at its median depth."""
        depth = cv2.resize(self.depth.astype(np.float32), self.masks.shape[:0:-1])
        flat = depth.copy()
        for mask in sorted(self.masks, key=lambda mask: -int(mask.sum())):  # small ones on top
            if mask.any():
                flat[mask > 0] = np.median(depth[mask > 0])
        return flat


def blur_depth(depth: Float, patches: float) -> Float:
    """Gaussian blur; a patch is 1 / 60 of the image."""
    sigma = patches * max(depth.shape) / GRID_HW[0]
    return cv2.GaussianBlur(depth, (0, 0), sigma) if sigma else depth


def _coarsen(depth: Float, side: float) -> Float:
    small = cv2.resize(depth, (int(side), int(side)), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, depth.shape[::-1])


def _add_noise(depth: Float, percent: float) -> Float:
    noise = np.random.default_rng(0).standard_normal(depth.shape).astype(np.float32)
    smooth = blur_depth(noise, 0.2)
    return depth + np.float32(percent / 100 * np.ptp(depth) / smooth.std()) * smooth


def _flatten(depth: Float, percent: float) -> Float:
    """Shrink the steps between objects against the slope of the whole map."""
    smooth = blur_depth(depth, 8)
    return smooth + np.float32(1 - percent / 100) * (depth - smooth)


_DEGRADATIONS: dict[str, Callable[[Float, float], Float]] = {
    'blur': blur_depth,
    'side': _coarsen,
    'noise': _add_noise,
    'flatter': _flatten,
}
# Blur in patches, side of the map in pixels, noise and loss of the steps in percent.
DEPTHS = (
    'file',
    'true borders',
    'true borders, blur 1',
    'true borders, blur 2',
    'true borders, side 28',
    'true borders, noise 2',
    'true borders, flatter 50',
    'true borders, flatter 80',
)


def read_photos(folder: Path) -> Iterator[StudyImage]:
    """Read `images/`, `depth/` and `instances.json` of a folder."""
    truth = read_ground_truth(folder / 'instances.json')
    listed, read_depth = list_images(folder / 'images'), DepthFromFile(str(folder / 'depth'))
    for info in truth['images']:
        image_hw = info['height'], info['width']
        masks = [
            _decode(one['segmentation'], image_hw)
            for one in truth['annotations']
            if one['image_id'] == info['id'] and not one.get('iscrowd')
        ]
        if masks:
            image = NamedImage(info['file_name'], read_image(listed.root / info['file_name']))
            resized = resize_rgb(image.pixels, INPUT_HW)
            yield StudyImage(image.name, resized, read_depth([image])[0], np.stack(masks))


def _decode(segmentation: Any, image_hw: tuple[int, int]) -> NDArray[np.uint8]:
    if isinstance(segmentation, list):  # polygons
        segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, *image_hw))
    return coco_mask.decode(segmentation)


def make_scenes(count: int, seed: int) -> Iterator[StudyImage]:
    """Render scenes with exact depth."""
    for scene in render_scenes(count, seed):
        resized = resize_rgb(scene.image, INPUT_HW)
        yield StudyImage(scene.name, resized, scene.depth, scene.masks.astype(np.uint8))


@functools.cache
def _extractor(kind: str) -> Callable[[NDArray[np.uint8]], Float]:
    """Make what maps (480, 480, 3) RGB to (60, 60, C) features."""
    if kind == 'semantic':
        from semantic_features import SemanticFeatures

        return SemanticFeatures()
    describe = ColorTextureFeatures()
    return lambda image: describe([image])[0]


def cached_features(image: StudyImage, kind: str, cache: Path) -> Float:
    """Features of an image, from the cache where it has them."""
    path = cache / kind / f'{Path(image.name).stem}.npy'
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, _extractor(kind)(image.resized))
    return np.load(path)
