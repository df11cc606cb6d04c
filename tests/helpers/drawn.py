"""Drawn worlds with known answers, folders and stores of them.

Nothing is square, so that swapped sizes show.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from cuts3d_mm.algorithm.affinity import no_links, write_links
from cuts3d_mm.algorithm.cut_instances import cut_patches, link_image
from cuts3d_mm.labels.record import ImageRecord, encode_instance
from cuts3d_mm.labels.store import SCHEMA, write_shard

GRID_HW = (18, 26)


def cut_on_grid(features, depth, params, similarity='cosine'):
    """Cut an image whose masks stay on the patch grid."""
    return cut_patches(link_image(features, depth, params, similarity), params)


def pack_links(links):
    """Pack (N, N) symmetric links, 1 = linked."""
    packed = no_links(len(links))
    write_links(packed, links.astype(bool), 0, 0)
    return packed


def disc(center_yx, radius, grid_hw=GRID_HW):
    rows, columns = np.mgrid[: grid_hw[0], : grid_hw[1]]
    return (rows - center_yx[0]) ** 2 + (columns - center_yx[1]) ** 2 <= radius**2


def two_touching_discs():
    """Two discs of one class that touch in 2D: left one near, right one far."""
    left, right = disc((9, 8), 5.3), disc((9, 17), 5.3)
    return left & ~right, right


def features_of(labels, rng, noise=0.5, channels=48):
    """(h, w, C) features: one direction per label, at right angles, plus noise."""
    random = rng.standard_normal((channels, labels.max() + 1))
    directions = np.linalg.qr(random)[0].T * np.sqrt(channels)
    features = directions[labels] + noise * rng.standard_normal((*labels.shape, channels))
    return features.astype(np.float32)


def touching_world(rng):
    """Features in which the discs are one class, depth in which they are two."""
    left, right = two_touching_discs()
    labels = (left | right).astype(int)
    depth = np.full(GRID_HW, 0.9)
    depth[left], depth[right] = 0.1, 0.55
    depth += 0.004 * rng.standard_normal(GRID_HW)
    return features_of(labels, rng), depth.astype(np.float32), left, right


def photo(rng, image_hw=(90, 130)):
    """A (H, W, 3) uint8 picture with two coloured discs on a gradient."""
    rows, columns = np.mgrid[: image_hw[0], : image_hw[1]]
    image = np.stack([rows, columns, rows + columns], axis=-1) * 0.3 + 60
    image[disc((image_hw[0] * 0.5, image_hw[1] * 0.3), 22, image_hw)] = (220, 60, 40)
    image[disc((image_hw[0] * 0.5, image_hw[1] * 0.65), 22, image_hw)] = (215, 64, 44)
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def iou(first, second):
    return (first & second).sum() / max((first | second).sum(), 1)


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


COLORS = ((220, 60, 40), (40, 90, 230), (60, 200, 60))  # of discs


def write_colored_discs(folder, count, rng, turn=0):
    """Images with a red, a blue and a green disc, in each so many places on; their labels."""
    (folder / 'images').mkdir()
    masks = [disc((30, 30 + 60 * place), 20, (60, 180)) for place in range(3)]
    instances, records = tuple(encode_instance(mask, None, 0.5) for mask in masks), []
    for number in range(count):
        pixels = np.full((60, 180, 3), 110) + rng.normal(0, 4, (60, 180, 3))
        for place, mask in enumerate(masks):
            pixels[mask] = np.array(COLORS[(place + turn * number) % 3]) + rng.normal(0, 4, 3)
        name = f'{number}.png'
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / 'images' / name)
        records.append(ImageRecord(name, (60, 180), instances))
    return records


STORE_GRID_HW = (6, 9)


def write_labelled_images(folder, counts=(2, 1, 3, 0), image_hw=(60, 90), seed=0):
    """Images with so many coloured discs each; labels with confidence; one failure at the end."""
    rng = np.random.default_rng(seed)
    (folder / 'images').mkdir(parents=True)
    (folder / 'labels').mkdir()
    records = []
    for number, count in enumerate(counts):
        name = f'{number:03d}.png'
        image = np.full((*image_hw, 3), 40 + 10 * number, np.uint8)
        instances = []
        for index in range(count):
            center = image_hw[0] * 0.5, image_hw[1] * (index + 0.5) / count
            mask = disc(center, 11, image_hw)
            image[mask] = rng.integers(90, 255, 3)
            patch_mask = disc((2.5, 9 * (index + 0.5) / count - 0.5), 1.2, STORE_GRID_HW)
            confidence = np.where(patch_mask, 0.5 + 0.1 * index, 0).astype(np.float32)
            instances.append(encode_instance(mask, confidence, 0.5 + 0.1 * index))
        Image.fromarray(image).save(folder / 'images' / name)
        records.append(ImageRecord(name, image_hw, tuple(instances)))
    records.append(ImageRecord('broken.png', (0, 0), failure='cannot be read'))
    write_shard(folder / 'labels', 0, records[:2])
    write_shard(folder / 'labels', 1, records[2:])
    return records


def make_older(store):
    """Write a store again as before it said to what confidence was raised."""
    for path in store.glob('labels-*.parquet'):
        rows = pq.read_table(path).to_pylist()
        struct = SCHEMA.field('instances').type.value_type
        fields = [field for field in struct if field.name != 'lower_bound']
        instances = pa.field('instances', pa.list_(pa.struct(fields)))
        table = pa.Table.from_pylist(rows, pa.schema([*list(SCHEMA)[:-1], instances]))
        pq.write_table(table.replace_schema_metadata(pq.read_schema(path).metadata), path)


def dataset_config(folder, pipeline=(), **changes):
    """Config of a `PseudoLabelDataset` on such a folder."""
    return {
        'type': 'cuts3d_mm.PseudoLabelDataset',
        'data_root': str(folder),
        'ann_file': 'labels',
        'data_prefix': {'img': 'images'},
        'pipeline': list(pipeline),
        **changes,
    }


LOADING = [
    {'type': 'LoadImageFromFile', 'color_type': 'color_ignore_orientation'},
    {'type': 'cuts3d_mm.LoadPseudoLabels'},
]
