"""How well groups of instances match classes, and how many clicks naming them takes.

    python benchmarks/grouping.py [--photos DIR] [--scenes 60] [--cache DIR] [--groups 3 20 80 320]

Instances are the true masks of photos (DIR has `images` and `instances.json`), or of rendered
scenes with three classes, each with a shape and a texture of its own. Purity is the share of
instances whose class is that of most of their group, NMI the normalised mutual information of
groups and classes, both with 95 % intervals by the jackknife over images. A random vector for
each instance shows what groups of the same number reach by chance.

Clicks are counted for a person who sees everything: naming a group is one click and gives it the
class of most of its instances, the largest gain first; moving a wrong instance to its class is one
click. Without groups every object costs one click.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from study_data import INPUT_HW, StudyImage, cached_features

from cuts3d_mm.algorithm.grouping import embed_masks, group_vectors
from cuts3d_mm.images.reading import read_image, resize_rgb
from cuts3d_mm.labellers.embedding import describing_features
from cuts3d_mm.labellers.features.color_texture import ColorTextureFeatures
from cuts3d_mm.labels.coco_json import mask_code, read_ground_truth
from cuts3d_mm.labels.record import InstanceRecord, decode_mask
from cuts3d_mm.scenes.rendering import (
    SCENE_HW,
    SHAPES,
    WALL_Z,
    Solid,
    camera_rays,
    random_texture,
    render_solids,
)
from cuts3d_mm.visualization.charts import format_table

Index = NDArray[np.int64]
_SHARE = 0.9  # share of the objects that must have the right name


@dataclass(frozen=True)
class Instances:
    """Instances of a set: the vector, the class and the image of each."""

    vectors: NDArray[np.float32]
    classes: Index
    images: Index


def read_photos(folder: Path) -> Iterator[tuple[StudyImage, list[int]]]:
    """Photos with the masks and the classes of their objects."""
    truth = read_ground_truth(folder / 'instances.json', needs_masks=True, needs_classes=True)
    found = {info['id']: ([], []) for info in truth['images']}
    sizes = {info['id']: (info['height'], info['width']) for info in truth['images']}
    for one in truth['annotations']:
        if not one['iscrowd']:
            image_hw = sizes[one['image_id']]
            code = mask_code(one['segmentation'], image_hw)['counts']
            record = InstanceRecord((0, 0, 0, 0), 0, code, 1.0, None)
            masks, classes = found[one['image_id']]
            masks.append(decode_mask(record, image_hw))
            classes.append(one['category_id'])
    for info in truth['images']:
        masks, classes = found[info['id']]
        if masks:
            resized = resize_rgb(read_image(folder / 'images' / info['file_name']), INPUT_HW)
            image = StudyImage(info['file_name'], resized, None, np.stack(masks))
            yield image, classes


def make_scenes(count: int, seed: int = 0) -> Iterator[tuple[StudyImage, list[int]]]:
    """Scenes of three solids: each shape has a texture of its own, which varies a little."""
    rng = np.random.default_rng(seed)
    looks = [random_texture(rng, saturation=0.8) for _ in SHAPES]
    for number in range(count):
        classes = rng.integers(0, len(SHAPES), 3).tolist()
        textures = [random_texture(rng, saturation=0.15) for _ in range(2)]
        solids = []
        for place, one in zip((-1.5, 0.0, 1.5), classes, strict=True):
            size, z = rng.uniform(0.4, 0.6), rng.uniform(4, 6.5)
            center = (place * z / 4.4, size, z)
            solids.append(Solid(SHAPES[one], center, (size,) * 3, rng.uniform(0, np.pi)))
            textures.append(looks[one].vary(rng))
        assert WALL_Z > 7
        name = f'grouped_{number:03d}.png'
        scene = render_solids(solids, textures, camera_rays(SCENE_HW), rng, name, SCENE_HW)
        is_seen = scene.masks.any(axis=(1, 2))
        resized = resize_rgb(scene.image, INPUT_HW)
        image = StudyImage(name, resized, scene.depth, scene.masks[is_seen])
        yield image, [one for one, seen in zip(classes, is_seen, strict=True) if seen]


def embed(found: list[tuple[StudyImage, list[int]]], kind: str, cache: Path) -> Instances:
    """Describe all instances by the features of a kind, or at random."""
    vectors, classes, images = [], [], []
    rng = np.random.default_rng(0)
    for number, (image, names) in enumerate(found):
        if kind == 'random':
            vectors.append(rng.standard_normal((len(names), 64)).astype(np.float32))
        else:
            source = ColorTextureFeatures() if kind == 'color-texture' else None
            features = describing_features(source, cached_features(image, kind, cache))
            masks = list(image.masks.astype(bool))
            certain = [None] * len(masks)
            vectors.append(embed_masks(features, masks, certain))
        classes += names
        images += [number] * len(names)
    numbers = np.unique(classes, return_inverse=True)[1]
    return Instances(np.concatenate(vectors), numbers, np.array(images))


def counts_of(group: Index, classes: Index) -> NDArray[np.int64]:
    """(G, K) instances of each group and class."""
    counts = np.zeros((group.max() + 1, classes.max() + 1), np.int64)
    np.add.at(counts, (group, classes), 1)
    return counts


def purity(counts: NDArray[np.int64]) -> float:
    """Share of instances whose class is that of most of their group."""
    return float(counts.max(axis=1).sum() / counts.sum())


def mutual_information(counts: NDArray[np.int64]) -> float:
    """Normalised by the mean of the two entropies, as scikit-learn does."""
    joint = counts / counts.sum()
    rows, columns = joint.sum(axis=1, keepdims=True), joint.sum(axis=0, keepdims=True)
    there = joint > 0
    information = (joint[there] * np.log((joint / (rows @ columns).clip(1e-300))[there])).sum()
    entropies = sum(-(p[p > 0] * np.log(p[p > 0])).sum() for p in (rows, columns))
    return float(2 * information / entropies) if entropies else 1.0


def with_interval(measure, group: Index, instances: Instances) -> str:
    """A measure of all images, and its 95 % interval by the jackknife over images."""
    counts, numbers = counts_of(group, instances.classes), np.unique(instances.images)
    left = []
    for number in numbers:
        gone = instances.images == number
        without = counts.copy()
        np.subtract.at(without, (group[gone], instances.classes[gone]), 1)
        left.append(measure(without))
    half = 1.96 * np.sqrt((len(left) - 1) * np.var(left))
    value = measure(counts)
    return f'{value:.2f} ({max(0, value - half):.2f} to {min(1, value + half):.2f})'


def clicks_to_name(counts: NDArray[np.int64]) -> int:
    """Clicks until enough objects have the right name, the largest gains first."""
    needed = int(np.ceil(_SHARE * counts.sum()))
    gains = np.sort(counts.max(axis=1))[::-1]
    gains = gains[gains > 1]  # a gain of 1 is no more than moving the instance
    right = np.cumsum(gains)
    enough = np.flatnonzero(right >= needed)
    if len(enough):
        return int(enough[0]) + 1
    return int(len(gains) + needed - (right[-1] if len(right) else 0))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--photos', type=Path)
    parser.add_argument('--scenes', type=int, default=60)
    parser.add_argument('--cache', type=Path, default=Path('cache'))
    parser.add_argument('--groups', type=int, nargs='+', default=[3, 20, 80, 320])
    parser.add_argument('--features', nargs='+', default=['color-texture', 'random'])
    parser.add_argument('--out', type=Path, help='JSON file of the figures')
    args = parser.parse_args()
    sets = {'scenes': list(make_scenes(args.scenes))}
    if args.photos:
        sets['photos'] = list(read_photos(args.photos))
    rows = []
    for name, found in sets.items():
        for kind in args.features:
            instances = embed(found, kind, args.cache / name)
            number = len(instances.classes)
            classes = instances.classes.max() + 1
            for asked in [None, *(g for g in args.groups if g <= number)]:
                groups = group_vectors(instances.vectors, asked)
                counts, sure = counts_of(groups.group, instances.classes), groups.is_sure
                certain = replace(instances, **{k: v[sure] for k, v in vars(instances).items()})
                of_sure = (
                    purity(counts_of(groups.group[sure], certain.classes)) if sure.any() else 0
                )
                rows.append(
                    {
                        'set': f'{name}, {number} objects of {classes} classes',
                        'features': kind,
                        'groups': f'{counts.shape[0]}{" (default)" if asked is None else ""}',
                        'purity': with_interval(purity, groups.group, instances),
                        'NMI': with_interval(mutual_information, groups.group, instances),
                        'sure': f'{sure.mean():.0%}, purity {of_sure:.2f}',
                        'clicks': f'{clicks_to_name(counts)} of {int(np.ceil(_SHARE * number))}',
                    }
                )
                print(' | '.join(rows[-1].values()), flush=True)
    print(format_table(list(rows[0]), [list(row.values()) for row in rows]))
    if args.out:
        args.out.write_text(json.dumps(rows, indent=1))


if __name__ == '__main__':
    main()
