"""Write a label store as a COCO JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cuts3d_mm.files.remote import Place
from cuts3d_mm.labels.coco import write_coco
from cuts3d_mm.labels.record import ImageRecord, with_safe_name
from cuts3d_mm.labels.store import read_store, shard_paths


@dataclass(frozen=True)
class Exported:
    """What was written, and what must not be."""

    num_images: int
    refused: tuple[str, ...]  # a reason for each name that leads out of the image folder


def export_store(store: Place, target: Place, as_polygons: bool = False) -> Exported:
    """Write the labelled images of a store whose names stay in the image folder.

    Args:
        store: label store.
        target: file to write.
        as_polygons: write polygons in place of run-length codes.

    Raises:
        ValueError: `store` is no label store.
    """
    shard_paths(store)  # an error names the store before anything is written
    refused: dict[str, str] = {}

    def records() -> Iterator[ImageRecord]:
        for record in read_store(store):
            checked = with_safe_name(record)
            if checked is not record and checked.failure is not None:
                refused[record.name] = checked.failure
            yield checked

    num_images = write_coco(target, records, as_polygons)
    return Exported(num_images, tuple(refused.values()))
