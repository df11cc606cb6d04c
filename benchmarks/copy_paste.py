"""Training samples with copy-paste against MMDetection's pipeline, images per second.

Both load two 640 x 480 images with masks, resize, flip, pad to one size and paste; ours also
carries the confidence. One process, one thread, interleaved:

    python benchmarks/copy_paste.py
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from mmdet.registry import DATASETS
from mmengine.registry import init_default_scope
from PIL import Image

from cuts3d_mm.labels.record import ImageRecord, encode_instance
from cuts3d_mm.labels.store import write_shard
from cuts3d_mm.scenes.rendering import render_scenes

SIDES = (480, 640)
PIPELINES = {  # data set, loading of labels, copy-paste
    'MMDetection': ('MultiImageMixDataset', 'LoadAnnotations', 'mmdet.CopyPaste'),
    "our copy-paste in MMDetection's data set": (
        'MultiImageMixDataset',
        'cuts3d_mm.LoadPseudoLabels',
        'cuts3d_mm.ConfidentCopyPaste',
    ),
    'our copy-paste and data set': (
        'cuts3d_mm.MixedImagesDataset',
        'cuts3d_mm.LoadPseudoLabels',
        'cuts3d_mm.ConfidentCopyPaste',
    ),
}


def write_scenes(root: Path, count: int) -> None:
    """Scenes with their true masks as labels, confidence drawn at random."""
    rng = np.random.default_rng(0)
    records = []
    (root / 'images').mkdir()
    for scene in render_scenes(count):
        image = cv2.resize(scene.image, SIDES[::-1])
        Image.fromarray(image).save(root / 'images' / scene.name)
        instances = []
        for mask in scene.masks:
            large = cv2.resize(mask.astype(np.uint8), SIDES[::-1], interpolation=cv2.INTER_NEAREST)
            grid = cv2.resize(mask.astype(np.uint8), (60, 60), interpolation=cv2.INTER_NEAREST)
            confidence = grid * rng.uniform(0.5, 1, grid.shape)
            if large.any():
                instances.append(encode_instance(large > 0, confidence.astype(np.float32), 0.8))
        records.append(ImageRecord(scene.name, SIDES, tuple(instances)))
    write_shard(root, 0, records)


def make_dataset(root: Path, mix: str, load: str, paste: str) -> object:
    """The pipeline with one of the copy-pastes in one of the data sets."""
    options = {'with_mask': True, 'with_bbox': True} if load == 'LoadAnnotations' else {}
    inner = {
        'type': 'cuts3d_mm.PseudoLabelDataset',
        'ann_file': str(root),
        'data_prefix': {'img': str(root / 'images')},
        'pipeline': [
            {'type': 'LoadImageFromFile', 'color_type': 'color_ignore_orientation'},
            {'type': load, **options},
            {'type': 'Resize', 'scale': (800, 600), 'keep_ratio': True},
            {'type': 'RandomFlip', 'prob': 0.5},
            {'type': 'Pad', 'size': (600, 800)},
        ],
    }
    outer = [{'type': paste}, {'type': 'PackDetInputs'}]
    return DATASETS.build({'type': mix, 'dataset': inner, 'pipeline': outer})


def main() -> None:
    """Print images per second of all, and the ratio to MMDetection with its spread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument('--images', type=int, default=24)
    args = parser.parse_args()
    init_default_scope('mmdet')
    cv2.setNumThreads(1)
    rates: dict[str, list[float]] = {name: [] for name in PIPELINES}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_scenes(root, args.images)
        sets = {name: make_dataset(root, *parts) for name, parts in PIPELINES.items()}
        for number in range(args.rounds + 1):
            for name, dataset in sets.items():
                np.random.seed(number)
                start = time.process_time()
                for index in range(args.images):
                    dataset[index]
                if number:  # the first round warms up
                    rates[name].append(args.images / (time.process_time() - start))
    stock = np.array(rates['MMDetection'])
    for name, values in rates.items():
        ratios = np.array(values) / stock
        print(
            f'{name:40s}{np.median(values):8.1f} images/s, ratio {np.median(ratios):.2f} '
            f'(min {ratios.min():.2f}, max {ratios.max():.2f})'
        )


if __name__ == '__main__':
    main()
