"""What a row of a label store holds, and how a record becomes one and back."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from cuts3d_mm.labels.record import (
    OLDER_LOWER_BOUND,
    ConfidenceCrop,
    ImageRecord,
    InstanceRecord,
)
from cuts3d_mm.labels.record_check import check_record

_INSTANCE = pa.struct(
    [
        ('box_xywh', pa.list_(pa.float32(), 4)),  # pixels
        ('area', pa.int64()),  # pixels
        ('rle', pa.binary()),  # COCO run-length code at image size
        ('score', pa.float32()),
        ('grid_hw', pa.list_(pa.int16(), 2)),  # patches
        ('crop_xywh', pa.list_(pa.int16(), 4)),  # patches
        ('confidence', pa.binary()),  # uint8 values of the crop; null: no confidence
        # Steps of 1/255 that the values were raised to; null: an older store, which raised to 0.5
        ('lower_bound', pa.uint8()),
    ]
)
SCHEMA = pa.schema(
    [
        ('name', pa.string()),
        ('height', pa.int32()),
        ('width', pa.int32()),
        ('failure', pa.string()),  # null where the image was labelled
        ('instances', pa.list_(_INSTANCE)),
    ]
)


def row_from_record(record: ImageRecord) -> dict[str, Any]:
    """One record as a row of SCHEMA."""
    height, width = record.image_hw
    return {
        'name': record.name,
        'height': height,
        'width': width,
        'failure': record.failure,
        'instances': [_row_from_instance(instance) for instance in record.instances],
    }


def _row_from_instance(instance: InstanceRecord) -> dict[str, Any]:
    crop = instance.confidence
    return {
        'box_xywh': instance.box_xywh,
        'area': instance.area,
        'rle': instance.rle,
        'score': instance.score,
        # Not null: older pyarrow cannot read a null list of fixed size back.
        'grid_hw': (0, 0) if crop is None else crop.grid_hw,
        'crop_xywh': (0, 0, 0, 0) if crop is None else crop.crop_xywh,
        'confidence': None if crop is None else crop.values,
        'lower_bound': None if crop is None else crop.lower_bound,
    }


def record_from_row(row: dict[str, Any]) -> ImageRecord:
    """One row of SCHEMA as a record.

    Raises:
        ValueError: the row does not hold labels that can be used.
    """
    if None in (row['name'], row['height'], row['width'], row['instances']):
        raise ValueError(f'labels of {row["name"]!r}: only failure may be null')
    instances = tuple(_instance_from_row(instance) for instance in row['instances'])
    record = ImageRecord(row['name'], (row['height'], row['width']), instances, row['failure'])
    return check_record(record)


def _instance_from_row(row: dict[str, Any]) -> InstanceRecord:
    if None in (row['box_xywh'], row['area'], row['rle'], row['score']):
        raise ValueError('an instance must have a box, an area, a run-length code and a score')
    crop = None
    if row['confidence'] is not None and None in (row['grid_hw'], row['crop_xywh']):
        raise ValueError('confidence must have a grid and a crop')
    if row['confidence'] is not None:
        stored = row.get('lower_bound')  # an older store has no such column
        bound = OLDER_LOWER_BOUND if stored is None else stored
        place = tuple(row['grid_hw']), tuple(row['crop_xywh'])
        crop = ConfidenceCrop(*place, row['confidence'], bound)
    return InstanceRecord(tuple(row['box_xywh']), row['area'], row['rle'], row['score'], crop)


def check_schema(found: pa.Schema) -> None:
    """Check that a table holds rows of SCHEMA, maybe of an older one with fewer fields.

    Raises:
        ValueError: it does not.
    """
    missing = [name for name in SCHEMA.names if name not in found.names]
    if missing:
        raise ValueError(f'must have the columns {SCHEMA.names}, lacks {missing}')
    for field in list(SCHEMA)[:-1]:
        if found.field(field.name).type != field.type:
            raise ValueError(f'column {field.name} must be {field.type}')
    instances = found.field('instances').type
    if not (pa.types.is_list(instances) and pa.types.is_struct(instances.value_type)):
        raise ValueError('column instances must be a list of structs')
    theirs: dict[str, Any] = {field.name: field.type for field in instances.value_type}
    unknown = set(theirs) - {field.name for field in _INSTANCE}
    if unknown:  # also a field whose name is damaged, which would count as left out
        raise ValueError(f'instances must have no other fields, got {sorted(unknown)}')
    for field in _INSTANCE:
        if field.name == 'lower_bound' and field.name not in theirs:
            continue
        if not _is_same_type(theirs.get(field.name), field.type):
            raise ValueError(f'field {field.name} of instances must be {field.type}')


def _is_same_type(found: pa.DataType | None, wanted: pa.DataType) -> bool:
    """Compare types, not the names that the elements of lists have been given."""
    if found is None or not pa.types.is_fixed_size_list(wanted):
        return found == wanted
    return (
        pa.types.is_fixed_size_list(found)
        and found.list_size == wanted.list_size
        and found.value_type == wanted.value_type
    )
