"""What the benchmarks run on: rendered scenes and, where given, photos with depth."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cuts3d_mm.images.listing import list_images
from cuts3d_mm.images.reading import NamedImage, read_image, resize_rgb
from cuts3d_mm.labellers.depth.files import DepthFromFile
from cuts3d_mm.labellers.features.color_texture import ColorTextureFeatures
from cuts3d_mm.scenes.rendering import render_scenes

INPUT_HW = (480, 480)


@dataclass(frozen=True)
class Sample:
    """What the recipe gets of one image."""

    name: str
    image: NDArray[np.uint8]  # (480, 480, 3) RGB
    features: NDArray[np.float32]  # (60, 60, C)
    depth: NDArray[np.float32]  # (H, W)


def parse_args(description: str | None) -> argparse.Namespace:
    """Read the command line that all benchmarks share."""
    return argument_parser(description).parse_args()


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """Parser of the options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        '--photos', type=Path, metavar='DIR', help='folder with images/ and depth/'
    )
    parser.add_argument('--num', type=int, default=4, help='photos and scenes, each (default 4)')
    return parser


def load_samples(args: argparse.Namespace) -> list[Sample]:
    """Prepare the samples; from here on one thread is used."""
    threadpool_limits(1)
    cv2.setNumThreads(1)
    pairs = [(NamedImage(s.name, s.image), s.depth) for s in render_scenes(args.num, seed=1)]
    if args.photos is not None:
        listed = list_images(args.photos / 'images')
        names = listed.names[:: max(1, len(listed.names) // args.num)][: args.num]
        photos = [NamedImage(name, read_image(listed.root / name)) for name in names]
        pairs += zip(photos, DepthFromFile(str(args.photos / 'depth'))(photos), strict=True)
    samples = []
    for named, depth in pairs:
        resized = resize_rgb(named.pixels, INPUT_HW)
        samples.append(Sample(named.name, resized, describe(resized), depth))
    return samples


def describe(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Describe 8 x 8 patches by 512 values, whose cosines cost as much as those of a ViT's keys.

    Random Fourier features (Rahimi and Recht 2007) of colour and texture.
    """
    (grid,) = ColorTextureFeatures()([image])
    frequencies = np.random.default_rng(0).standard_normal((grid.shape[-1], 256))
    angles = grid @ frequencies.astype(np.float32)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=-1)


def summarize(name: str, values: list[float], unit: str = '') -> str:
    """Median and spread of a figure."""
    low, middle, high = np.min(values), np.median(values), np.max(values)
    return f'{name:28s} median {middle:9.3f}{unit}   (min {low:.3f}, max {high:.3f})'


def mask_iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Overlap; two empty masks agree."""
    union = (first | second).sum()
    return float((first & second).sum() / union) if union else 1.0
