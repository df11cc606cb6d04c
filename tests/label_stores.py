"""Label stores with images on disk."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from drawn import disc
from PIL import Image

from cuts3d_mm.labels.record import ImageRecord, encode_instance
from cuts3d_mm.labels.store import SCHEMA, write_shard

GRID_HW = (6, 9)


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
            patch_mask = disc((2.5, 9 * (index + 0.5) / count - 0.5), 1.2, GRID_HW)
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
